// Prompt travel: prompts at frames, such as "0": "a cat", "16": "a dog", as overlapping segments.
// The rules are those of nodes/stages/prompt_travel.py. No DOM, no graph.

const ENTRY = /\s*(?:"([^"]*)"\s*:|([^\s="]+)\s*=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)/sy;
const NUMBER = /^(-?\d{1,9}(?:\.\d{1,9})?)(s|%|)$/;
const MOST_FRAMES = 100_000;

/** An error in a text: `said` is [text key, values]. */
export class Problem extends Error {
  constructor(key, values) {
    super(key);
    this.said = [key, values];
  }
}

/** Whether a text looks like prompts at frames rather than a JSON list. */
export function isTravel(text) {
  return /^\s*(\{|"|[-\d.:s%]+\s*=)/.test(text);
}

/**
 * Parse a text into segments; throws a Problem if it is malformed.
 * `clock` is {frames, rate}: frames of the video (0: unknown), frames per second.
 */
export function readTravel(text, clock) {
  const found = [...entries(text, clock)].sort((one, other) => one.first - other.first);
  if (!found.length) throw new Problem("notTravel", { text: "" });
  found.forEach((one, k) => {
    const frame = found[k + 1]?.first;
    if (frame <= one.last) throw new Problem("twoPrompts", { frame });
  });
  const stop = clock.frames || Math.max(...found.map((one) => one.last)) + 1;
  if (stop > MOST_FRAMES) throw new Problem("noPlace", { place: stop - 1, frames: MOST_FRAMES });
  return segments(joined(found), stop);
}

/** The number of frames of a length such as "2s" or "25%"; throws a Problem if malformed. */
export function lengthOf(text, clock) {
  const [number, unit] = numberOf(text);
  if (!unit || number < 0) throw new Problem("noFrame", { place: text });
  if (unit === "s") return rounded(number * clock.rate);
  return rounded((number / 100) * known(clock, text));
}

function* entries(text, clock) {
  let rest = text.trim();
  if (rest.startsWith("{") && rest.endsWith("}")) rest = rest.slice(1, -1).trim();
  ENTRY.lastIndex = 0;
  while (ENTRY.lastIndex < rest.length) {
    const at = ENTRY.lastIndex;
    const entry = ENTRY.exec(rest);
    if (!entry) throw new Problem("notTravel", { text: rest.slice(at).trim().slice(0, 60) });
    const next = ENTRY.lastIndex;
    const prompt = entry[3].replace(/\\(.)/gs, (all, one) => ({ n: "\n", t: "\t" })[one] ?? one);
    yield plateau(entry[1] ?? entry[2], prompt, clock);
    ENTRY.lastIndex = next;
  }
}

function plateau(places, prompt, clock) {
  const [begin, ...more] = places.split(":");
  const end = more.join(":").trim();
  const first = placeOf(begin, clock);
  if (!end) return { first, last: first, prompt, held: more.length > 0 };
  const isEnd = clock.frames && end === String(clock.frames);
  const last = (isEnd ? clock.frames : placeOf(end, clock)) - 1;
  if (last < first) throw new Problem("emptyRange", { place: places });
  return { first, last, prompt, held: false };
}

function placeOf(given, clock) {
  const text = given.trim();
  const [number, unit] = numberOf(text);
  let at;
  if (unit === "s") at = rounded(number * clock.rate);
  else if (unit === "%" || text.includes(".")) at = part(unit ? number / 100 : number, text, clock);
  else at = number;
  if (at < 0) at += known(clock, text);
  if (at < 0 || (clock.frames && at >= clock.frames)) {
    throw new Problem("noPlace", { place: text, frames: clock.frames });
  }
  return at;
}

function part(share, text, clock) {
  if (!(share >= 0 && share <= 1)) throw new Problem("noPart", { place: text });
  const total = known(clock, text);
  return share === 1 ? total - 1 : Math.floor(share * total);
}

function numberOf(text) {
  const found = NUMBER.exec(text.trim());
  if (!found) throw new Problem("noFrame", { place: text.slice(0, 60) });
  return [Number(found[1]), found[2]];
}

function known({ frames }, text) {
  if (!frames) throw new Problem("framesUnknown", { place: text });
  return frames;
}

function rounded(value) {
  return Math.floor(value + 0.5);
}

/** Extend held prompts to the next one, and merge neighbours with the same prompt. */
function joined(found) {
  const together = [];
  found.forEach(({ first, last, prompt, held }, k) => {
    const stop = held && found[k + 1] ? found[k + 1].first - 1 : last;
    const before = together.at(-1);
    if (before?.prompt === prompt) before.last = stop;
    else together.push({ first, last: stop, prompt });
  });
  return together;
}

function segments(found, stop) {
  return found.map(({ first, prompt }, k) => {
    const start = k ? found[k - 1].last + 1 : 0;
    const end = found[k + 1]?.first ?? stop;
    const overlap = k ? first - start : 0;
    return { prompt, frames: end - start, overlap, seed: undefined };
  });
}
