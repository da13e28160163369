// The segments of a long video as data: JSON parsing and formatting, and edits.
//
// A segment is {prompt, frames, overlap, seed}: its first `overlap` frames are shared with the
// previous segment, `seed` may be undefined. Edits return new, valid lists.

import { valueOf } from "./graph.js";
import { isTravel, lengthOf, Problem, readTravel } from "./travel.js";

const KINDS = { prompt: "text", frames: "number", overlap: "number", seed: "number" };
const REQUIRED = ["prompt", "frames"];

/** For converting lengths and positions: frames of the video (0: unknown), frames per second. */
export function clockOf(node) {
  return { frames: valueOf(node, "frames") ?? 0, rate: valueOf(node, "frame_rate") ?? 15 };
}

/**
 * Parse the widget's text by the same rules as the node: a JSON list, or prompts at frames.
 * Returns {value: segments} or {problem: [text key, values]}.
 */
export function readSegments(text, clock = { frames: 0, rate: 15 }) {
  try {
    return isTravel(text) ? { value: readTravel(text, clock) } : readList(text, clock);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { problem: error.said };
  }
}

function readList(text, clock) {
  let given;
  try {
    given = JSON.parse(text.trim() || "[]");
  } catch (error) {
    return { problem: ["notJson", { reason: error.message }] };
  }
  if (!Array.isArray(given) || given.length === 0) return { problem: ["notList", {}] };
  given = given.map((one) => withLengths(one, clock));
  for (const [index, one] of given.entries()) {
    const problem = problemOf(one, index) ?? overlapProblem(given, index);
    if (problem) return { problem };
  }
  return { value: given.map(toSegment) };
}

/** A segment with lengths in seconds or percent converted to frames. */
function withLengths(one, clock) {
  if (one === null || typeof one !== "object" || Array.isArray(one)) return one;
  const texts = ["frames", "overlap"].filter((name) => typeof one[name] === "string");
  return { ...one, ...Object.fromEntries(texts.map((name) => [name, lengthOf(one[name], clock)])) };
}

function problemOf(one, index) {
  const segment = index + 1;
  if (one === null || typeof one !== "object" || Array.isArray(one)) {
    return ["notObject", { segment }];
  }
  const given = Object.keys(one).filter((name) => one[name] !== null);
  const unknown = given.find((name) => !(name in KINDS));
  if (unknown !== undefined) return ["unknownEntry", { segment, name: unknown }];
  const missing = REQUIRED.find((name) => !given.includes(name));
  if (missing !== undefined) return ["missingEntry", { segment, name: missing }];
  const wrong = given.find((name) => !fits(one[name], KINDS[name]));
  return wrong === undefined ? null : ["wrongKind", { segment, name: wrong, kind: KINDS[wrong] }];
}

function fits(value, kind) {
  return kind === "text" ? typeof value === "string" : Number.isInteger(value);
}

/** Assumes that this segment and those before it are objects with numbers. */
function overlapProblem(given, index) {
  const { frames } = given[index];
  if (frames < 1) return ["noFrames", { segment: index + 1, frames }];
  if (index === 0) return null;
  const overlap = given[index].overlap ?? 0;
  const shorter = Math.min(frames, given[index - 1].frames);
  if (overlap >= 0 && overlap < shorter) return null;
  return ["overlapTooLong", { segment: index + 1, overlap, shorter }];
}

function toSegment({ prompt, frames, overlap, seed }, index) {
  return { prompt, frames, overlap: index === 0 ? 0 : overlap ?? 0, seed: seed ?? undefined };
}

/** Format as JSON with one segment per line; an overlap of 0 and an undefined seed are omitted. */
export function writeSegments(segments) {
  const lines = segments.map(({ prompt, frames, overlap, seed }) => {
    const entries = { prompt, frames, overlap: overlap || undefined, seed };
    const written = Object.entries(entries)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `"${name}": ${JSON.stringify(value)}`);
    return `  {${written.join(", ")}}`;
  });
  return `[\n${lines.join(",\n")}\n]`;
}

/** The frames of each segment in the whole video: [{start, stop}], stop exclusive. */
export function spans(segments) {
  let stop = 0;
  return segments.map(({ frames, overlap }) => {
    const start = stop - overlap;
    stop = start + frames;
    return { start, stop };
  });
}

export function totalFrames(segments) {
  return spans(segments).at(-1)?.stop ?? 0;
}

// Edits.

/** Insert a copy of segment `at` after it, to be edited. */
export function insertAfter(segments, at) {
  const { prompt, frames } = segments[at];
  const overlap = segments[at].overlap || Math.min(8, Math.floor(frames / 4));
  return repaired(segments.toSpliced(at + 1, 0, { prompt, frames, overlap, seed: undefined }));
}

/** The list without segment `at`; the last segment cannot be removed. */
export function remove(segments, at) {
  return segments.length > 1 ? repaired(segments.toSpliced(at, 1)) : segments;
}

/** Split segment `at` in two, the first with about `frames`, by default half of them. */
export function split(segments, at, frames = Math.ceil(segments[at].frames / 2)) {
  const one = segments[at];
  const least = one.overlap + 1;
  const most = one.frames - 1 - (segments[at + 1]?.overlap ?? 0);
  if (most < least) return segments;
  const first = Math.min(Math.max(frames, least), most);
  const rest = { ...one, frames: one.frames - first, overlap: 0, seed: undefined };
  return repaired(segments.toSpliced(at, 1, { ...one, frames: first }, rest));
}

export function move(segments, from, to) {
  if (to < 0 || to >= segments.length) return segments;
  return repaired(segments.toSpliced(from, 1).toSpliced(to, 0, segments[from]));
}

/** Set the number of frames of segment `at`, at least as many as its overlaps need. */
export function resize(segments, at, frames) {
  const next = segments[at + 1]?.overlap ?? 0;
  const least = Math.max(segments[at].overlap, next) + 1;
  return change(segments, at, "frames", Math.max(Math.round(frames), least));
}

/** Set one entry of segment `at`; numbers are clamped to what is valid. */
export function change(segments, at, name, value) {
  return repaired(segments.with(at, { ...segments[at], [name]: value }));
}

function repaired(segments) {
  return segments.map((one, index) => {
    const frames = Math.max(1, Math.round(one.frames) || 1);
    const before = index === 0 ? 1 : Math.max(1, segments[index - 1].frames);
    const most = Math.min(frames, before) - 1;
    const overlap = Math.min(Math.max(Math.round(one.overlap) || 0, 0), most);
    return { ...one, frames, overlap };
  });
}
