// What a node of ours refuses, or fails with, where the eye is: its sentence on the node until the next run. The editor
// alone says that something is wrong, and has the sentence in a log.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { translated } from "./messages.js";
import { isOurs, path, showText, textOf } from "./nodes.js";
import { isElsewhere } from "./runs.js";

const MARK = "✖ ";
const REFUSED = ["custom_validation_failed", "exception_during_validation", "exception_during_inner_validation"];
const OF_AN_INPUT = "exception_during_inner_validation"; // Of these the editor shows input and sentence.
const IDENTIFIER = /\b(?:[a-z\d]+(?:_[a-z\d]+)+|overwrite)\b/g;

app.registerExtension({
  name: "CorePersonalization.Errors",

  setup() {
    const queue = api.queuePrompt;
    api.queuePrompt = async function (...args) {
      clear();
      try {
        const answer = await queue.apply(this, args);
        showRefused(answer?.node_errors);
        return answer;
      } catch (error) {
        showRefused(error.response?.node_errors);
        throw error;
      }
    };

    api.addEventListener("execution_error", ({ detail }) => {
      const type = LiteGraph.registered_node_types[detail.node_type], said = detail.exception_message.trim();
      if (!isOurs(type)) return;
      const node = isElsewhere(detail.prompt_id) ? null : path(String(detail.node_id)).at(-1);
      const sentence = node ? show(String(detail.node_id), said) : said;
      told = { severity: "error", summary: (node ?? type).title, detail: sentence };
      app.extensionManager.toast.add(told);
    });
  },
});

const marked = new Set(); // Ids of nodes.
const heights = new Map(); // Node → its height before it had any text.
let told = null;

function show(nodeId, sentence) {
  const nodes = path(nodeId), text = inWords(nodes.at(-1), sentence);
  marked.add(nodeId);
  for (const node of nodes) {
    if (node && !textOf(node)) heights.set(node, node.size[1]);
  }
  showText(nodeId, MARK + text);
  return text;
}

function clear() {
  if (told) app.extensionManager.toast.remove(told);
  told = null;
  for (const node of [...marked].flatMap(path)) {
    const widget = textOf(node);
    if (!widget?.value?.startsWith(MARK)) continue;
    widget.value = "";
    if (!heights.has(node)) continue;
    node.removeWidget(widget);
    node.setSize([node.size[0], heights.get(node)]);
  }
  marked.clear();
  heights.clear();
}

// The server reports what a node raised as if it were an accident, and by an input of the node that it is connected to.
function showRefused(nodeErrors) {
  for (const [nodeId, { errors }] of Object.entries(nodeErrors ?? {})) {
    const node = path(nodeId).at(-1);
    const own = isOurs(node) ? errors.filter(({ type }) => REFUSED.includes(type)) : [];
    for (const error of own) {
      error.details = translated(error.details);
      const [, name, rest] = error.details.match(/^(\w+): (.*)$/s) ?? [];
      show(nodeId, error.details);
      if (!node.inputs?.some((slot) => slot.name === name)) continue;
      Object.assign(error, { type: OF_AN_INPUT, details: inWords(node, rest) });
      error.extra_info.input_name = name;
    }
  }
}

// Inputs by their labels in place of their names.
function inWords(node, sentence) {
  const label = (name) => node.widgets?.find((widget) => widget.name === name)?.label;
  const [, name, rest] = sentence.match(/^(\w+): (.*)$/s) ?? [];
  const start = label(name) ? `${label(name)}: ` : "";
  return start + (start ? rest : sentence).replace(IDENTIFIER, (id) => (label(id) ? `“${label(id)}”` : id));
}
