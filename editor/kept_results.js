// What our nodes said when they were done, shown again in another tab or after a reload. It is kept in the browser and
// not in the workflow, which stays as it was. A node whose inputs were changed since then says nothing.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { rootGraph, showText } from "./nodes.js";
import { ours, runOf, values } from "./runs.js";
import { store, stored } from "./stored.js";

const STORE = "CorePersonalization.Results", MOST_KEPT = 50;

app.registerExtension({
  name: "CorePersonalization.KeptResults",

  setup() {
    // The editor shows texts in the graph alone that is open: those in a subgraph when that is.
    app.canvas.canvas.addEventListener("litegraph:set-graph", ({ detail }) => {
      if (detail.newGraph !== rootGraph()) setTimeout(showKept);
    });
    api.addEventListener("executed", ({ detail }) => {
      const run = runOf(detail.prompt_id), id = detail.display_node ?? detail.node;
      const text = detail.output?.text?.join("\n");
      if (run?.nodes[id] && text) keep(keyOf(run.graph, id, run.nodes[id]), text);
    });
  },

  // After every loading of a graph: opened, another tab, undone.
  afterConfigureGraph: showKept,
});

function showKept() {
  const kept = stored(localStorage, STORE);
  for (const [id, node, hosts] of ours()) {
    const text = kept[keyOf(rootGraph().id, id, values(node, hosts))];
    if (text) showText(id, text);
  }
}

// Two workflows that one template was opened for have the same ids; what their nodes are given differs.
function keyOf(graph, id, values) {
  return `${graph}/${id} ${values}`;
}

function keep(key, text) {
  const { [key]: before, ...others } = stored(localStorage, STORE);
  const newest = Object.entries({ ...others, [key]: text }).slice(-MOST_KEPT);
  store(localStorage, STORE, Object.fromEntries(newest));
}
