// What the other scripts ask of nodes.
import { app } from "../../scripts/app.js";

export const WIDGET = "$$node-text-preview"; // The editor's own, made with the first text of a node.

export function isOurs(node) {
  return Boolean(node?.comfyClass?.startsWith("CoRe"));
}

export function rootGraph() {
  return app.rootGraph ?? app.graph;
}

// From the whole graph inwards: "4:2" is node 2 in the subgraph of node 4.
export function path(id) {
  let graph = rootGraph();
  return id.split(":").map((part) => {
    const node = graph?.getNodeById(Number(part));
    graph = node?.subgraph;
    return node;
  });
}

// The server's description of a node's inputs: [type, options], by name.
export function inputsOf(node) {
  const { required, optional } = node.constructor.nodeData?.input ?? {};
  return { ...required, ...optional };
}

// Has a function run after a method of an object.
export function after(object, method, then) {
  const called = object[method];
  object[method] = function (...args) {
    const result = called?.apply(this, args);
    then();
    return result;
  };
}
