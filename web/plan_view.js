// The noise plan of a sampled video, as an image with a caption.

import { api } from "../../scripts/api.js";
import { say } from "./texts.js";

const HEIGHT = 104; // pixels, with margins

export class PlanView {
  constructor() {
    this.element = Object.assign(document.createElement("figure"), { className: "videoldm-plan" });
    this.element.hidden = true;
    this.picture = Object.assign(document.createElement("img"), { draggable: false });
    this.caption = document.createElement("figcaption");
    this.element.append(this.picture, this.caption);
  }

  get height() {
    return this.element.hidden ? 0 : HEIGHT;
  }

  /** `plan` has the image file and the figures frames, rows, together and evaluations. */
  show(plan) {
    const { filename, subfolder, type, rows, together } = plan;
    const place = new URLSearchParams({ filename, subfolder, type });
    this.picture.src = api.apiURL(`/view?${place}`);
    this.caption.textContent = say("plan", {
      rows,
      frames: together,
      evaluations: (plan.evaluations / plan.frames).toFixed(1),
    });
    this.picture.alt = this.caption.textContent;
    this.element.title = `${this.caption.textContent}\n${say("planTip")}`;
    this.element.hidden = false;
  }
}
