// Which workflow a run is of: another may be open by the time that it says something, with other nodes of the same ids.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { isOurs, rootGraph, widgetOf } from "./nodes.js";

const queued = new Map(); // Prompt id → {graph: the root graph's id, nodes: {id: values}}.
let running = null;

app.registerExtension({
  name: "CorePersonalization.Runs",

  setup() {
    const queuePrompt = api.queuePrompt;
    api.queuePrompt = async function (...args) {
      const graph = rootGraph().id;
      const nodes = Object.fromEntries([...ours()].map(([id, node, hosts]) => [id, values(node, hosts)]));
      const answer = await queuePrompt.apply(this, args);
      if (answer?.prompt_id) queued.set(answer.prompt_id, { graph, nodes });
      return answer;
    };
    api.addEventListener("execution_start", ({ detail }) => (running = detail.prompt_id));
  },
});

// Without an id, the run that is going on.
export function runOf(promptId = running) {
  return queued.get(promptId);
}

export function isElsewhere(promptId) {
  const run = runOf(promptId);
  return Boolean(run) && run.graph !== rootGraph().id;
}

// Nodes of ours, with their ids from the whole graph inwards, and the nodes of the subgraphs around them.
export function* ours(graph = rootGraph(), prefix = "", hosts = []) {
  for (const node of graph?.nodes ?? []) {
    if (isOurs(node)) yield [`${prefix}${node.id}`, node, hosts];
    if (node.subgraph) yield* ours(node.subgraph, `${prefix}${node.id}:`, [...hosts, node]);
  }
}

// Of a node's inputs, as text: an input that a subgraph's node shows has its value there.
export function values(node, hosts) {
  const own = (node.widgets ?? []).filter(({ name, serialize }) => serialize !== false && !name.startsWith("$$"));
  return JSON.stringify(own.map(({ name }) => [name, widgetOf(node, name, hosts)[0]?.value]));
}
