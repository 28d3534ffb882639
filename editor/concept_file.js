// Load Concept: trigger, base model and picture of a file as soon as it is chosen.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { after, isShown, showPicture, showText } from "./nodes.js";

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
  if (!answer.ok || valueOf(node, "file") !== file || !isShown(node)) return;
  const { text, picture, error } = await answer.json();
  showText(node.id, error ?? text);
  showPicture(node, picture);
}

function valueOf(node, name) {
  return String(node.widgets.find((widget) => widget.name === name)?.value ?? "");
}
