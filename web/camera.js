// Camera moves as data: parsing and formatting of their lines, and edits.
//
// A range is {first, last, moves}: amounts of moves by name between two frames, positive in the
// first direction below. Edits return new, valid ranges.

/** Default amount, then the words for positive and negative amounts. */
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
 * Parse the widget's text for a video of `frames` frames, by the same rules as the node.
 * Returns {value: {ranges, frames}} or {problem: [text key, values]}; poses are not editable.
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

/** Format as a line per range, without moves of 0; a range without moves is written as zoom 0. */
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

/** The range with the amounts in `by` added to its moves or, with `isSet`, in place of them. */
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

/** The range from `first` to `last`, kept inside the video. */
export function spanning(range, first, last, frames) {
  const begin = Math.min(Math.max(Math.round(first), 0), Math.max(frames - 2, 0));
  const end = Math.min(Math.max(Math.round(last), begin + 1), Math.max(frames - 1, begin + 1));
  return { ...range, first: begin, last: end };
}

/** The range moved by `by` frames, with the same length, kept inside the video. */
export function shifted(range, by, frames) {
  const far = Math.min(Math.max(Math.round(by), -range.first), frames - 1 - range.last);
  return { ...range, first: range.first + far, last: range.last + far };
}

/** The ranges with another one, after the last if there is room, else over the whole video. */
export function added({ ranges, frames }) {
  const end = Math.max(0, ...ranges.map(({ last }) => last));
  const first = end < frames - 1 ? end : 0;
  const last = Math.max(frames - 1, first + 1);
  return [...ranges, { first, last, moves: { zoom: 0 } }];
}

// The view at the end of a range, drawn over that at its start.

export const TURN = 90; // degrees that move the view by its own width: about its field of view
export const SHIFT = 2; // translation that moves the view by its own width

/** {x, y, scale, angle} of the view at the end of a range: x, y in its widths, angle in degrees. */
export function view({ moves }) {
  const of = (name) => moves[name] ?? 0;
  return {
    x: of("pan") / TURN + of("truck") / SHIFT,
    y: of("tilt") / TURN + of("pedestal") / SHIFT,
    scale: 2 ** -Math.min(Math.max(of("zoom"), -2), 3),
    angle: of("roll"),
  };
}
