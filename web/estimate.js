// Estimates of a run before it is queued: frames, segments, memory. No DOM, no graph.

import { windowsAt } from "./windows.js";

const FACTOR = 4; // frames per keyframe after one pass of interpolation
const WHOLE = ["single clip", "sparse first", "video to video"]; // the network sees all frames
const KEYS_OF_A_WINDOW = 5; // keyframes per interpolation window, unless the node says otherwise

/**
 * Memory of one evaluation of each network: the table of nodes/host/shared/working_memory.py, which
 * comes with the definition of the Video Sampler.
 */
const networks = {};
export function useNetworks(table) {
  Object.assign(networks, table);
}

/** The number of frames that interpolation makes of `frames` keyframes; below, the inverse. */
export function interpolated(frames, passes) {
  return (frames - 1) * FACTOR ** passes + 1;
}
export function keyFrames(frames, passes) {
  return Math.ceil((frames - 1) / FACTOR ** passes) + 1;
}

/** The number of segments of `window` frames, `step` apart, that cover a video. */
function segmentsFor(frames, window, step) {
  return Math.max(0, Math.ceil((frames - window) / step)) + 1;
}

/** The segments of all passes of interpolation; windows share a keyframe with the next. */
export function interpolationSegments(keys, passes, windowKeys = 0) {
  const window = Math.max(2, windowKeys || KEYS_OF_A_WINDOW);
  let segments = 0;
  for (let pass = 0; pass < passes; pass++) {
    segments += segmentsFor(interpolated(keys, pass), window, window - 1);
  }
  return segments;
}

/** Whether the video is sampled in sliding windows. */
export function inWindows({ strategy, windows }) {
  return [strategy, windows].includes("sliding windows");
}

/** How many segments the Video Sampler samples; for sliding windows, the windows of one step. */
export function samplerSegments(given) {
  const { strategy, frames, window, context_frames, passes } = given;
  if (inWindows(given)) return given.window_schedule === "views" ? 1 : windowsAt(given).length;
  if (strategy === "prediction") return segmentsFor(frames, window, window - context_frames);
  if (strategy !== "hierarchical") return 1;
  const keys = keyFrames(frames, passes);
  return segmentsFor(keys, window, window - context_frames) + interpolationSegments(keys, passes);
}

/** The most frames that the network sees together. */
export function framesTogether(given) {
  const { strategy, frames, window } = given;
  if (given.window_schedule === "views") return frames;
  if (inWindows(given)) return Math.min(window, frames);
  if (WHOLE.includes(strategy)) return frames;
  return strategy === "hierarchical" ? Math.max(window, interpolated(KEYS_OF_A_WINDOW, 1)) : window;
}

/** Bytes of one evaluation without the weights; a cfg other than 1 doubles them. 0: unknown. */
export function workingMemory(network, { frames, width, height, cfg }) {
  if (!networks[network]) return 0;
  const { pixels, bytes, attention } = networks[network];
  const positions = frames * Math.floor(width / pixels) * Math.floor(height / pixels);
  return positions * (bytes + attention * frames) * (cfg === 1 ? 1 : 2);
}
