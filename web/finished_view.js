// The windows of the last run below the timeline: bars over thumbnails of the video.

import { api } from "../../scripts/api.js";
import { outdatedWindows, stateOf, summary } from "./finished.js";
import { say } from "./texts.js";

const SPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 66; // pixels, with margins

export class FinishedView {
  constructor() {
    this.found = null;
    this.element = Object.assign(document.createElement("div"), { className: "videoldm-finished" });
    this.element.hidden = true;
    this.pictures = Object.assign(document.createElement("img"), { alt: "", draggable: false });
    this.bars = document.createElementNS(SPACE, "svg");
    this.bars.setAttribute("preserveAspectRatio", "none");
    this.caption = document.createElement("div");
    this.caption.role = "status";
    this.element.append(this.pictures, this.bars, this.caption);
  }

  get height() {
    return this.found ? HEIGHT : 0;
  }

  /** Show the windows of a run of a sampler, whose video was made from these segments. */
  setRun(found, sampler, segments) {
    this.found = found;
    this.sampler = sampler;
    this.state = stateOf(found.nodes, sampler);
    this.was = { ...this.state, segments };
    const { pictures } = found;
    this.pictures.hidden = !pictures;
    if (pictures) this.pictures.src = api.apiURL(`/view?${new URLSearchParams(pictures)}`);
    this.element.hidden = false;
    this.show(segments);
  }

  /** Update the present state from the workflow's nodes in API format. */
  compare(nodes) {
    this.state = stateOf(nodes, this.sampler);
  }

  /** Show which windows would be sampled again with these segments. */
  show(segments) {
    if (!this.found) return;
    const { frames, windows } = this.found;
    const again = outdatedWindows(this.found, this.was, { ...this.state, segments });
    const levels = [...new Set(windows.map((one) => one[3]))];
    this.bars.setAttribute("viewBox", `0 0 ${frames} ${2 * levels.length}`);
    const places = levels.map(() => 0);
    this.bars.replaceChildren(
      ...windows.map((one, k) => {
        const level = levels.indexOf(one[3]);
        return bar(one, again[k], 2 * level + (places[level]++ % 2), frames);
      }),
    );
    this.caption.textContent = say(...summary(this.found, again));
    this.element.title = say("finishedTip");
  }
}

/** A bar for a window; those of a level alternate between two rows because they overlap. */
function bar([first, last, , , there], again, row, frames) {
  const rect = document.createElementNS(SPACE, "rect");
  const stop = Math.min(last + 1, frames);
  const place = { x: first, y: row + 0.1, width: stop - first, height: 0.8 };
  Object.entries(place).forEach(([name, value]) => rect.setAttribute(name, value));
  const state = again ? "again" : there ? "there" : "made";
  rect.classList.add(`videoldm-${state}`);
  const title = document.createElementNS(SPACE, "title");
  title.textContent = say(`${state}Window`, { first, last: stop - 1 });
  rect.append(title);
  return rect;
}
