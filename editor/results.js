// What our nodes say: in lines as high as the text, and when they are done, their output "text".
// The editor alone shows text while a node runs, two lines of it, and forgets the output.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const WIDGET = "$$node-text-preview"; // The editor's own, made with the first text of a node.
const LINE_HEIGHT = 15, PADDING = 28, MOST_LINES = 14;

app.registerExtension({
  name: "CorePersonalization.Results",

  setup() {
    api.addEventListener("progress_text", ({ detail }) => {
      const node = app.canvas.graph?.getNodeById(Number(String(detail.nodeId).split(":").pop()));
      if (isOurs(node)) requestAnimationFrame(() => makeRoom(node, detail.text));
    });
  },

  nodeCreated(node) {
    if (!isOurs(node)) return;
    const executed = node.onExecuted;
    node.onExecuted = function (output, ...rest) {
      executed?.call(this, output, ...rest);
      if (output?.text && this.graph === app.canvas.graph) {
        api.dispatchCustomEvent("progress_text", { nodeId: String(this.id), text: output.text.join("\n") });
      }
    };
  },
});

function isOurs(node) {
  return Boolean(node?.comfyClass?.startsWith("CoRe"));
}

// Height once taken is kept, so that nothing moves from step to step.
function makeRoom(node, text) {
  const widget = node.widgets?.find(({ name }) => name === WIDGET);
  if (!widget?.options) return;
  const letters = Math.max(node.size[0] / 6.2, 20);
  const lines = text.split("\n").reduce((sum, line) => sum + Math.max(Math.ceil(line.length / letters), 1), 0);
  const height = PADDING + LINE_HEIGHT * Math.min(Math.max(lines, 3), MOST_LINES);
  if (height <= (widget.roomMade ?? 0)) return;
  widget.roomMade = height;
  widget.options.getMinHeight = () => height;
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
  node.setDirtyCanvas(true, true);
}
