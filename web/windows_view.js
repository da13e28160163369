// Drawing of the windows of a step: a row for each window, bars as high as its frames' weights.

import { say } from "./texts.js";
import { weightsOf, windowsAt } from "./windows.js";

const MOST_ROWS = 12;
const MOST_FRAMES = 1000;
const MOVING = ["uniform", "looped"];
const SPACE = "http://www.w3.org/2000/svg";

export class WindowsView {
  constructor() {
    this.step = 0;
    this.given = null;
    this.element = document.createElement("button");
    Object.assign(this.element, { type: "button", className: "videoldm-windows", hidden: true });
    this.caption = document.createElement("span");
    this.picture = document.createElementNS(SPACE, "svg");
    this.picture.setAttribute("preserveAspectRatio", "none");
    this.element.append(this.picture, this.caption);
    this.element.addEventListener("click", () => this.next());
  }

  /** Show the windows of these settings; hidden if there are none. */
  show(given) {
    this.given = given;
    const drawn = given && given.frames > 0 && given.frames <= MOST_FRAMES;
    const plan = drawn ? windowsAt({ ...given, step: this.stepShown() }) : [];
    this.element.hidden = plan.length === 0;
    if (plan.length) this.draw(plan);
  }

  stepShown() {
    const moves = MOVING.includes(this.given?.window_schedule);
    return moves ? this.step % Math.max(this.given.steps ?? 1, 1) : 0;
  }

  next() {
    this.step += 1;
    this.show(this.given);
  }

  draw(plan) {
    const { frames, overlap, fuse, window_schedule, steps } = this.given;
    const rows = Math.min(plan.length, MOST_ROWS);
    this.picture.setAttribute("viewBox", `0 0 ${frames} ${rows}`);
    this.picture.replaceChildren(
      ...plan.slice(0, rows).map((one, row) => bars(one, row, weightsOf(one, frames, overlap, fuse))),
    );
    const moves = MOVING.includes(window_schedule);
    const values = { windows: plan.length, frames, step: this.stepShown() + 1, steps };
    const key = moves ? "windowsAtStep" : window_schedule === "views" ? "viewsLaid" : "windowsLaid";
    this.caption.textContent = say(key, values);
    this.element.title = say("windowsTip");
    this.element.ariaLabel = this.caption.textContent;
  }
}

/** A window as an SVG path with a bar for each of its frames. */
function bars(window, row, weights) {
  const path = document.createElementNS(SPACE, "path");
  const parts = window.map((frame, k) => {
    const height = 0.15 + 0.7 * weights[k];
    return `M${frame} ${row + 0.95}v${-height}h1v${height}z`;
  });
  path.setAttribute("d", parts.join(""));
  path.style.setProperty("--hue", (210 + 67 * row) % 360);
  return path;
}
