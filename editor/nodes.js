// What the other scripts ask of nodes.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const WIDGET = "$$node-text-preview"; // The editor's own, made with the first text of a node.

const PREVIEW = "$$canvas-image-preview", PREVIEW_HEIGHT = 230; // The editor's own, made when a picture is drawn.
const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"; // Of one pixel.
const GAP = 10;

export function isOurs(node) {
  return Boolean(node?.comfyClass?.startsWith("CoRe"));
}

export function rootGraph() {
  return app.rootGraph ?? app.graph;
}

// From the whole graph inwards: "4:2" is node 2 in the subgraph of node 4.
export function path(id) {
  let graph = rootGraph();
  return id.split(":").map((part) => {
    const node = graph?.getNodeById(Number(part));
    graph = node?.subgraph;
    return node;
  });
}

// Of a node in the workflow that is open, from the whole graph inwards; null: it is in none, such as after an undo.
export function idOf(node, graph = rootGraph(), prefix = "") {
  for (const each of graph?.nodes ?? []) {
    const found = each === node ? `${prefix}${node.id}` : each.subgraph && idOf(node, each.subgraph, `${prefix}${each.id}:`);
    if (found) return found;
  }
  return null;
}

// Whether it is in the root graph of the workflow that is open: by such an id alone, text and pictures find it.
export function isShown(node) {
  return idOf(node) === String(node.id);
}

// Of the editor: "zh" of "zh-TW", too, as the editor chooses among its own texts.
export function language() {
  return String(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en").split("-")[0];
}

// texts: by language; English for those that have none.
export function inLanguage(texts) {
  return texts[language()] ?? texts.en;
}

// The server's description of a node's inputs: [type, options], by name.
export function inputsOf(node) {
  const { required, optional } = node.constructor.nodeData?.input ?? {};
  return { ...required, ...optional };
}

// The widget that an input has its value from, and the widget's node: the node's own, or that of a node in "hosts", the
// nodes of the subgraphs around it from the outermost inwards, where it stands for the input. None: a link gives it.
export function widgetOf(node, name, hosts = []) {
  const link = node.inputs?.find((slot) => slot.widget?.name === name)?.link;
  if (link == null || !hosts.length) return [node.widgets?.find((widget) => widget.name === name), node];
  const host = hosts.at(-1);
  const outer = host.inputs.find((input) => input._subgraphSlot?.linkIds.includes(link));
  return outer ? widgetOf(host, outer.name, hosts.slice(0, -1)) : [];
}

// Has a function run after a method of an object.
export function after(object, method, then) {
  const called = object[method];
  object[method] = function (...args) {
    const result = called?.apply(this, args);
    then();
    return result;
  };
}

// The editor's widget with what a node says; none before its first text.
export function textOf(node) {
  return node?.widgets?.find(({ name }) => name === WIDGET);
}

// A button below the widgets; it keeps no value, so that those of others stay in their places. texts: by language.
export function addButton(node, name, texts, press) {
  const button = node.addWidget("button", name, null, press, { serialize: false });
  button.serialize = false;
  button.label = inLanguage(texts);
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
  return button;
}

// Changes what the editor's other parts are told, before they are: (type, detail) → detail. The last one given is first.
export function rewriting(rewrite) {
  const dispatch = api.dispatchCustomEvent;
  api.dispatchCustomEvent = function (type, detail) {
    return dispatch.call(this, type, rewrite(type, detail));
  };
}

// Whether it is a text that a node of ours says.
export function isSaid(type, detail) {
  return type === "progress_text" && isOurs(path(String(detail.nodeId)).at(-1));
}

// id: from the whole graph inwards. It is of the workflow that is open, whatever runs.
export function showText(id, text) {
  api.dispatchCustomEvent("progress_text", { nodeId: String(id), text, ofOpenWorkflow: true });
}

// On a node of the root graph, as a data URI; without one, what it showed goes. Nodes drawn as HTML show what a run
// previews, which nothing takes away again.
export async function showPicture(node, source) {
  if (!source) node.imgs = undefined;
  node.setDirtyCanvas(true, true);
  if (LiteGraph.vueNodesMode) {
    if (source && !hasRoom(node, heightWithPicture(node))) return;
    if (!source && !app.nodePreviewImages[node.id] && !app.nodeOutputs[node.id]) return;
    const blob = await (await fetch(source ?? BLANK)).blob();
    if (isShown(node)) api.dispatchCustomEvent("b_preview_with_metadata", { blob, displayNodeId: String(node.id) });
    return;
  }
  if (!source) return;
  const image = new Image();
  image.onload = () => {
    const height = Math.max(node.size[1], heightWithPicture(node));
    if (!hasRoom(node, height)) return;
    node.imgs = [image];
    node.setSize([node.size[0], height]);
    node.setDirtyCanvas(true, true);
  };
  image.src = source;
}

function hasRoom(node, height) {
  return height <= node.size[1] || height <= roomBelow(node);
}

function heightWithPicture(node) {
  const shown = node.widgets.some(({ name }) => name === PREVIEW);
  return node.computeSize()[1] + (shown ? 0 : PREVIEW_HEIGHT);
}

// How high a node may become before it lies over the next one below it.
export function roomBelow(node) {
  const [left, top] = node.pos, right = left + node.size[0];
  const below = node.graph.nodes
    .filter((other) => other !== node)
    .map(({ boundingRect }) => boundingRect)
    .filter(([x, y, width]) => x < right && left < x + width && y > top);
  return Math.min(...below.map(([, y]) => y)) - top - GAP;
}
