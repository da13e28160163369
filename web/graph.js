// Queries on ComfyUI's graph: nodes by execution id, neighbours, values of inputs.

/** The node with an execution id such as "8" or, in a subgraph, "3:8"; undefined if removed. */
export function findNode(graph, executionId) {
  const [own, ...inner] = String(executionId).split(":");
  const node = graph?.getNodeById(Number(own)) ?? undefined;
  return inner.length ? findNode(node?.subgraph, inner.join(":")) : node;
}

/** The value of the node's widget of this name; undefined if there is none. */
export function valueOf(node, name) {
  return node.widgets?.find((one) => one.name === name)?.value;
}

/** {node, slot} at the other end of an input's link, or null. */
export function sourceOf(node, name) {
  const input = node.inputs?.findIndex((one) => one.name === name) ?? -1;
  const link = input < 0 ? null : node.graph?.getLink?.(node.inputs[input].link);
  const source = link && node.graph.getNodeById(link.origin_id);
  return source ? { node: source, slot: link.origin_slot } : null;
}

/** All nodes downstream of a node, nearest first. */
export function downstream(node) {
  const found = new Set();
  let ring = [node];
  while (ring.length) {
    ring = ring.flatMap(targets).filter((one) => !found.has(one));
    ring.forEach((one) => found.add(one));
  }
  return [...found];
}

function targets(node) {
  const links = (node.outputs ?? []).flatMap((output) => output.links ?? []);
  return links
    .map((id) => node.graph.getLink(id))
    .map((link) => link && node.graph.getNodeById(link.target_id))
    .filter(Boolean);
}
