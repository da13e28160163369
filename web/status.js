// A status line in a node: an estimate of its next run and, while it runs, its progress.

import { forecast, windowsOf } from "./forecast.js";
import { PlanView } from "./plan_view.js";
import { progressParts } from "./progress.js";
import { say } from "./texts.js";
import { addStillWidget, follow, grow } from "./widgets.js";
import { WindowsView } from "./windows_view.js";

const HEIGHT = 60;
const WITH_WINDOWS = 150;
const views = new WeakMap();

export function attachStatus(node) {
  const view = new StatusView(node);
  views.set(node, view);
  addStillWidget(node, "status", view.element, () => view.height);
  view.updateEstimate();
}

/** The status view of a node, if it has one. */
export function statusOf(node) {
  return node && views.get(node);
}

class StatusView {
  constructor(node) {
    this.node = node;
    this.followed = new WeakSet();
    this.element = block("videoldm-status");
    this.estimate = block("videoldm-estimate");
    this.progress = block("videoldm-progress");
    this.bar = block("videoldm-bar");
    this.estimate.title = say("estimateTip");
    this.progress.role = "status";
    this.windows = new WindowsView();
    this.plan = new PlanView();
    const above = [this.estimate, this.windows.element, this.plan.element];
    this.element.append(...above, this.progress, this.bar);
  }

  get height() {
    return (this.windows.element.hidden ? HEIGHT : WITH_WINDOWS) + this.plan.height;
  }

  /** Follow all widgets, including those that a dynamic combo has added since. */
  follow() {
    for (const widget of this.node.widgets ?? []) {
      if (this.followed.has(widget)) continue;
      this.followed.add(widget);
      // Once more when a dynamic combo has added its widgets.
      follow(widget, () => [this.updateEstimate(), setTimeout(() => this.updateEstimate())]);
    }
  }

  updateEstimate() {
    this.follow();
    if (!this.node.graph) return;
    this.estimate.textContent = line(forecast(this.node));
    const before = this.height;
    this.windows.show(windowsOf(this.node));
    if (this.height !== before) grow(this.node);
  }

  /** Show the noise plan of a run. */
  showPlan(plan) {
    this.plan.show(plan);
    grow(this.node);
  }

  showProgress(progress) {
    this.element.classList.add("videoldm-runs");
    this.progress.textContent = line(progressParts(progress));
    this.bar.style.width = `${(100 * progress.done) / progress.total}%`;
  }

  /** Clear the progress. */
  clearProgress() {
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
