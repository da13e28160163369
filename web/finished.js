// Which windows of a video are cached, and which a change of the workflow would sample again.
//
// `found` is the output of the last run: {frames, continued, windows: [[first, last, step, level,
// there]], pictures, nodes}. Frames are those of the whole video; `nodes` are the nodes that made
// it, in API format. A state is what the video depends on: {segments, seed, frames, others}.

import { spans, totalFrames } from "./timeline.js";

const SEGMENTS = "VideoLDM_LongHorizonSegments";

/**
 * What a sampler's video depends on besides the segments: its seed, its number of frames (null:
 * that of the segments), and, as a string, all other inputs of it and of the nodes upstream.
 */
export function stateOf(nodes, sampler) {
  const { seed, frames, ...inputs } = nodes[sampler]?.inputs ?? {};
  const [others, waiting] = [{}, [inputs]];
  while (waiting.length) {
    for (const [id] of Object.values(waiting.pop()).filter(isLink)) {
      if (id in others || id === sampler || !nodes[id]) continue;
      others[id] = nodes[id].class_type;
      const { segments, frames: _, frame_rate: __, ...more } = nodes[id].inputs;
      const seen = others[id] === SEGMENTS ? more : nodes[id].inputs;
      others[id] = [others[id], sorted(seen)];
      waiting.push(seen);
    }
  }
  const kind = nodes[sampler]?.class_type;
  const own = { seed, frames: isLink(frames) ? null : frames };
  return { ...own, others: JSON.stringify([kind, sorted(inputs), sorted(others)]) };
}

function isLink(value) {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === "string";
}

/** Entries sorted by name, without valueless widgets such as the frontend's previews. */
function sorted(entries) {
  const present = Object.entries(entries).filter(([, value]) => (value ?? null) !== null);
  return present.sort(([a], [b]) => (a < b ? -1 : 1));
}

/** A key for each frame, from its prompts, their weights and its seed. */
function frameKeys({ segments, seed = "" }, frames) {
  const all = spans(segments);
  let last = seed;
  const seeds = segments.map((one) => (last = one.seed ?? last));
  return Array.from({ length: frames }, (_, frame) => {
    const over = segments.flatMap((one, k) => {
      const { start, stop } = all[k];
      return frame >= start && frame < stop ? [k] : [];
    });
    const parts = over.map((k) => [segments[k].prompt, over.length > 1 ? all[k].start : ""]);
    const begun = all.findLastIndex(({ start }) => start <= frame);
    return JSON.stringify([parts, seeds[begun] ?? ""]);
  });
}

/**
 * For each window, whether it would be sampled again, given the state of the last run (`was`) and
 * the present one: if it has a frame whose prompt or seed changed, continues such a window, or lies
 * between keyframes of one. Any other change affects all windows, except that a video of windows
 * that continue each other may become longer.
 */
export function outdatedWindows(found, was, now) {
  const { frames, continued, windows } = found;
  if (was.others !== now.others) return windows.map(() => true);
  const isWhole = continued === null || continued === undefined;
  if (isWhole && length(was) !== length(now)) return windows.map(() => true);
  const [before, after] = [frameKeys(was, frames), frameKeys(now, frames)];
  const differs = before.map((one, frame) => one !== after[frame]);
  const again = windows.map(([first, last, step]) => sees(differs, first, last, step));
  const chain = windows.flatMap(([, , , level], k) => (level === continued ? [k] : []));
  const begun = chain.findIndex((k) => again[k]);
  if (begun < 0) return again;
  chain.slice(begun).forEach((k) => (again[k] = true));
  // A continuing window begins with the last frames of the previous one, which stay.
  const [first, , step] = windows[chain[begun]];
  const from = begun === 0 ? first : windows[chain[begun - 1]][1] + step;
  return again.map((one, k) => one || (windows[k][3] !== continued && windows[k][1] >= from));
}

function length({ frames, segments }) {
  return frames ?? totalFrames(segments);
}

function sees(differs, first, last, step) {
  for (let frame = first; frame <= last; frame += step) if (differs[frame]) return true;
  return false;
}

/** [text key, values] that sum up the windows. */
export function summary(found, again) {
  const windows = found.windows.length;
  const values = { windows, there: found.windows.filter((one) => one[4]).length };
  const count = again.filter(Boolean).length;
  return count ? ["madeAgain", { ...values, again: count }] : ["finished", values];
}
