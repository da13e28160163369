// Live previews of our nodes are animations (see nodes/host/comfyui/previews.py).
//
// Nodes 2.0 plays them as they come. The classic rendering paints previews on the canvas, where
// nothing moves, but has an element for outputs that are animated: our nodes ask for that one.

import { app } from "../../scripts/app.js";

const height = () => 220;
const playing = new WeakSet();

export function playPreviews(node) {
  playing.add(node);
  Object.defineProperty(node, "animatedImages", { get: () => true, set: () => {} });
}

/** Make the classic rendering's element as large as its still previews are. */
export function makeRoom(node) {
  if (!playing.has(node)) return;
  const picture = node.imgs?.[0];
  const widget = picture && node.widgets?.find((one) => one.element?.contains(picture));
  if (!widget || widget.options.getMinHeight === height) return;
  widget.options.getMinHeight = height;
  const [width, now] = node.size;
  node.setSize([width, Math.max(now, node.computeSize()[1])]);
}

/**
 * What is rendered is no file: the frontend shows no preview where a node hides its images, and
 * otherwise one that cannot be loaded. After a run there is one, of what was loaded.
 */
export function hidePreviewOfRendered(node) {
  const file = node.widgets?.find((one) => one.name === "file");
  Object.defineProperty(node, "hideOutputImages", {
    configurable: true,
    get: () => String(file?.value).startsWith("rendered: ") && !shownSelection(node),
  });
}

/** Load Video runs again: the whole file is shown, unless the node then shows another selection. */
export function forgetSelection(node) {
  if (node?.comfyClass !== "VideoLDM_LoadVideo" || !shownSelection(node)) return;
  const file = node.widgets?.find((one) => one.name === "file");
  file?.callback?.(file.value);
}

/** The file that a run made and the node now shows in place of the one it has chosen, or null. */
export function shownSelection({ graph, id }) {
  const outputs = app.nodeOutputs?.[graph?.isRootGraph === false ? `${graph.id}:${id}` : id];
  const [shown] = outputs?.images ?? [];
  return shown?.type === "temp" ? shown : null;
}

/**
 * A file saved before Load Video had optional inputs holds the upload button's value behind the
 * required ones, where the first optional one stands today.
 */
export function dropUploadValue({ type, widgets_values: values }) {
  const required = 8;
  const old = type === "VideoLDM_LoadVideo" && values?.length === required + 1;
  if (old && values[required] === "image") values.pop();
}
