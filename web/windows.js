// The windows of a sampling step, as in core/tasks/windows.py and window_schedules.py. No DOM, no
// graph.
//
// A window is a list of frame numbers.

/** The windows of a video at a sampling step; empty if the settings are invalid. */
export function windowsAt({ window_schedule, frames, window, overlap, strides, step = 0 }) {
  const length = Math.min(window, frames);
  const shared = Math.min(overlap, length - 1);
  if (!(frames >= 1 && window >= 1 && overlap >= 0 && overlap < window)) return [];
  const plan = PLANS[window_schedule] ?? sliding;
  return plan(frames, length, shared, strides ?? 1, step);
}

const PLANS = {
  static: sliding,
  views: sliding,
  batched(frames, window) {
    const count = Math.ceil(frames / window);
    return from(count, (k) => run(k * window, Math.min(window, frames - k * window)));
  },
  uniform,
  looped(frames, window, overlap, strides, step) {
    if (frames <= window) {
      return [strided(roundHalfEven(frames * fraction(step)), frames, 1, frames)];
    }
    return looped(frames, window, overlap, strides, step, true).filter(
      (one) => new Set(one).size === one.length,
    );
  },
};

function sliding(frames, window, overlap) {
  const last = Math.max(frames - window, 0);
  const count = Math.ceil(last / (window - overlap));
  return [...from(count, (k) => k * (window - overlap)), last].map((start) => run(start, window));
}

function looped(frames, window, overlap, strides, step, closed) {
  const wideEnough = Math.ceil(Math.log2(frames / window)) + 1;
  const windows = [];
  const part = fraction(step);
  const first = roundHalfEven(frames * part);
  const last = first + frames - (closed ? 0 : overlap);
  for (let k = 0; k < Math.min(strides, wideEnough); k++) {
    const stride = 2 ** k;
    const leap = window * stride - overlap;
    for (let at = first + Math.floor(part * stride); at < last; at += leap) {
      windows.push(strided(at, window, stride, frames));
    }
  }
  return windows;
}

/** Looped windows, with those that wrap around from the end to the start moved to the end. */
function uniform(frames, window, overlap, strides, step) {
  if (frames <= window) return [run(0, frames)];
  const loop = looped(frames, window, overlap, strides, step, false);
  const windows = [];
  loop.forEach((indices, i) => {
    const wrappedAt = indices.find((frame, k) => k > 0 && frame < indices[k - 1]);
    if (wrappedAt === undefined) return windows.push(indices);
    windows.push(movedToEnd(indices, frames));
    const following = i === loop.length - 1 ? windows[0] : loop[i + 1];
    if (following.includes(wrappedAt)) return null;
    const filler = run(wrappedAt, window);
    return windows.push(filler.at(-1) < frames ? filler : movedToEnd(filler, frames));
  });
  const kept = distinct(windows).filter((one) => one[0] >= 0);
  const seen = new Set(kept.flat());
  const spare = sliding(frames, window, overlap).filter((one) => one.some((f) => !seen.has(f)));
  return [...kept, ...spare];
}

function distinct(windows) {
  return [...new Map(windows.map((one) => [one.join(), one])).values()];
}

function movedToEnd(indices, frames) {
  const stride = (indices[1] - indices[0] + frames) % frames;
  return indices.map((_, k) => frames - 1 - stride * (indices.length - 1 - k));
}

function strided(start, window, stride, frames) {
  return from(window, (k) => (start + k * stride) % frames);
}

function run(start, length) {
  return from(length, (k) => start + k);
}

function from(length, make) {
  return Array.from({ length }, (_, k) => make(k));
}

/** 0, 1/2, 1/4, 3/4, 1/8, ...: the binary digits of step, reversed, after the point. */
function fraction(step) {
  let [found, digit] = [0, 0.5];
  for (let rest = step; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2) found += digit;
    digit /= 2;
  }
  return found;
}

/** Rounds halves to even, as Python does. */
function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

// Fusing.

const WEIGHTS = {
  flat: () => 1,
  pyramid: (k, { length }) => Math.min(k + 1, length - k),
  relative: (k, { length }) => {
    const middle = (length - 1) / 2;
    return Math.max(1 - Math.abs(k - middle) / (middle + 5e-3), 1e-2);
  },
  "overlap-linear": (k, { length, window, frames, overlap }) => {
    const ramp = (at) => (at < overlap ? Math.max(overlap > 1 ? at / (overlap - 1) : 0, 1e-30) : 1);
    const rising = window[0] > 0 ? ramp(k) : 1;
    return Math.min(rising, window.at(-1) < frames - 1 ? ramp(length - 1 - k) : 1);
  },
};

/** The fusion weight of each frame of a window, normalised to a maximum of 1. */
export function weightsOf(window, frames, overlap, fuse) {
  const told = { length: window.length, window, frames, overlap: Math.min(overlap, window.length) };
  const found = window.map((_, k) => (WEIGHTS[fuse] ?? WEIGHTS.flat)(k, told));
  const most = Math.max(...found);
  return found.map((one) => one / most);
}
