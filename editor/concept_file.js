// Load Concept: trigger, base model and picture of a file as soon as it is chosen.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { after, rootGraph } from "./nodes.js";

const PREVIEW = "$$canvas-image-preview", PREVIEW_HEIGHT = 230; // The editor's own, made when a picture is drawn.

app.registerExtension({
  name: "CorePersonalization.ConceptFile",

  nodeCreated(node) {
    if (node.comfyClass !== "CoReLoadConcept") return;
    for (const widget of node.widgets) {
      if (["file", "embedding_name"].includes(widget.name)) after(widget, "callback", () => look(node));
    }
    after(node, "onConfigure", () => look(node));
  },
});

async function look(node) {
  const [file, embeddingName] = ["file", "embedding_name"].map((name) => valueOf(node, name));
  const query = new URLSearchParams({ file, embedding_name: embeddingName });
  const answer = await api.fetchApi(`/core_personalization/concept?${query}`);
  if (!answer.ok || valueOf(node, "file") !== file || node.graph !== rootGraph()) return; // Text goes by a root node's id.
  const { text, picture, error } = await answer.json();
  api.dispatchCustomEvent("progress_text", { nodeId: String(node.id), text: error ?? text });
  if (picture) show(node, picture);
}

// Where there is room: a node does not grow over another one.
function show(node, picture) {
  const image = new Image();
  image.onload = () => {
    const height = Math.max(node.size[1], heightWithPicture(node));
    if (height > node.size[1] && inTheWay(node, height)) return;
    node.imgs = [image];
    node.setSize([node.size[0], height]);
    node.setDirtyCanvas(true, true);
  };
  image.src = picture;
}

function heightWithPicture(node) {
  const shown = node.widgets.some(({ name }) => name === PREVIEW);
  return node.computeSize()[1] + (shown ? 0 : PREVIEW_HEIGHT);
}

function inTheWay(node, height) {
  const [left, top] = node.pos, right = left + node.size[0], bottom = top + height;
  return node.graph.nodes.some((other) => {
    const [x, y, width, high] = other.boundingRect;
    return other !== node && x < right && left < x + width && y < bottom && top < y + high;
  });
}

function valueOf(node, name) {
  return String(node.widgets.find((widget) => widget.name === name)?.value ?? "");
}
