// Editor of segments: a timeline, fields for the selected segment, buttons.
//
// Independent of the node and of JSON: it shows a list of segments and reports changed ones.

import { FinishedView } from "./finished_view.js";
import * as model from "./timeline.js";
import { button, element } from "./elements.js";
import { say } from "./texts.js";

const BUTTONS = [
  ["add", "+", (view) => view.edit((all, at) => model.insertAfter(all, at), +1)],
  ["split", "✂", (view) => view.edit((all, at) => model.split(all, at))],
  ["earlier", "◀", (view) => view.reorder(-1)],
  ["later", "▶", (view) => view.reorder(+1)],
  ["delete", "×", (view) => view.edit(model.remove)],
];
const KEYS = {
  ArrowLeft: (view) => view.choose(view.at - 1),
  ArrowRight: (view) => view.choose(view.at + 1),
  Home: (view) => view.choose(0),
  End: (view) => view.choose(Infinity),
  "Shift+ArrowLeft": (view) => view.lengthen(-1),
  "Shift+ArrowRight": (view) => view.lengthen(+1),
  "Ctrl+ArrowLeft": (view) => view.reorder(-1),
  "Ctrl+ArrowRight": (view) => view.reorder(+1),
  Enter: (view) => view.fields.prompt.focus(),
  Delete: (view) => view.edit(model.remove),
  Backspace: (view) => view.edit(model.remove),
  Insert: (view) => view.edit((all, at) => model.insertAfter(all, at), +1),
  "+": (view) => view.edit((all, at) => model.insertAfter(all, at), +1),
  "Shift++": (view) => view.edit((all, at) => model.insertAfter(all, at), +1),
  s: (view) => view.edit((all, at) => model.split(all, at)),
};

export class TimelineView {
  /** `changed(segments)` is called after each edit, `typing(segments)` on each keystroke. */
  constructor({ changed, typing }) {
    this.changed = changed;
    this.typing = typing;
    this.segments = [];
    this.at = 0;
    this.drag = null;
    this.element = element("div", "videoldm-timeline");
    this.track = element("div", "videoldm-track");
    this.lane = element("div", "videoldm-lane");
    this.problem = element("div", "videoldm-problem");
    this.total = element("span", "videoldm-total");
    this.finished = new FinishedView();
    this.fields = {};
    this.build();
  }

