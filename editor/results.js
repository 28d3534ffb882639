// What our nodes say: in lines as high as the text, and when they are done, their output "text".
// The editor alone shows text while a node runs, two lines of it, and forgets the output.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { isOurs, isSaid, path, rewriting, rootGraph, roomBelow, showText, textOf } from "./nodes.js";
import { isElsewhere, runOf } from "./runs.js";

const LINE_HEIGHT = 15, PADDING = 28, FEWEST_LINES = 3, MOST_LINES = 14, LETTER_WIDTH = 6.2;

app.registerExtension({
  name: "CorePersonalization.Results",

  // Before messages.js, which so has each sentence as Python says it. Nodes drawn as HTML read text as Markdown, where
  // two spaces end a line. Nothing is shown of an empty text.
  init() {
    rewriting((type, detail) => {
      const elsewhere = type === "progress_text" && !detail.ofOpenWorkflow && isElsewhere();
      return elsewhere && runOf().nodes[detail.nodeId] ? { ...detail, text: "" } : detail;
    });
    rewriting((type, detail) =>
      LiteGraph.vueNodesMode && isSaid(type, detail)
        ? { ...detail, text: detail.text.replace(/ *\n/g, "  \n") }
        : detail);
  },

  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const nodeId = String(detail.display_node ?? detail.node);
      const text = detail.output?.text?.join("\n");
      const node = path(nodeId).at(-1);
      if (!isOurs(node) || isElsewhere(detail.prompt_id)) return;
      if (text) showText(nodeId, text);
      if (detail.output?.images?.length) dropPreview(node);
    });
    api.addEventListener("progress_text", ({ detail }) => {
      if (!detail.text) return;
      const nodes = path(String(detail.nodeId));
      const shown = nodes.find((node) => node?.graph === app.canvas.graph);
      if (shown && isOurs(nodes.at(-1))) requestAnimationFrame(() => makeRoom(shown, detail.text));
    });
  },
});

// Nodes drawn as HTML would keep a run's last preview above its result, and grow by a picture. Only the editor's own
// store takes it away, by an id with that of the subgraph; without it, nothing happens.
function dropPreview(node) {
  const stores = document.getElementById("vue-app")?.__vue_app__?.config.globalProperties.$pinia?._s;
  const id = node.graph === rootGraph() ? String(node.id) : `${node.graph.id}:${node.id}`;
  if (LiteGraph.vueNodesMode) stores?.get("nodeOutput")?.revokePreviewsByLocatorId?.(id);
}

// Height once taken is kept, so that nothing moves from step to step. Text that has no room above the next node is
// scrolled.
function makeRoom(node, text) {
  const widget = textOf(node);
  if (!widget?.options) return;
  const letters = Math.max(node.size[0] / LETTER_WIDTH, 20);
  const lines = text.split("\n").reduce((sum, line) => sum + Math.max(Math.ceil(line.length / letters), 1), 0);
  const wanted = PADDING + LINE_HEIGHT * Math.min(Math.max(lines, FEWEST_LINES), MOST_LINES);
  const others = node.computeSize()[1] - (widget.roomMade ?? widget.options.getMinHeight?.() ?? 0);
  const height = Math.max(Math.min(wanted, roomBelow(node) - others), PADDING + LINE_HEIGHT * FEWEST_LINES);
  if (height <= (widget.roomMade ?? 0)) return;
  widget.roomMade = height;
  widget.options.getMinHeight = () => height;
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
  node.setDirtyCanvas(true, true);
}
