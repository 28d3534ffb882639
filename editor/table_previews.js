// Our tables are Markdown. The editor's Preview as Text has a switch for that, which no file keeps: our templates say
// among the node's properties that it shall be on.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "CorePersonalization.TablePreviews",

  loadedGraphNode(node) {
    const mode = node.widgets?.find(({ name }) => name === "preview_mode");
    if (node.properties?.core_markdown && mode) mode.value = true;
  },
});
