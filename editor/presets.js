// Inputs that fill in others: such an input of the server's has "fills", {option: {input: value}} (nodes/settings.py).
// Only a choice made by hand fills in, each time, also of the option that is chosen already. Loading, pasting and
// undoing bring their own values, through configure().
import { app } from "../../scripts/app.js";
import { after, inputsOf, isOurs } from "./nodes.js";

const OPTION = '[role="option"][data-state="checked"]';
const OPEN_LIST = '[role="combobox"][aria-expanded="true"]';

app.registerExtension({
  name: "CorePersonalization.Presets",

  // In nodes drawn as HTML a list says nothing of an option that is chosen again.
  setup() {
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
    if (!isOurs(node)) return;
    const inputs = inputsOf(node);
    for (const [name, [, options]] of Object.entries(inputs)) {
      if (options?.fills) fillOnChoice(node, name, options.fills, inputs);
    }
  },
});

function fillOnChoice(node, name, fills, inputs) {
  const preset = node.widgets.find((widget) => widget.name === name);
  let chosen = preset.value;
  preset.fillInAgain = () => fillIn(node, valuesOf(preset.value, fills, inputs));

  const configured = node.onConfigure;
  node.onConfigure = function (...args) {
    chosen = preset.value;
    return configured?.apply(this, args);
  };

  after(preset, "callback", () => {
    // The editor also calls this when nothing was chosen, as after renaming the widget.
    if (preset.value !== chosen) preset.fillInAgain();
    chosen = preset.value;
  });

  // The classic canvas calls this for every choice, and the callback only when the value is another.
  const set = preset.setValue;
  preset.setValue = function (value, ...args) {
    const again = value === preset.value;
    set?.call(this, value, ...args);
    if (again) preset.fillInAgain();
  };
}

// Of all inputs that any option names: the option's own value, or else the default.
function valuesOf(option, fills, inputs) {
  const names = Object.values(fills).flatMap(Object.keys);
  const defaults = names.map((name) => [name, inputs[name][1].default]);
  return { ...Object.fromEntries(defaults), ...fills[option] };
}

function fillIn(node, values) {
  for (const widget of node.widgets) {
    if (!(widget.name in values)) continue;
    widget.value = values[widget.name];
    widget.callback?.(widget.value, app.canvas, node);
  }
  node.setDirtyCanvas(true, true);
}
