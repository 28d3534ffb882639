// Selectively Informative Captions: the captions that were made become the text of the table, to be edited there.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addButton, path } from "./nodes.js";
import { isElsewhere } from "./runs.js";

const NODE = "CoReSelectiveCaption";
const EDIT = { en: "Edit these captions", zh: "编辑这些描述" };
const made = new WeakMap(); // Node → its captions, a line each.

app.registerExtension({
  name: "CorePersonalization.CaptionTable",

  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const node = path(String(detail.display_node ?? detail.node)).at(-1);
      if (node?.comfyClass !== NODE || !detail.output?.text || isElsewhere(detail.prompt_id)) return;
      made.set(node, detail.output.text.join("\n"));
      node.widgets.find(({ name }) => name === "edit_captions").disabled = false;
      node.setDirtyCanvas(true, true);
    });
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const button = addButton(node, "edit_captions", EDIT, () => {
      const table = node.widgets.find(({ name }) => name === "own_captions");
      table.value = made.get(node) ?? table.value;
      table.callback?.(table.value);
      node.setDirtyCanvas(true, true);
    });
    button.disabled = true; // Until there are some.
  },
});
