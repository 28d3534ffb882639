// What is rarely changed is folded away until asked for, and an input that does nothing with what is chosen is hidden:
// the server's description of an input says "advanced", and "shows", {value: names of inputs} (nodes/settings.py).
// Values stay as they are, and a connected input is always shown. What is visible is worked out each time that the
// editor asks, from values and links as they are: so loading, pasting and undoing need nothing.
import { app } from "../../scripts/app.js";
import { inLanguage, inputsOf, isOurs } from "./nodes.js";

const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";
const BUTTON = "$$core-advanced";
const ROOM_FOR_TEXT = 40, GAP = 4;
const TEXTS = {
  en: ["Show advanced inputs", "Hide advanced inputs"],
  zh: ["显示高级输入", "隐藏高级输入"],
};

app.registerExtension({
  name: "CorePersonalization.Folding",

  nodeCreated(node) {
    if (!isOurs(node) || !node.widgets?.length) return;
    const inputs = inputsOf(node);
    for (const widget of node.widgets) fold(node, widget, inputs);
    if (node.widgets.some(({ advanced }) => advanced)) addButton(node);
    keepFitting(node, inputs);
  },
});

function fold(node, widget, inputs) {
  const hidden = () => !applies(node, widget.name, inputs) && !linked(node, widget.name);
  const advanced = () => Boolean(inputs[widget.name]?.[1]?.advanced) && !linked(node, widget.name);
  // The classic canvas keeps room for widgets that are "advanced", but not for those that are "hidden".
  answer(widget, "advanced", advanced);
  answer(widget, "hidden", () => hidden() || (advanced() && !node.showAdvanced && !setting(ALWAYS)));
  // Nodes drawn as HTML fold by themselves.
  answer(widget.options, "hidden", hidden);
}

// Whether all that decide on this input have a value with which it does something.
function applies(node, name, inputs) {
  return Object.entries(inputs).every(([decider, [, options]]) => {
    if (!Object.values(options?.shows ?? {}).flat().includes(name)) return true;
    const widget = node.widgets.find((other) => other.name === decider);
    if (widget && linked(node, decider)) return true; // Its value is not known here.
    const value = widget ? String(widget.value) : linked(node, decider) ? "connected" : "";
    return options.shows[value]?.includes(name) ?? false;
  });
}

function linked(node, name) {
  return node.inputs?.some((slot) => slot.name === name && slot.link != null) ?? false;
}

// Other scripts may hide a widget, too.
function answer(object, key, compute) {
  let forced;
  const get = () => forced || compute();
  Object.defineProperty(object, key, { get, set: (value) => (forced = value), enumerable: true, configurable: true });
}

// On the classic canvas, where the editor has a right-click menu for it; nodes drawn as HTML have a button.
function addButton(node) {
  const options = { serialize: false, canvasOnly: true };
  const button = node.addWidget("button", BUTTON, null, () => node.toggleAdvanced(), options);
  button.serialize = false; // It stands last: values are saved by position.
  answer(button, "hidden", () => setting(ALWAYS) || !node.widgets.some((widget) => widget.advanced));
  const [show, hide] = inLanguage(TEXTS);
  Object.defineProperty(button, "label", { get: () => (node.showAdvanced ? hide : show), set() {} });
}

// The node grows and shrinks by what appears and goes; whatever room its user has given it stays.
function keepFitting(node, inputs) {
  let shown = heightOf(node, inputs);
  const texts = node.widgets.filter((widget) => widget.type === "customtext" && !widget.hidden).length;
  node.setSize([node.size[0], node.computeSize()[1] + ROOM_FOR_TEXT * texts]);
  const fitting = (object, name, fits = true) => {
    const called = object[name];
    object[name] = function (...args) {
      const height = node.size[1];
      const result = called?.apply(this, args);
      const now = heightOf(node, inputs);
      if (fits && now !== shown && !app.configuringGraph && !LiteGraph.vueNodesMode) {
        node.setSize([node.size[0], Math.max(height + now - shown, node.computeSize()[1])]);
        node.setDirtyCanvas(true, true);
      }
      shown = now;
      return result;
    };
  };
  for (const widget of node.widgets) {
    if (inputs[widget.name]?.[1]?.shows) fitting(widget, "callback");
  }
  fitting(node, "toggleAdvanced");
  fitting(node, "onConnectionsChange");
  fitting(node, "onConfigure", false); // Its size came with it.
}

// Of its inputs' widgets; what a run shows below them comes and goes by itself.
function heightOf(node, inputs) {
  const shown = (widget) => !(widget.hidden || (widget.advanced && !node.showAdvanced)); // Also of a collapsed node.
  const visible = node.widgets.filter((widget) => widget.name in inputs && shown(widget));
  const heights = visible.map((widget) => widget.computeSize?.()[1] ?? widget.computeLayoutSize?.(node).minHeight);
  return heights.reduce((sum, height) => sum + (height ?? LiteGraph.NODE_WIDGET_HEIGHT) + GAP, 0);
}

function setting(name) {
  return app.extensionManager?.setting?.get(name);
}
