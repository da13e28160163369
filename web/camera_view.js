// Editor of camera moves: ranges of frames on a track and, for the selected one, the view at its
// end, drawn over that at its start. Dragging turns or shifts the camera, a corner zooms, the
// handle above rolls.
//
// Independent of the node and its text: it shows ranges and reports changed ones.

import * as model from "./camera.js";
import { button, element } from "./elements.js";
import { say } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [32, 18]; // of a view, in an area of 100 x 50
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = { "+": ["zoom", 0.05], "-": ["zoom", -0.05], "[": ["roll", -1], "]": ["roll", 1] };

export class CameraView {
  /** `changed(camera)` is called after each finished edit. */
  constructor({ changed }) {
    this.changed = changed;
    this.camera = { ranges: [], frames: 16 };
    this.at = 0;
    this.drag = null;
    this.shifts = false;
    this.element = element("div", "videoldm-camera");
    this.track = element("div", "videoldm-ranges");
    this.problem = element("div", "videoldm-problem");
    this.fields = Object.fromEntries(Object.keys(model.MOVES).map((name) => [name, this.field(name)]));
    this.build();
  }

  build() {
    this.problem.role = "alert";
    Object.assign(this.track, { role: "listbox", ariaLabel: say("ranges"), title: say("rangesTip") });
    this.pad = svg("svg", { viewBox: "-50 -25 100 50", class: "videoldm-pad", tabindex: 0 });
    this.pad.setAttribute("aria-label", say("camera"));
    this.dragOn(this.track, (event) => this.grabbedRange(event));
    this.dragOn(this.pad, (event) => this.grabbedPicture(event));
    for (const area of [this.track, this.pad]) {
      area.addEventListener("keydown", (event) => this.pressed(event));
    }
    const fields = element("div", "videoldm-row");
    fields.append(...Object.values(this.fields).map(({ parentElement }) => parentElement));
    const buttons = element("div", "videoldm-row");
    this.mode = button("shifts", "✥", () => this.setShifts(!this.shifts));
    const add = button("addRange", "+", () => this.add());
    const remove = button("deleteRange", "×", () => this.remove());
    buttons.append(add, remove, this.mode, element("span", "videoldm-total", ""));
    this.hint = buttons.lastChild;
    this.element.append(this.track, this.pad, this.problem, fields, buttons);
    // Keep key events from ComfyUI, where Delete would delete the node.
    this.element.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    });
    this.element.addEventListener("keyup", (event) => event.stopPropagation());
    this.setShifts(false);
  }

  field(name) {
    const label = element("label", "videoldm-field");
    const step = model.TURNS.includes(name) ? 1 : 0.05;
    const input = Object.assign(element("input"), { type: "number", step });
    input.dataset.move = name;
    label.title = say(`${name}Tip`);
    label.append(element("span", "", say(name)), input);
    input.addEventListener("change", () => {
      const amount = Number(input.value);
      if (Number.isFinite(amount)) this.edit((one) => model.changed(one, { [name]: amount }, true));
    });
    return input;
  }

  /** Make dragging shift the camera, or turn it. */
  setShifts(shifts) {
    this.shifts = shifts;
    this.mode.ariaPressed = String(shifts);
    this.hint.textContent = say(shifts ? "dragShifts" : "dragTurns");
  }

  // Display.

  show(camera) {
    this.problem.textContent = "";
    this.element.classList.remove("videoldm-broken");
    this.camera = camera;
    this.at = Math.max(Math.min(this.at, camera.ranges.length - 1), 0);
    this.draw();
  }

  /** Show what is wrong with the text; the last valid moves stay, greyed out. */
  showProblem(sentence) {
    this.problem.textContent = sentence;
    this.element.classList.add("videoldm-broken");
  }

  get range() {
    return this.camera.ranges[this.at];
  }

  draw() {
    const hadFocus = this.track.contains(document.activeElement);
    this.track.replaceChildren(...this.camera.ranges.map((one, index) => this.bar(one, index)));
    if (hadFocus) this.track.children[this.at]?.focus({ preventScroll: true });
    for (const [name, input] of Object.entries(this.fields)) {
      input.disabled = !this.range;
      input.value = this.range ? (this.range.moves[name] ?? 0) : "";
    }
    this.pad.replaceChildren(...this.picture());
  }

  bar(range, index) {
    const bar = element("div", "videoldm-range", model.writeCamera({ ranges: [range] }));
    Object.assign(bar, { role: "option", tabIndex: 0, ariaSelected: String(index === this.at) });
    const most = Math.max(this.camera.frames - 1, 1);
    bar.dataset.index = index;
    bar.title = bar.textContent;
    bar.style.marginLeft = `${(100 * range.first) / most}%`;
    bar.style.width = `${(100 * (range.last - range.first)) / most}%`;
    bar.style.setProperty("--hue", (210 + 67 * index) % 360);
    bar.append(element("span", "videoldm-begin"), element("span", "videoldm-finish"));
    return bar;
  }

  /** The view at the start of the selected range, and that at its end with handles. */
  picture() {
    const frame = { x: -WIDTH / 2, y: -HEIGHT / 2, width: WIDTH, height: HEIGHT };
    const before = svg("rect", { ...frame, class: "videoldm-before" });
    if (!this.range) return [before];
    const { x, y, scale, angle } = model.view(this.range);
    const place = `translate(${x * WIDTH} ${y * WIDTH}) rotate(${angle}) scale(${scale})`;
    const group = svg("g", { transform: place, class: "videoldm-after" });
    const top = -HEIGHT / 2 - 5 / scale;
    const small = 1.8 / scale;
    group.append(
      svg("rect", { ...frame, "data-act": "move" }),
      svg("path", { d: `M0 ${-HEIGHT / 2}V${top}` }),
      svg("circle", { cx: 0, cy: top, r: small, "data-act": "roll" }),
      svg("circle", { cx: WIDTH / 2, cy: HEIGHT / 2, r: small, "data-act": "zoom" }),
    );
    const way = svg("path", { d: `M0 0L${x * WIDTH} ${y * WIDTH}`, class: "videoldm-way" });
    const lines = [];
    for (const sx of [-1, 1]) {
      for (const sy of [-1, 1]) lines.push(this.ray(sx, sy, { x, y, scale, angle }));
    }
    return [before, ...lines, way, group];
  }

  /** A line from a corner of the first view to the same corner of the last. */
  ray(sx, sy, { x, y, scale, angle }) {
    const turn = (angle * Math.PI) / 180;
    const [a, b] = [(sx * WIDTH * scale) / 2, (sy * HEIGHT * scale) / 2];
    const to = [
      x * WIDTH + a * Math.cos(turn) - b * Math.sin(turn),
      y * WIDTH + a * Math.sin(turn) + b * Math.cos(turn),
    ];
    const d = `M${(sx * WIDTH) / 2} ${(sy * HEIGHT) / 2}L${to.join(" ")}`;
    return svg("path", { d, class: "videoldm-ray" });
  }

  // Edits.

  commit(ranges) {
    this.camera = { ...this.camera, ranges };
    this.draw();
    this.changed(this.camera);
  }

  edit(change) {
    if (this.range && !this.isBroken) this.commit(this.camera.ranges.with(this.at, change(this.range)));
  }

  add() {
    if (this.isBroken) return;
    this.at = this.camera.ranges.length;
    this.commit(model.added(this.camera));
  }

  remove() {
    if (!this.range || this.isBroken) return;
    const left = this.camera.ranges.toSpliced(this.at, 1);
    this.at = Math.max(Math.min(this.at, left.length - 1), 0);
    this.commit(left);
  }

  get isBroken() {
    return this.element.classList.contains("videoldm-broken");
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey) return;
    const { index } = event.target.dataset;
    if (index !== undefined) this.at = Number(index);
    const way = ARROWS[event.key];
    const { frames } = this.camera;
    if (way && index !== undefined) {
      const [by] = way;
      if (event.shiftKey) {
        this.edit((one) => model.spanning(one, one.first, one.last + by, frames));
      } else this.edit((one) => model.shifted(one, by, frames));
    } else if (way) {
      const shifts = this.shifts !== event.shiftKey;
      this.edit((one) => model.changed(one, moved(way[0], way[1], shifts, shifts ? 0.05 : 1)));
    } else if (event.key in KEYS) {
      const [name, by] = KEYS[event.key];
      this.edit((one) => model.changed(one, { [name]: by }));
    } else if (event.key === "Delete" || event.key === "Backspace") this.remove();
    else return;
    event.preventDefault();
  }

  // Mouse.

  /**
   * Drag on an area: grab(event) returns an edit(range, dx, dy, event), called until the release
   * with (dx, dy) as fractions of the area, or null.
   */
  dragOn(area, grab) {
    area.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.isBroken) return;
      event.preventDefault();
      event.stopPropagation();
      const change = grab(event);
      if (!change) return;
      const { width, height } = area.getBoundingClientRect();
      const from = [event.clientX, event.clientY];
      this.drag = { change, from, size: [width, height], before: this.camera };
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener("pointermove", (event) => {
      if (!this.drag) return;
      const { change, from, size, before } = this.drag;
      const by = [(event.clientX - from[0]) / size[0], (event.clientY - from[1]) / size[1]];
      const range = change(before.ranges[this.at], ...by, event);
      this.camera = { ...before, ranges: before.ranges.with(this.at, range) };
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      area.addEventListener(end, () => {
        if (!this.drag) return;
        const { before } = this.drag;
        this.drag = null;
        const isNew = JSON.stringify(before.ranges) !== JSON.stringify(this.camera.ranges);
        if (isNew) this.commit(this.camera.ranges);
      });
    }
  }

  grabbedRange(event) {
    const bar = event.target.closest(".videoldm-range");
    if (!bar) return null;
    const part = event.target.className;
    this.at = Number(bar.dataset.index);
    this.draw();
    this.track.children[this.at].focus({ preventScroll: true });
    const { frames } = this.camera;
    const far = (dx) => dx * Math.max(frames - 1, 1);
    if (part === "videoldm-begin") {
      return (one, dx) => {
        const first = Math.min(one.first + far(dx), one.last - 1);
        return model.spanning(one, first, one.last, frames);
      };
    }
    if (part === "videoldm-finish") {
      return (one, dx) => model.spanning(one, one.first, one.last + far(dx), frames);
    }
    return (one, dx) => model.shifted(one, far(dx), frames);
  }

  grabbedPicture(event) {
    if (!this.range) return null;
    this.pad.focus({ preventScroll: true });
    const act = event.target.dataset.act ?? "move";
    const { x, y } = model.view(this.range);
    // The pointer relative to the centre of the last view, in units of the area.
    const box = this.pad.getBoundingClientRect();
    const unit = Math.min(box.width / 100, box.height / 50);
    const from = [
      (event.clientX - box.left - box.width / 2) / unit - x * WIDTH,
      (event.clientY - box.top - box.height / 2) / unit - y * WIDTH,
    ];
    const now = (dx, dy) => [from[0] + (dx * box.width) / unit, from[1] + (dy * box.height) / unit];
    if (act === "zoom") {
      return (one, dx, dy) => {
        const ratio = Math.hypot(...now(dx, dy)) / Math.hypot(...from);
        return model.changed(one, { zoom: -Math.log2(Math.max(ratio, 0.01)) });
      };
    }
    if (act === "roll") {
      return (one, dx, dy) => {
        const [to, was] = [now(dx, dy), from].map(([a, b]) => Math.atan2(b, a));
        const turn = ((((to - was) * 180) / Math.PI + 540) % 360) - 180;
        return model.changed(one, { roll: turn });
      };
    }
    return (one, dx, dy, moving) => {
      const shifts = this.shifts !== moving.shiftKey;
      const parts = [(dx * box.width) / unit / WIDTH, (dy * box.height) / unit / WIDTH];
      return model.changed(one, moved(...parts, shifts, shifts ? model.SHIFT : model.TURN));
    };
  }
}

/** Moves to the right and down, as pan and tilt or as translations. */
function moved(x, y, shifts, scale) {
  const [right, down] = shifts ? ["truck", "pedestal"] : ["pan", "tilt"];
  return { [right]: x * scale, [down]: y * scale };
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
