// Animated live previews (see nodes/host/comfyui/previews.py), and previews of Load Video.
//
// Nodes 2.0 plays animated previews by itself. The classic rendering draws previews as stills on
// the canvas, but has an element for animated outputs: nodes of this pack ask for that one.

import { app } from "../../scripts/app.js";

const height = () => 220;
const playing = new WeakSet();

export function playPreviews(node) {
  playing.add(node);
  Object.defineProperty(node, "animatedImages", { get: () => true, set: () => {} });
}

/** Give the classic rendering's element the height of its still previews. */
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
 * Hide the preview of rendered videos, which are not files: the frontend would try to load one.
 * After a run, the preview of the loaded frames is shown.
 */
export function hidePreviewOfRendered(node) {
  const file = node.widgets?.find((one) => one.name === "file");
  Object.defineProperty(node, "hideOutputImages", {
    configurable: true,
    get: () => String(file?.value).startsWith("rendered: ") && !shownSelection(node),
  });
}

/** When Load Video runs again, show the whole file until the run has a new selection to show. */
export function forgetSelection(node) {
  if (node?.comfyClass !== "VideoLDM_LoadVideo" || !shownSelection(node)) return;
  const file = node.widgets?.find((one) => one.name === "file");
  file?.callback?.(file.value);
}

/** The temporary file of a run that the node shows in place of the chosen file, or null. */
export function shownSelection({ graph, id }) {
  const outputs = app.nodeOutputs?.[graph?.isRootGraph === false ? `${graph.id}:${id}` : id];
  const [shown] = outputs?.images ?? [];
  return shown?.type === "temp" ? shown : null;
}

/**
 * In workflows saved before Load Video had optional inputs, the value of the upload button follows
 * the required ones, in the place of the first optional one: remove it.
 */
export function dropUploadValue({ type, widgets_values: values }) {
  const required = 8;
  const old = type === "VideoLDM_LoadVideo" && values?.length === required + 1;
  if (old && values[required] === "image") values.pop();
}
