// A player for the frames that Load Video loaded, where ComfyUI does not show them itself.
//
// Nodes 2.0 shows the whole file in the trim widget, and then none of the node's outputs.

import { api } from "../../scripts/api.js";
import { shownSelection } from "./previews.js";
import { addStillWidget, follow, grow } from "./widgets.js";

const HEIGHT = 220; // pixels
const players = new WeakMap();

/** Add the player to a Load Video; it takes no space while there is nothing to show. */
export function attachSelection(node) {
  const root = document.createElement("div");
  root.className = "videoldm-selection";
  root.style.display = "none";
  const isShown = () => root.style.display !== "none";
  addStillWidget(node, "selection", root, () => (isShown() ? HEIGHT : 0));
  players.set(node, root);
  const file = node.widgets?.find((one) => one.name === "file");
  if (file) follow(file, () => showSelection(node));
}

/** Show the frames that the node's last run loaded, or nothing. */
export function showSelection(node) {
  const root = players.get(node);
  if (!root) return;
  const trims = node.widgets?.some((one) => one.type === "videoedit");
  const shown = trims && window.LiteGraph?.vueNodesMode ? shownSelection(node) : null;
  root.style.display = shown ? "" : "none";
  root.replaceChildren(...(shown ? [player(shown)] : []));
  grow(node);
  node.setDirtyCanvas?.(true, true);
}

function player({ filename, subfolder, type }) {
  const query = new URLSearchParams({ filename, subfolder, type });
  const src = api.apiURL(`/view?${query}`);
  const plays = { controls: true, loop: true, muted: true, autoplay: true, playsInline: true };
  return Object.assign(document.createElement("video"), { src, ...plays });
}
