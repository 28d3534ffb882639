// Which workflow a run is of: another may be open by the time that it says something, with other nodes of the same ids.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { isOurs, rootGraph, widgetOf } from "./nodes.js";
import { store, stored } from "./stored.js";

const STORE = "CorePersonalization.Runs", MOST_KEPT = 20;
const MOMENT = 300; // In milliseconds: by then the editor says of which workflow a graph is that it has opened.

// Prompt id → {graph: the root graph's id, nodes: {id: values}}; as long as the server knows this tab, also after a reload.
const before = stored(sessionStorage, STORE), queued = new Map(before.runs);
const workflows = new WeakMap(); // Of these, the editor's own record of the workflow: several may have one graph id.
let running = before.running, openedAt = 0;

app.registerExtension({
  name: "CorePersonalization.Runs",

  beforeConfigureGraph: noteOpening,
  afterConfigureGraph: noteOpening,

  setup() {
    const queuePrompt = api.queuePrompt;
    api.queuePrompt = async function (...args) {
      const graph = rootGraph().id, workflow = opened();
      const nodes = Object.fromEntries([...ours()].map(([id, node, hosts]) => [id, values(node, hosts)]));
      const answer = await queuePrompt.apply(this, args), run = { graph, nodes };
      if (answer?.prompt_id) {
        workflows.set(run, workflow);
        queued.set(answer.prompt_id, run);
        keep();
      }
      return answer;
    };
    api.addEventListener("execution_start", ({ detail }) => {
      running = detail.prompt_id;
      keep();
    });
  },
});

// Without an id, the run that is going on.
export function runOf(promptId = running) {
  return queued.get(promptId);
}

export function isElsewhere(promptId = running) {
  const run = runOf(promptId);
  if (!run) return false;
  const workflow = workflows.get(run);
  if (run.graph !== rootGraph().id || Date.now() - openedAt < MOMENT) return true;
  return Boolean(workflow) && workflow !== opened();
}

function noteOpening() {
  openedAt = Date.now();
}

function opened() {
  return app.extensionManager?.workflow?.activeWorkflow;
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

function keep() {
  for (const id of [...queued.keys()].slice(0, -MOST_KEPT)) queued.delete(id);
  store(sessionStorage, STORE, { runs: [...queued], running });
}
