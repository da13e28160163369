// What a run will make and need, before it is queued: frames, clips, memory. No DOM, no graph.

const FACTOR = 4; // frames per key frame after one pass of interpolation
const KEYS_OF_A_CLIP = 5; // key frames of one clip of the interpolator

/**
 * Memory of one evaluation of the network, in bytes for each latent position of each frame.
 *
 * embedded: measured on a CPU in float32 beside the model, 25 kB with 16 frames and 50 kB with 48:
 * `attention` is what each frame that a position attends to adds. stableDiffusion: what ComfyUI
 * itself sets aside in half precision, 0.02 MiB (0.01 MiB a byte, 2 bytes, factor 1).
 */
export const NETWORKS = {
  embedded: { pixels: 4, bytes: 12000, attention: 800 },
  stableDiffusion: { pixels: 8, bytes: 20972, attention: 0 },
};

/** Frames of `frames` key frames after interpolation, and back. */
export function interpolated(frames, passes) {
  return (frames - 1) * FACTOR ** passes + 1;
}
export function keyFrames(frames, passes) {
  return Math.ceil((frames - 1) / FACTOR ** passes) + 1;
}

/** Clips that follow each other in steps of `step`, each `window` long. */
function clipsFor(frames, window, step) {
  return Math.max(0, Math.ceil((frames - window) / step)) + 1;
}

function clipsBetween(keys, passes) {
  let clips = 0;
  for (let pass = 0; pass < passes; pass++) {
    clips += clipsFor(interpolated(keys, pass), KEYS_OF_A_CLIP, KEYS_OF_A_CLIP - 1);
  }
  return clips;
}

/** How often the video sampler samples a clip; a sliding window counts as one. */
export function samplerClips({ strategy, frames, window, overlap, context_frames, passes }) {
  if (strategy === "sliding windows") return clipsFor(frames, window, window - overlap);
  if (strategy === "prediction") return clipsFor(frames, window, window - context_frames);
  if (strategy !== "hierarchical") return 1;
  const keys = keyFrames(frames, passes);
  return clipsFor(keys, window, window - context_frames) + clipsBetween(keys, passes);
}

export function interpolationClips(frames, passes) {
  return clipsBetween(frames, passes);
}

/** Frames that the network sees together. */
export function framesTogether({ strategy, frames, window }) {
  if (strategy === "single clip") return frames;
  const between = interpolated(KEYS_OF_A_CLIP, 1);
  return strategy === "hierarchical" ? Math.max(window, between) : Math.min(window, frames);
}

/** Bytes of one evaluation beside the models; guidance evaluates two prompts together. */
export function workingMemory(network, { frames, width, height, cfg }) {
  const { pixels, bytes, attention } = NETWORKS[network];
  const positions = frames * Math.floor(width / pixels) * Math.floor(height / pixels);
  return positions * (bytes + attention * frames) * (cfg === 1 ? 1 : 2);
}
