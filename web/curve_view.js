// Editor of a curve: a line with points to drag, and fields for the selected point.
//
// Independent of the node and of JSON: it shows a curve and reports changed ones.

import * as model from "./curve.js";
import { button, element } from "./elements.js";
import { say } from "./texts.js";

const RISE = 0.05; // step of the arrow keys in y; a fifth of it with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const SVG = "http://www.w3.org/2000/svg";

export class CurveView {
  /** `changed(curve)` is called after each finished edit. */
  constructor({ changed }) {
    this.changed = changed;
    this.curve = { points: [[0, 1]], over: "frames", interpolation: "linear" };
    this.at = 0;
    this.drag = null;
    this.element = element("div", "videoldm-curve");
    this.area = element("div", "videoldm-plot");
    this.problem = element("div", "videoldm-problem");
    this.fields = ["x", "y"].map((axis) => this.field(axis));
    this.build();
  }

  build() {
    this.problem.role = "alert";
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("viewBox", "0 0 100 100");
    picture.setAttribute("preserveAspectRatio", "none");
    this.line = document.createElementNS(SVG, "polyline");
    this.grid = document.createElementNS(SVG, "path");
    this.grid.setAttribute("class", "videoldm-grid");
    picture.append(this.grid, this.line);
    this.points = element("div", "videoldm-points");
    this.limits = element("div", "videoldm-limits");
    Object.assign(this.points, { role: "listbox", ariaLabel: say("curve"), title: say("curveTip") });
    this.points.addEventListener("pointerdown", (event) => this.grabbed(event));
    this.points.addEventListener("pointermove", (event) => this.dragged(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.points.addEventListener(end, () => this.dropped());
    }
    this.points.addEventListener("keydown", (event) => this.pressed(event));
    this.area.append(picture, this.limits, this.points);
    const row = element("div", "videoldm-row");
    row.append(...this.fields, button("deletePoint", "×", () => this.remove()));
    this.element.append(this.area, this.problem, row);
    // Keep key events from ComfyUI, where Delete would delete the node.
    this.element.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    });
    this.element.addEventListener("keyup", (event) => event.stopPropagation());
  }

  field(axis) {
    const input = Object.assign(element("input"), { type: "number", step: "any" });
    input.addEventListener("change", () => {
      const [x, y] = this.fields.map((one) => Number(one.value));
      if (Number.isFinite(x) && Number.isFinite(y)) this.put(this.at, [x, y]);
    });
    input.dataset.axis = axis;
    return input;
  }

  // Display.

  show(curve) {
    this.problem.textContent = "";
    this.element.classList.remove("videoldm-broken");
    this.curve = curve;
    this.at = Math.min(this.at, curve.points.length - 1);
    this.draw();
  }

  /** Show what is wrong with the text; the last valid curve stays, greyed out. */
  showProblem(sentence) {
    this.problem.textContent = sentence;
    this.element.classList.add("videoldm-broken");
  }

  get spans() {
    return this.drag?.spans ?? model.extent(this.curve);
  }

  /** The position of a point in the plot, in percent from the upper left. */
  place([x, y]) {
    const { x: [left, right], y: [low, high] } = this.spans;
    return [(100 * (x - left)) / (right - left || 1), (100 * (high - y)) / (high - low || 1)];
  }

  draw() {
    const hadFocus = this.points.contains(document.activeElement);
    const { x: [left, right], y: [low, high] } = this.spans;
    const line = model.outline(this.curve).map((point) => this.place(point).join(","));
    this.line.setAttribute("points", line.join(" "));
    const levels = [...Array(5).keys()].map((k) => low + (k / 4) * (high - low));
    this.grid.setAttribute("d", levels.map((y) => `M0 ${this.place([0, y])[1]}H100`).join(""));
    this.limits.replaceChildren(
      ...[["videoldm-top", high], ["videoldm-bottom", low]].map(([name, y]) =>
        element("span", name, String(y)),
      ),
      element("span", "videoldm-end", `${say(this.curve.over)} ${left} … ${right}`),
    );
    this.points.replaceChildren(...this.curve.points.map((one, index) => this.dot(one, index)));
    if (hadFocus) this.points.children[this.at]?.focus({ preventScroll: true });
    this.fields.forEach((field, axis) => {
      const name = say(axis ? "strength" : this.curve.over);
      Object.assign(field, { value: this.curve.points[this.at][axis], ariaLabel: name, title: name });
    });
  }

  dot(point, index) {
    const dot = element("div", "videoldm-point");
    Object.assign(dot, { role: "option", tabIndex: 0, ariaSelected: String(index === this.at) });
    Object.assign(dot, { ariaLabel: point.join(", "), title: point.join(", ") });
    dot.dataset.index = index;
    const [left, top] = this.place(point);
    Object.assign(dot.style, { left: `${left}%`, top: `${top}%` });
    return dot;
  }

  // Edits.

  commit(points) {
    this.curve = { ...this.curve, points };
    this.draw();
    this.changed(this.curve);
  }

  put(at, point) {
    if (!this.isBroken) this.commit(model.moved(this.curve, at, point));
  }

  remove() {
    if (this.isBroken) return;
    const points = model.removed(this.curve, this.at);
    this.at = Math.min(this.at, points.length - 1);
    this.commit(points);
  }

  get isBroken() {
    return this.element.classList.contains("videoldm-broken");
  }

  pressed(event) {
    if (event.target.dataset.index === undefined || event.ctrlKey || event.metaKey) return;
    this.at = Number(event.target.dataset.index);
    const way = ARROWS[event.key];
    if (way) {
      const [x, y] = this.curve.points[this.at];
      const step = model.stepOf(this.curve.over) * (event.shiftKey ? 5 : 1);
      const rise = event.shiftKey ? RISE / 5 : RISE;
      this.put(this.at, [x + way[0] * step, y + way[1] * rise]);
    } else if (event.key === "Delete" || event.key === "Backspace") this.remove();
    else if (event.key === "Enter") this.fields[1].select();
    else return;
    event.preventDefault();
  }

  // Mouse: pressing on an empty place adds a point, which can be dragged at once.

  point(event) {
    const { left, top, width, height } = this.points.getBoundingClientRect();
    const { x: [from, to], y: [low, high] } = this.spans;
    const part = (event.clientY - top) / height;
    const y = high - Math.min(Math.max(part, 0), 1) * (high - low);
    return [from + ((event.clientX - left) / width) * (to - from), y];
  }

  grabbed(event) {
    if (event.button !== 0 || this.isBroken) return;
    event.preventDefault();
    event.stopPropagation();
    const { index } = event.target.dataset;
    const before = this.curve;
    if (index === undefined) {
      const { points, at } = model.added(this.curve, this.point(event));
      this.curve = { ...this.curve, points };
      this.at = at;
    } else this.at = Number(index);
    // The extent of the plot is fixed while dragging.
    this.drag = { before, spans: model.extent(before) };
    this.draw();
    this.points.children[this.at].focus({ preventScroll: true });
    this.points.setPointerCapture(event.pointerId);
  }

  dragged(event) {
    if (!this.drag) return;
    this.curve = { ...this.curve, points: model.moved(this.curve, this.at, this.point(event)) };
    this.draw();
  }

  dropped() {
    if (!this.drag) return;
    const { before } = this.drag;
    this.drag = null;
    if (JSON.stringify(before.points) === JSON.stringify(this.curve.points)) this.draw();
    else this.commit(this.curve.points);
  }
}
