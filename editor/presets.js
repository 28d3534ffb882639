// Inputs that fill in others: such an input of the server's has "fills", {option: {input: value}} (nodes/settings.py).
// Only a choice made by hand fills in, each time, also of the option that is chosen already in the list. Loading, pasting
// and undoing bring their own values, through configure(). On a subgraph's node the input may stand for one inside.
import { app } from "../../scripts/app.js";
import { after, inputsOf, isOurs, widgetOf } from "./nodes.js";

const OPTION = '[role="option"][data-state="checked"]';
const OPEN_LIST = '[role="combobox"][aria-expanded="true"]';

app.registerExtension({
  name: "CorePersonalization.Presets",

  // In nodes drawn as HTML a list says nothing of an option that is chosen again, and a subgraph's node nothing at all.
  setup() {
    const chosenOnSubgraphs = () => setTimeout(() => {
      const hosts = app.canvas.graph?.nodes.filter((node) => node.subgraph) ?? [];
      for (const widget of hosts.flatMap(({ widgets }) => widgets)) widget.fillInIfChanged?.();
    });
    for (const event of ["click", "keyup"]) document.addEventListener(event, chosenOnSubgraphs, { capture: true });
    const chosenAgain = ({ target }) => {
      if (!target.closest?.(OPTION)) return;
      const list = document.querySelector(OPEN_LIST);
      const node = app.canvas.graph?.getNodeById(Number(list?.closest("[data-node-id]")?.dataset.nodeId));
      const label = list?.getAttribute("aria-label");
      node?.widgets?.find((widget) => (widget.label || widget.name) === label)?.fillInAgain?.();
    };
    document.addEventListener("click", chosenAgain, { capture: true });
  },

  nodeCreated(node) {
    if (node.subgraph) {
      fillInside(node);
      node.subgraph.events.addEventListener("widget-promoted", () => fillInside(node));
      after(node, "configure", () => node.widgets.forEach((widget) => widget.remember?.()));
      return;
    }
    if (!isOurs(node)) return;
    for (const preset of node.widgets ?? []) {
      if (!fillsOf(node, preset.name)) continue;
      fillOnChoice(preset, () => [{ node, name: preset.name, hosts: [] }]);
      after(node, "onConfigure", preset.remember);
    }
  },
});

// Its inputs that stand for one inside; they are made anew when it is loaded, and when another is added.
function fillInside(host) {
  for (const input of host.inputs) {
    const preset = input.widgetId && host.getWidgetFromSlot(input);
    if (!preset || preset.fillInAgain || !insideOf(host, input).length) continue;
    fillOnChoice(preset, () => insideOf(host, input));
  }
}

// What an input of a subgraph's node stands for, through all levels: [{node, name, hosts}], of those that fill in others.
function insideOf(host, input, hosts = []) {
  return (input._subgraphSlot?.linkIds ?? []).flatMap((id) => {
    const { inputNode, input: slot } = host.subgraph.getLink(id)?.resolve(host.subgraph) ?? {};
    const inside = { node: inputNode, name: slot?.widget?.name, hosts: [...hosts, host] };
    if (inputNode?.subgraph) return insideOf(inputNode, slot, inside.hosts);
    return isOurs(inputNode) && fillsOf(inputNode, inside.name) ? [inside] : [];
  });
}

function fillsOf(node, name) {
  return inputsOf(node)[name]?.[1]?.fills;
}

// targets(): the inputs that are chosen, [{node, name, hosts}].
function fillOnChoice(preset, targets) {
  let chosen = preset.value, stepping = false;
  preset.fillInAgain = () => targets().forEach((target) => fillIn(target, preset.value));

  preset.remember = () => { chosen = preset.value; };
  // The editor also calls the callback when nothing was chosen, as after renaming the widget.
  preset.fillInIfChanged = () => {
    const changed = preset.value !== chosen;
    chosen = preset.value;
    if (changed) preset.fillInAgain();
  };
  after(preset, "callback", preset.fillInIfChanged);

  // The classic canvas calls this for every choice, and the callback only when the value is another. Its arrows choose
  // the first and the last option again, too.
  around(preset, "setValue", (set, value) => {
    const again = value === preset.value && !stepping;
    set();
    if (again) preset.fillInAgain();
  });
  for (const step of ["incrementValue", "decrementValue"]) {
    around(preset, step, (called) => {
      stepping = true;
      called();
      stepping = false;
    });
  }
}

// For a widget of a subgraph's node the canvas makes one of its own class each time, and gives it what this one has.
function around(widget, method, run) {
  const called = widget[method];
  widget[method] = function (...args) {
    run(() => (called ?? Object.getPrototypeOf(this)[method])?.apply(this, args), ...args);
  };
}

// Of all inputs that any option names: the option's own value, or else the default.
function valuesOf(node, name, option) {
  const inputs = inputsOf(node), fills = fillsOf(node, name);
  const names = Object.values(fills).flatMap(Object.keys);
  const defaults = names.map((other) => [other, inputs[other][1].default]);
  return { ...Object.fromEntries(defaults), ...fills[option] };
}

function fillIn({ node, name, hosts }, option) {
  for (const [other, value] of Object.entries(valuesOf(node, name, option))) {
    const [widget, owner] = widgetOf(node, other, hosts);
    if (!widget) continue;
    widget.value = value;
    widget.callback?.(value, app.canvas, owner);
  }
  node.setDirtyCanvas(true, true);
}