  build() {
    this.lane.role = "listbox";
    this.lane.ariaLabel = say("timeline");
    this.lane.setAttribute("aria-orientation", "horizontal");
    this.track.append(this.lane);
    this.problem.role = "alert";
    this.lane.addEventListener("keydown", (event) => this.pressed(event));
    this.lane.addEventListener("pointerdown", (event) => this.grabbed(event));
    this.lane.addEventListener("pointermove", (event) => this.dragged(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.lane.addEventListener(end, () => this.dropped());
    }
    const numbers = element("div", "videoldm-row");
    numbers.append(this.field("frames"), this.field("overlap"), this.field("seed"));
    const buttons = element("div", "videoldm-row");
    const made = BUTTONS.map(([name, sign, act]) => button(name, sign, () => act(this)));
    buttons.append(...made, this.total);
    this.element.append(this.track, this.finished.element, this.problem, this.field("prompt"), numbers, buttons);
    // Keep key events from ComfyUI, where Delete would delete the node.
    this.element.addEventListener("keydown", (event) => {
      const isHeld = event.ctrlKey || event.metaKey;
      if (!isHeld) event.stopPropagation();
      // Outside text fields, Ctrl+Z is the graph's; the browser would also undo typed text.
      if (isHeld && event.key.toLowerCase() === "z" && !("value" in event.target)) {
        event.preventDefault();
      }
    });
    // ComfyUI adds an undo step whenever Shift is released, even in the middle of a word.
    this.element.addEventListener("keyup", (event) => event.stopPropagation());
  }

  field(name) {
    const isPrompt = name === "prompt";
    const label = element("label", `videoldm-field videoldm-${name}`);
    const input = element(isPrompt ? "textarea" : "input");
    if (!isPrompt) Object.assign(input, { type: "number", min: name === "frames" ? 1 : 0 });
    if (name === "seed") input.placeholder = say("seedOfRun");
    label.title = say(`${name}Tip`);
    label.append(element("span", "", say(name)), input);
    if (isPrompt) {
      input.addEventListener("input", () => this.typed(name, input.value, this.typing));
      input.addEventListener("change", () => this.changed(this.segments));
    } else {
      input.addEventListener("change", () => this.typed(name, input.value));
    }
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.choose(this.at);
    });
    this.fields[name] = input;
    return label;
  }

  // Display.

  /** Show segments parsed from the widget. */
  show(segments) {
    this.problem.textContent = "";
    this.element.classList.remove("videoldm-broken");
    this.segments = segments;
    this.at = Math.min(this.at, segments.length - 1);
    this.draw();
  }

  /** Show what is wrong with the text; the last valid segments stay, greyed out. */
  showProblem(sentence) {
    this.problem.textContent = sentence;
    this.element.classList.add("videoldm-broken");
  }

  /** Remember the segments with which a run starts. */
  begin() {
    this.begun = this.segments;
  }

  /** Show the windows of a run of a sampler. */
  showRun(found, sampler) {
    this.finished.setRun(found, sampler, this.begun ?? this.segments);
    this.finished.show(this.segments);
  }

  /** Show which windows the present nodes of the workflow would sample again. */
  compare(nodes) {
    this.finished.compare(nodes);
    this.finished.show(this.segments);
  }

  draw() {
    const all = model.spans(this.segments);
    const whole = this.drag?.whole ?? model.totalFrames(this.segments);
    const hadFocus = this.lane.contains(document.activeElement);
    this.lane.style.setProperty("--segments", this.segments.length);
    this.lane.replaceChildren(
      ...this.segments.map((segment, index) => this.block(segment, index, all[index], whole)),
    );
    if (hadFocus) this.lane.children[this.at]?.focus({ preventScroll: true });
    for (const [name, input] of Object.entries(this.fields)) {
      const value = String(this.segments[this.at]?.[name] ?? "");
      if (input.value !== value) input.value = value;
    }
    this.fields.overlap.disabled = this.at === 0;
    if (!this.drag) this.finished.show(this.segments);
    const values = { segments: this.segments.length, frames: model.totalFrames(this.segments) };
    this.total.textContent = say(values.segments === 1 ? "totalOfOne" : "total", values);
  }

  block(segment, index, { start, stop }, whole) {
    const { prompt, frames, overlap, seed } = segment;
    const block = element("div", "videoldm-segment");
    block.role = "option";
    block.tabIndex = index === this.at ? 0 : -1;
    block.ariaSelected = String(index === this.at);
    block.ariaLabel = say("segmentLabel", { segment: index + 1, frames, overlap, prompt });
    block.title = prompt;
    block.dataset.index = index;
    block.style.left = `${(100 * start) / whole}%`;
    block.style.width = `${(100 * frames) / whole}%`;
    const shared = this.segments[index + 1]?.overlap ?? 0;
    block.style.setProperty("--fade-in", `${(100 * overlap) / frames}%`);
    block.style.setProperty("--fade-out", `${100 - (100 * shared) / frames}%`);
    block.style.setProperty("--hue", (210 + 67 * index) % 360);
    const place = `${start}–${stop - 1}${seed === undefined ? "" : ` · ${say("seed")} ${seed}`}`;
    const label = element("div", "videoldm-label");
    label.append(
      element("span", "videoldm-number", String(index + 1)),
      element("span", "videoldm-name", prompt || "…"),
      element("span", "videoldm-place", place),
    );
    block.append(label, element("span", "videoldm-edge"));
    return block;
  }

  // Edits.

  /** Apply an edit to the selected segment, then move the selection by `step`. */
  edit(edited, step = 0, notify = this.changed) {
    if (this.element.classList.contains("videoldm-broken")) return;
    const before = this.segments;
    this.segments = edited(before, this.at);
    if (this.segments === before) return;
    this.at = Math.min(Math.max(this.at + step, 0), this.segments.length - 1);
    this.draw();
    notify(this.segments);
  }

  reorder(step) {
    this.edit((all, at) => model.move(all, at, at + step), step);
  }

  lengthen(frames) {
    this.edit((all, at) => model.resize(all, at, all[at].frames + frames));
  }

  typed(name, value, notify = this.changed) {
    const meant = name === "prompt" ? value : value === "" ? undefined : Math.round(Number(value));
    this.edit((all, at) => model.change(all, at, name, meant), 0, notify);
  }

  /** Select and focus a segment. */
  choose(index) {
    this.at = Math.min(Math.max(index, 0), this.segments.length - 1);
    this.draw();
    this.lane.children[this.at]?.focus({ preventScroll: true });
  }

  pressed(event) {
    const held = (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + (event.shiftKey ? "Shift+" : "");
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act = KEYS[held + key];
    if (!act || !event.target.dataset.index) return;
    event.preventDefault();
    event.stopPropagation();
    act(this);
  }

  // Mouse: dragging an edge changes the length, dragging the body moves the segment.

  grabbed(event) {
    const block = event.target.closest(".videoldm-segment");
    if (!block || event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    this.choose(Number(block.dataset.index));
    if (this.element.classList.contains("videoldm-broken")) return;
    const whole = model.totalFrames(this.segments);
    // In screen pixels, so that it is right at every zoom.
    const framesPerPixel = whole / this.lane.getBoundingClientRect().width;
    const isEdge = event.target.classList.contains("videoldm-edge");
    const { frames } = this.segments[this.at];
    this.drag = { whole, framesPerPixel, isEdge, frames, x: event.clientX, before: this.segments };
    this.lane.setPointerCapture(event.pointerId);
  }

  dragged(event) {
    if (!this.drag) return;
    const { isEdge, framesPerPixel, frames, x } = this.drag;
    if (isEdge) {
      const wanted = frames + (event.clientX - x) * framesPerPixel;
      this.segments = model.resize(this.segments, this.at, wanted);
    } else {
      const left = this.lane.getBoundingClientRect().left;
      this.moveTo((event.clientX - left) * framesPerPixel);
    }
    this.draw();
  }

  /** Swap with a neighbour when the pointer, at `frame`, has passed its middle. */
  moveTo(frame) {
    const all = model.spans(this.segments);
    const middle = (index) => (all[index] ? (all[index].start + all[index].stop) / 2 : NaN);
    const step = frame > middle(this.at + 1) ? 1 : frame < middle(this.at - 1) ? -1 : 0;
    if (step === 0) return;
    this.segments = model.move(this.segments, this.at, this.at + step);
    this.at += step;
  }

  dropped() {
    if (!this.drag) return;
    const { before } = this.drag;
    this.drag = null;
    this.draw();
    if (this.segments !== before) this.changed(this.segments);
  }
}
