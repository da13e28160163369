// Formats durations, sizes and progress. No DOM.

/** 7 s, 3 min 20 s, 2 h 5 min. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds < 10 ? Math.round(seconds * 10) / 10 : whole} s`;
  if (whole < 3600) return parts(whole, 60, "min", "s");
  return parts(Math.round(whole / 60), 60, "h", "min");
}

function parts(value, size, large, small) {
  const rest = value % size;
  return `${Math.floor(value / size)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

/** 12 MB, 3.4 GB. */
export function bytes(value) {
  if (value < 1e9) return `${Math.max(1, Math.round(value / 1e6))} MB`;
  return `${(value / 1e9).toFixed(1)} GB`;
}

/** The parts of the progress line: [text key, values] each. */
export function progressParts({ part, done, total, left, memory }) {
  const said = [];
  if (part) {
    if (part.segments !== 1) said.push([part.segments ? "segmentOf" : "segment", part]);
    said.push(["stepOf", part]);
  } else {
    said.push(["frameOf", { done, total }]);
  }
  if (left !== null && left !== undefined && done < total) {
    said.push(["left", { time: duration(left) }]);
  }
  if (memory) said.push(["used", { used: bytes(memory.used), total: bytes(memory.total) }]);
  return said;
}
