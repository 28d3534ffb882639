// What our nodes said when they were done, shown again in another tab or after a reload. It is kept in the browser and
// not in the workflow, which stays as it was. A node whose inputs were changed since then says nothing.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { isOurs, rootGraph } from "./nodes.js";

const STORE = "CorePersonalization.Results", MOST_KEPT = 50;
const queued = new Map(); // Prompt id → {node: its place in the store and its values}, for the tab may change meanwhile.

app.registerExtension({
  name: "CorePersonalization.KeptResults",

  setup() {
    const queuePrompt = api.queuePrompt;
    api.queuePrompt = async function (...args) {
      const nodes = Object.fromEntries([...ours()].map(([id, node]) => [id, { place: place(id), values: values(node) }]));
      const answer = await queuePrompt.apply(this, args);
      if (answer?.prompt_id) queued.set(answer.prompt_id, nodes);
      return answer;
    };
    api.addEventListener("executed", ({ detail }) => {
      const node = queued.get(detail.prompt_id)?.[detail.display_node ?? detail.node];
      const text = detail.output?.text?.join("\n");
      if (node && text) keep(node.place, { text, values: node.values });
    });
  },

  // After every loading of a graph: opened, another tab, undone.
  afterConfigureGraph() {
    const kept = read();
    for (const [nodeId, node] of ours()) {
      const result = kept[place(nodeId)];
      if (result?.values === values(node)) api.dispatchCustomEvent("progress_text", { nodeId, text: result.text });
    }
  },
});

function* ours(graph = rootGraph(), prefix = "") {
  for (const node of graph?.nodes ?? []) {
    if (isOurs(node)) yield [`${prefix}${node.id}`, node];
    if (node.subgraph) yield* ours(node.subgraph, `${prefix}${node.id}:`);
  }
}

function place(nodeId) {
  return `${rootGraph().id}/${nodeId}`;
}

function values(node) {
  const own = (node.widgets ?? []).filter(({ name, serialize }) => serialize !== false && !name.startsWith("$$"));
  return JSON.stringify(own.map(({ name, value }) => [name, value]));
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {};
  }
}

function keep(key, result) {
  const { [key]: before, ...others } = read();
  const newest = Object.entries({ ...others, [key]: result }).slice(-MOST_KEPT);
  try {
    localStorage.setItem(STORE, JSON.stringify(Object.fromEntries(newest)));
  } catch {
    localStorage.removeItem(STORE); // The browser has no room.
  }
}
