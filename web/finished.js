// What of a video is finished, and what a change of its segments would make again, as data.
//
// `found` is what the last run told: {frames, continued, windows: [[first, last, step, level, there]],
// pictures}. Frames count over the whole video.

import { spans } from "./timeline.js";

/** A text for each frame that differs where the frame's prompts, their weights or seed do. */
function told(segments, frames) {
  const all = spans(segments);
  let seed = "";
  const seeds = segments.map((one) => (seed = one.seed ?? seed));
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
 * For each window whether it would be made again if the segments `was` of the last run were those
 * that are there `now`: it sees a frame whose prompt or seed changed, continues a window that is made
 * again, or lies between key frames of such a one.
 */
export function madeAgain(found, was, now) {
  const { frames, continued, windows } = found;
  const [before, after] = [told(was, frames), told(now, frames)];
  const differs = before.map((one, frame) => one !== after[frame]);
  const again = windows.map(([first, last, step]) => sees(differs, first, last, step));
  const chain = windows.flatMap(([, , , level], k) => (level === continued ? [k] : []));
  const begun = chain.findIndex((k) => again[k]);
  if (begun < 0) return again;
  chain.slice(begun).forEach((k) => (again[k] = true));
  // The first frames of a window that continues are those of the one before, which stay.
  const [first, , step] = windows[chain[begun]];
  const from = begun === 0 ? first : first + step;
  return again.map((one, k) => one || (windows[k][3] !== continued && windows[k][1] >= from));
}

function sees(differs, first, last, step) {
  for (let frame = first; frame <= last; frame += step) if (differs[frame]) return true;
  return false;
}

/** [key of a sentence, its values] about the windows. */
export function summary(found, again) {
  const windows = found.windows.length;
  const values = { windows, there: found.windows.filter((one) => one[4]).length };
  const count = again.filter(Boolean).length;
  return count ? ["madeAgain", { ...values, again: count }] : ["finished", values];
}
