// The estimate for a node, computed by estimate.js from the values in its graph.

import * as estimate from "./estimate.js";
import { downstream, sourceOf, valueOf } from "./graph.js";
import { bytes, duration } from "./progress.js";
import { clockOf, readSegments, totalFrames } from "./timeline.js";

/** Stands in for steps 0: the browser does not know the published number. */
const USUAL_STEPS = 25;
const SETTINGS = ["width", "height", "cfg", "strategy"];
/** Settings of the chosen strategy; their widgets are called strategy.window and so on. */
const OF_STRATEGY = ["window", "overlap", "context_frames", "passes", "windows"];
/** Settings of windows: the strategy's own, or those of its choice `windows`. */
const OF_WINDOWS = ["window", "overlap", "window_schedule", "strides", "fuse"];

const FRAMES = {
  VideoLDM_VideoSampler: (node) => wired(node, "frames"),
  VideoLDM_InterpolateFrames: (node) => after(node, "latent", valueOf(node, "passes")),
  VideoLDM_UpsampleVideo: (node) => after(node, "images"),
  VideoLDM_TemporalVAEDecode: (node) => after(node, "samples"),
  VideoLDM_TemporalVAEDecodeToVideo: (node) => after(node, "samples"),
  VideoLDM_TemporalVAEEncode: (node) => after(node, "images"),
  VideoLDM_LoadVideo: (node) => valueOf(node, "count") || undefined,
  VideoLDM_LongHorizonSegments: (node) => segmentFrames(node),
};

/** The number of frames that a node outputs, undefined if the graph does not tell. */
export function framesOf(node) {
  return FRAMES[node.comfyClass]?.(node);
}

function after(node, input, passes = 0) {
  const source = sourceOf(node, input);
  const frames = source && framesOf(source.node);
  return frames && estimate.interpolated(frames, passes);
}

function wired(node, name) {
  const source = sourceOf(node, name);
  return source ? framesOf(source.node) : valueOf(node, name);
}

function segmentFrames(node) {
  const { value } = readSegments(valueOf(node, "segments") ?? "", clockOf(node));
  return value && totalFrames(value);
}

/** The parts of the status line: [text key, values] each. */
export function forecast(node) {
  const frames = framesOf(node);
  if (!frames) return [["unknownFrames", {}]];
  const long = frames === 1 ? ["oneFrame", {}] : ["framesLong", { frames }];
  const said = [long, ["plays", { time: duration(frames / rateAfter(node)) }]];
  const needs = NEEDS[node.comfyClass]?.(node, frames);
  if (needs?.segments > 1) said.push(["segments", { segments: needs.segments }]);
  if (needs?.memory) said.push(["needs", { memory: bytes(needs.memory) }]);
  return said;
}

/** The Video Sampler's settings by input name, without prefixes such as strategy. */
export function samplerSettings(node) {
  const found = Object.fromEntries([
    ...SETTINGS.map((name) => [name, valueOf(node, name)]),
    ...OF_STRATEGY.map((name) => [name, valueOf(node, `strategy.${name}`)]),
  ]);
  for (const name of OF_WINDOWS) {
    found[name] = valueOf(node, `strategy.windows.${name}`) ?? valueOf(node, `strategy.${name}`);
  }
  return found;
}

/** The settings of a Video Sampler's sliding windows; null if it uses none. */
export function windowsOf(node) {
  if (node.comfyClass !== "VideoLDM_VideoSampler") return null;
  const given = samplerSettings(node);
  const known = { ...given, frames: framesOf(node), steps: valueOf(node, "steps") || USUAL_STEPS };
  return estimate.inWindows(given) ? known : null;
}

const NEEDS = {
  VideoLDM_VideoSampler(node, frames) {
    const given = samplerSettings(node);
    const together = estimate.framesTogether({ ...given, frames });
    const network = networkOf(node);
    return {
      segments: estimate.samplerSegments({ ...given, frames }),
      memory: network && estimate.workingMemory(network, { ...given, frames: together }),
    };
  },
  VideoLDM_InterpolateFrames(node) {
    const [passes, windowKeys] = [valueOf(node, "passes"), valueOf(node, "window_keys")];
    const keys = after(node, "latent");
    return { segments: estimate.interpolationSegments(keys, passes, windowKeys) };
  },
};

/** The frame rate of the first node downstream that has one, else 15, the nodes' default. */
function rateAfter(node) {
  const rates = downstream(node).map((one) => valueOf(one, "frame_rate") ?? valueOf(one, "fps"));
  return rates.find((one) => one > 0) ?? 15;
}

/** The entry of the memory table for the network that the model input comes from; null if none. */
function networkOf(node) {
  let source = sourceOf(node, "model");
  while (source && sourceOf(source.node, "model")) source = sourceOf(source.node, "model");
  if (!source) return null;
  if (source.node.comfyClass !== "VideoLDM_LoadImageModel") return "large";
  return valueOf(source.node, "model") === "embedded" ? "small" : "large";
}
