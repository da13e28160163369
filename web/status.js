// A line in a node: what it is going to make or, while it runs, how far it is.

import { forecast } from "./forecast.js";
import { progressParts } from "./progress.js";
import { say } from "./texts.js";
import { addStillWidget, follow } from "./widgets.js";

const HEIGHT = 60;
const views = new WeakMap();

export function attachStatus(node) {
  const view = new StatusView(node);
  views.set(node, view);
  for (const widget of node.widgets ?? []) follow(widget, () => view.foretell());
  addStillWidget(node, "status", view.element, HEIGHT);
  view.foretell();
}

/** The view of a node, if it has one. */
export function statusOf(node) {
  return node && views.get(node);
}

class StatusView {
  constructor(node) {
    this.node = node;
    this.element = block("videoldm-status");
    this.estimate = block("videoldm-estimate");
    this.progress = block("videoldm-progress");
    this.bar = block("videoldm-bar");
    this.estimate.title = say("estimateTip");
    this.progress.role = "status";
    this.element.append(this.estimate, this.progress, this.bar);
  }

  foretell() {
    if (this.node.graph) this.estimate.textContent = line(forecast(this.node));
  }

  tell(told) {
    this.element.classList.add("videoldm-runs");
    this.progress.textContent = line(progressParts(told));
    this.bar.style.width = `${(100 * told.done) / told.total}%`;
  }

  /** Nothing runs any more. */
  rest() {
    this.element.classList.remove("videoldm-runs");
    this.progress.textContent = "";
    this.bar.style.width = "0";
  }
}

function line(parts) {
  return parts.map(([key, values]) => say(key, values)).join(" · ");
}

function block(className) {
  return Object.assign(document.createElement("div"), { className });
}
