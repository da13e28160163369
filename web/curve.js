// A curve as data: JSON parsing and formatting, interpolation, and edits.
//
// A curve is {points, over, interpolation}; a point is [x, y], with x a frame's number or, over
// steps, from 0 (the first) to 1 (the last). Edits return new, valid points.

const STEP = { frames: 1, steps: 0.01 };
const PLACES = 100; // values have two decimals

/**
 * Parse the widget's text by the same rules as the node.
 * Returns {value: curve} or {problem: [text key, values]}.
 */
export function readCurve(text, over, interpolation) {
  let given;
  try {
    given = JSON.parse(text.trim() || "[]");
  } catch (error) {
    return { problem: ["notJson", { reason: error.message }] };
  }
  if (!Array.isArray(given) || given.length === 0) return { problem: ["pointsNotList", {}] };
  for (const [index, one] of given.entries()) {
    const point = index + 1;
    if (!Array.isArray(one) || one.length !== 2 || !one.every(Number.isFinite)) {
      return { problem: ["pointNotPair", { point }] };
    }
    if (over === "steps" && !(0 <= one[0] && one[0] <= 1)) {
      return { problem: ["pointOutside", { point, x: one[0] }] };
    }
  }
  const points = given.toSorted(([a], [b]) => a - b);
  const crowded = points.find(([x], k) => points[k + 2]?.[0] === x);
  if (crowded) return { problem: ["pointsCrowded", { x: crowded[0] }] };
  return { value: { points, over, interpolation } };
}

export function writeCurve({ points }) {
  return `[${points.map(([x, y]) => `[${x}, ${y}]`).join(", ")}]`;
}

/** The extent of the plot: {x: [from, to], y: [from, to]}. */
export function extent({ points, over }) {
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const most = Math.max(...ys);
  const top = most <= 1 ? 1 : Math.ceil(most * 2) / 2;
  const least = Math.min(0, Math.floor(Math.min(...ys) * 2) / 2);
  return {
    x: over === "steps" ? [0, 1] : [Math.min(0, ...xs), Math.max(15, ...xs)],
    y: [least, top],
  };
}

// Values.

/** The curve's value at x; of two points at x, that of the first. */
export function valueAt({ points, interpolation }, x) {
  const k = points.findIndex((point) => point[0] >= x);
  if (k === -1) return points.at(-1)[1];
  if (k === 0 || points[k][0] === x) return points[k][1];
  return between(points, k - 1, x, interpolation);
}

function between(points, k, x, interpolation) {
  const [[x0, y0], [x1, y1]] = [points[k], points[k + 1]];
  if (interpolation === "hold") return y0;
  const t = (x - x0) / (x1 - x0);
  if (interpolation === "linear") return y0 + t * (y1 - y0);
  const slopes = monotoneSlopes(points);
  const bend = t * (1 - t) * ((1 - t) * slopes[k] - t * slopes[k + 1]) * (x1 - x0);
  return y0 + t * t * (3 - 2 * t) * (y1 - y0) + bend;
}

/** Slopes at the points that keep every segment monotone (Fritsch & Carlson 1980). */
function monotoneSlopes(points) {
  const secants = points.slice(1).map(([x, y], k) => {
    const width = x - points[k][0];
    return width > 0 ? (y - points[k][1]) / width : 0;
  });
  const slopes = points.map((_, k) => {
    const before = secants[Math.max(k - 1, 0)];
    const after = secants[Math.min(k, secants.length - 1)];
    return before * after > 0 ? (before + after) / 2 : 0;
  });
  secants.forEach((secant, k) => {
    const steepness = secant && Math.hypot(slopes[k] / secant, slopes[k + 1] / secant);
    const factor = secant === 0 ? 0 : Math.min(1, 3 / steepness);
    slopes[k] *= factor;
    slopes[k + 1] *= factor;
  });
  return slopes;
}

/** The curve, with its jumps, as a polyline [[x, y], ...] over the extent of the plot. */
export function outline(curve, samples = 160) {
  const { points } = curve;
  const [from, to] = extent(curve).x;
  const line = [[from, valueAt(curve, from)]];
  for (let k = 0; k < samples; k += 1) {
    const x = from + ((k + 1) / samples) * (to - from);
    const before = line.at(-1)[0];
    for (const [at, y] of points.filter(([at]) => before < at && at <= x)) {
      if (curve.interpolation === "hold") line.push([at, line.at(-1)[1]]);
      line.push([at, y]);
    }
    line.push([x, valueJustBehind(curve, x)]);
  }
  return line;
}

function valueJustBehind(curve, x) {
  const last = curve.points.findLastIndex((point) => point[0] <= x);
  if (last === -1) return curve.points[0][1];
  return curve.points[last][0] === x ? curve.points[last][1] : valueAt(curve, x);
}

// Edits.

/** The points with point `at` moved to [x, y], but not past its neighbours or the range of x. */
export function moved({ points, over }, at, [x, y]) {
  const low = edge(points, at, -1, over);
  const high = edge(points, at, 1, over);
  const step = STEP[over];
  const wanted = Math.round(x / step) * step;
  const place = Math.min(Math.max(wanted, low), high);
  return points.with(at, [rounded(place), rounded(y)]);
}

/** The limit of x for point `at`: its neighbour's x, or beside it if two points share that. */
function edge(points, at, way, over) {
  const neighbour = points[at + way];
  const outermost = way < 0 ? 0 : over === "steps" ? 1 : Infinity;
  if (!neighbour) return outermost;
  const isFull = points[at + 2 * way]?.[0] === neighbour[0];
  return isFull ? neighbour[0] - way * STEP[over] : neighbour[0];
}

/** The points with one added at [x, y], and its index: {points, at}. */
export function added({ points, over }, [x, y]) {
  const step = STEP[over];
  const place = rounded(Math.max(0, Math.round(x / step) * step));
  const there = points.filter((point) => point[0] === place).length;
  const at = points.findLastIndex((point) => point[0] <= place) + 1;
  if (there > 1) return { points: points.with(at - 1, [place, rounded(y)]), at: at - 1 };
  return { points: points.toSpliced(at, 0, [place, rounded(y)]), at };
}

/** The points without point `at`; the last point cannot be removed. */
export function removed({ points }, at) {
  return points.length > 1 ? points.toSpliced(at, 1) : points;
}

export function stepOf(over) {
  return STEP[over];
}

function rounded(value) {
  return Math.round(value * PLACES) / PLACES;
}
