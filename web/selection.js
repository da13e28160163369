// The preview in Load Video: exactly the frames that it will load, in their order and at their rate.
//
// ComfyUI plays the whole file there. The server makes a small video of the selection, with the code
// that loads it (see nodes/host/comfyui/selection_preview.py), and ComfyUI's player shows that.

import { api } from "../../scripts/api.js";
import { forgetWarnings, noteWarning } from "./notes.js";
import { previewed } from "./previews.js";
import { follow } from "./widgets.js";

const WAIT = 400; // milliseconds without a change
const WHOLE = {
  start: 0,
  count: 0,
  stride: 1,
  force_rate: 0,
  start_time: 0,
  duration: 0,
  ping_pong: false,
};
const SHAPE = ["width", "height", "fit", "multiple_of", "alpha"];
const asked = new WeakMap();

/** Let the preview follow the widgets of a Load Video. */
export function followSelection(node) {
  for (const name of ["file", ...Object.keys(WHOLE), ...SHAPE]) {
    const widget = widgetOf(node, name);
    if (widget) follow(widget, () => ask(node));
  }
}

/** Show the selection of a node from a workflow; ComfyUI shows whole files by itself. */
export function showSelection(node) {
  if (node.comfyClass !== "VideoLDM_LoadVideo") return;
  const isPart = Object.entries(WHOLE).some(([name, whole]) => valueOf(node, name) !== whole);
  if (isPart || isRendered(node)) ask(node);
}

function isRendered(node) {
  return String(valueOf(node, "file")).startsWith("rendered: ");
}

function ask(node) {
  clearTimeout(asked.get(node)?.timer);
  previewed.delete(node);
  const turn = { timer: setTimeout(() => show(node, turn), WAIT) };
  asked.set(node, turn);
}

async function show(node, turn) {
  if (isWired(node)) return; // Nobody knows the values before the run.
  const query = new URLSearchParams();
  for (const name of ["file", ...Object.keys(WHOLE), ...SHAPE]) {
    const value = valueOf(node, name);
    if (value !== undefined) query.set(name, value);
  }
  const reply = await api.fetchApi(`/videoldm/selection?${query}`);
  if (!reply.ok || asked.get(node) !== turn || !node.graph) return;
  const found = await reply.json();
  forgetWarnings(node);
  if (found.error) {
    noteWarning(node, found.error);
    return;
  }
  previewed.add(node);
  const { filename, subfolder, type } = found;
  const output = { images: [{ filename, subfolder, type }], animated: [true] };
  // As after a run, so that both renderings show it in their own way.
  const id = String(node.id);
  api.dispatchCustomEvent("executed", { node: id, display_node: id, output, prompt_id: "" });
}

function isWired(node) {
  const names = new Set(["file", ...Object.keys(WHOLE)]);
  return (node.inputs ?? []).some((one) => names.has(one.name) && one.link != null);
}

function widgetOf(node, name) {
  return node.widgets?.find((one) => one.name === name);
}

function valueOf(node, name) {
  return widgetOf(node, name)?.value ?? WHOLE[name];
}
