// Bounding boxes as data: JSON parsing and formatting, and edits.
//
// A box is {label, x0, y0, x1, y1}: corners as fractions of the image, (0, 0) is the top left.
// Edits return new, valid boxes.

const CORNERS = ["x0", "y0", "x1", "y1"];
const NAMES = ["label", ...CORNERS];
const LEAST = 0.01; // minimum side of a box, as a fraction of the image
const PLACES = 1000; // corners have three decimals

/**
 * Parse the widget's text by the same rules as the node.
 * Returns {value: boxes} or {problem: [text key, values]}.
 */
export function readBoxes(text) {
  let given;
  try {
    given = JSON.parse(text.trim() || "[]");
  } catch (error) {
    return { problem: ["notJson", { reason: error.message }] };
  }
  if (!Array.isArray(given)) return { problem: ["boxesNotList", {}] };
  for (const [index, one] of given.entries()) {
    const problem = problemOf(one, index + 1);
    if (problem) return { problem };
  }
  return { value: given.map(({ label, x0, y0, x1, y1 }) => ({ label, x0, y0, x1, y1 })) };
}

function problemOf(one, box) {
  if (one === null || typeof one !== "object" || Array.isArray(one)) {
    return ["boxNotObject", { box }];
  }
  const unknown = Object.keys(one).find((name) => one[name] !== null && !NAMES.includes(name));
  if (unknown !== undefined) return ["boxUnknownEntry", { box, name: unknown }];
  const missing = NAMES.find((name) => one[name] === undefined || one[name] === null);
  if (missing !== undefined) return ["boxMissingEntry", { box, name: missing }];
  const isTyped = (name) => typeof one[name] === (name === "label" ? "string" : "number");
  const wrong = NAMES.find((name) => !isTyped(name));
  if (wrong !== undefined) return ["boxWrongKind", { box, name: wrong }];
  const { x0, y0, x1, y1 } = one;
  const fits = 0 <= x0 && x0 < x1 && x1 <= 1 && 0 <= y0 && y0 < y1 && y1 <= 1;
  return fits ? null : ["boxCorners", { box }];
}

/** Format as JSON with one box per line. */
export function writeBoxes(boxes) {
  const lines = boxes.map((box) => {
    const corners = CORNERS.map((name) => `"${name}": ${box[name]}`);
    return `  {"label": ${JSON.stringify(box.label)}, ${corners.join(", ")}}`;
  });
  return lines.length ? `[\n${lines.join(",\n")}\n]` : "[]";
}

// Edits.

/** The box spanned by two opposite corners in any order. */
export function span(label, [xa, ya], [xb, yb]) {
  const [x0, x1] = side(xa, xb);
  const [y0, y1] = side(ya, yb);
  return { label, x0, y0, x1, y1 };
}

function side(a, b) {
  const low = Math.min(inside(Math.min(a, b)), 1 - LEAST);
  return [rounded(low), rounded(Math.max(inside(Math.max(a, b)), low + LEAST))];
}

/** The box moved by (dx, dy), kept inside the image. */
export function moved(box, dx, dy) {
  const right = Math.min(Math.max(dx, -box.x0), 1 - box.x1);
  const down = Math.min(Math.max(dy, -box.y0), 1 - box.y1);
  const { label, x0, y0, x1, y1 } = box;
  return span(label, [x0 + right, y0 + down], [x1 + right, y1 + down]);
}

/** The box with its lower right corner moved by (dx, dy). */
export function resized(box, dx, dy) {
  const x1 = Math.max(box.x1 + dx, box.x0 + LEAST);
  return span(box.label, [box.x0, box.y0], [x1, Math.max(box.y1 + dy, box.y0 + LEAST)]);
}

export function isLargeEnough({ x0, y0, x1, y1 }) {
  return Math.min(x1 - x0, y1 - y0) >= 2 * LEAST;
}

function inside(value) {
  return Math.min(Math.max(value, 0), 1);
}

function rounded(value) {
  return Math.round(value * PLACES) / PLACES;
}
