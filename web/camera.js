// Camera moves as data: reading and writing their lines, and every edit.
//
// A range is {first, last, moves}: what the camera does between two frames, moves by name, their
// signs those of the first direction below. Edits return new lists, always valid ones.

/** The usual amount, and the words for more and for less than 0. */
export const MOVES = {
  pan: [20, "right", "left"],
  tilt: [20, "down", "up"],
  roll: [20, "clockwise", "anticlockwise"],
  truck: [1, "right", "left"],
  pedestal: [1, "down", "up"],
  zoom: [1, "in", "out"],
};
export const TURNS = ["pan", "tilt", "roll"]; // in degrees
const ROLL = { right: "clockwise", left: "anticlockwise" };
const POSE = 19; // numbers of a pose
const RANGE = /^(?:(\d{1,6})\s*-\s*(\d{1,6})\s*:)?\s*(.*)$/;
const MOVE = /^(\w+)\s+(\w+)(?:\s+(\d{1,6}(?:\.\d{1,6})?|\.\d{1,6}))?$/;
const MOST = { turn: 360, shift: 50 };

/**
 * Read what stands in the widget, for a video of `frames` frames, by the same rules as the node.
 * Returns {value: {ranges, frames}} or {problem: [key of the sentence, its values]}.
 */
export function readCamera(text, frames) {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
  if (lines.length && lines.at(-1).split(/\s+/).length === POSE) {
    return { problem: ["cameraPoses", {}] };
  }
  const ranges = [];
  for (const line of lines) {
    const { range, problem } = readRange(line, frames);
    if (problem) return { problem };
    if (range) ranges.push(range);
  }
  return { value: { ranges, frames } };
}

function readRange(line, frames) {
  const [, from, to, rest] = RANGE.exec(line);
  const [first, last] = to === undefined ? [0, frames - 1] : [Number(from), Number(to)];
  if (frames > 1 && !(first < last && last < frames)) {
    return { problem: ["cameraRange", { first, last, frames }] };
  }
  const moves = {};
  for (const part of rest.split(",").map((one) => one.trim()).filter(Boolean)) {
    const [, name, word, number] = MOVE.exec(part.toLowerCase()) ?? [];
    const [usual, more, less] = MOVES[name] ?? [];
    const way = name === "roll" ? (ROLL[word] ?? word) : word;
    if (!more || (way !== more && way !== less)) return { problem: ["cameraMove", { text: part }] };
    const amount = number === undefined ? usual : Number(number);
    const sum = (moves[name] ?? 0) + (way === more ? amount : -amount);
    moves[name] = Math.round(sum * 1e6) / 1e6;
  }
  return Object.keys(moves).length ? { range: { first, last, moves } } : {};
}

/** A line per range, moves in their order; those of 0 are left out, but for an only one. */
export function writeCamera({ ranges }) {
  return ranges.map(({ first, last, moves }) => `${first}-${last}: ${written(moves)}`).join("\n");
}

function written(moves) {
  const parts = Object.entries(moves).filter(([, amount]) => amount !== 0);
  return (parts.length ? parts : [["zoom", 0]])
    .map(([name, amount]) => {
      const [, more, less] = MOVES[name];
      return `${name} ${amount < 0 ? less : more} ${Math.abs(amount)}`;
    })
    .join(", ");
}

// Edits.

/** The range with its moves changed by `by`, or set where `isSet`. */
export function changed(range, by, isSet = false) {
  const moves = { ...range.moves };
  for (const [name, amount] of Object.entries(by)) {
    moves[name] = rounded(name, (isSet ? 0 : (moves[name] ?? 0)) + amount);
  }
  return { ...range, moves };
}

function rounded(name, amount) {
  const [places, most] = TURNS.includes(name) ? [10, MOST.turn] : [100, MOST.shift];
  return Math.round(Math.min(Math.max(amount, -most), most) * places) / places;
}

/** The range from `first` to `last`, as far as the video goes. */
export function spanning(range, first, last, frames) {
  const begin = Math.min(Math.max(Math.round(first), 0), Math.max(frames - 2, 0));
  const end = Math.min(Math.max(Math.round(last), begin + 1), Math.max(frames - 1, begin + 1));
  return { ...range, first: begin, last: end };
}

/** The range `by` frames later, as long as before. */
export function shifted(range, by, frames) {
  const far = Math.min(Math.max(Math.round(by), -range.first), frames - 1 - range.last);
  return { ...range, first: range.first + far, last: range.last + far };
}

/** The ranges with a further one: behind the last where there is room, else over the whole video. */
export function added({ ranges, frames }) {
  const end = Math.max(0, ...ranges.map(({ last }) => last));
  const first = end < frames - 1 ? end : 0;
  const last = Math.max(frames - 1, first + 1);
  return [...ranges, { first, last, moves: { zoom: 0 } }];
}

// The picture that a range leads to, drawn over the one that it begins with.

export const TURN = 90; // degrees that move it by its own width: about what it shows
export const SHIFT = 2; // a shift that moves it by its own width

/** {x, y, scale, angle} of the picture behind a range: moved in parts of its width, in degrees. */
export function view({ moves }) {
  const of = (name) => moves[name] ?? 0;
  return {
    x: of("pan") / TURN + of("truck") / SHIFT,
    y: of("tilt") / TURN + of("pedestal") / SHIFT,
    scale: 2 ** -Math.min(Math.max(of("zoom"), -2), 3),
    angle: of("roll"),
  };
}
