// Editor of bounding boxes: an area to draw them on, the label of the selected one, buttons.
//
// Independent of the node and of JSON: it shows a list of boxes and reports changed lists. An image
// behind the boxes is for orientation only: it is neither uploaded nor saved.

import * as model from "./boxes.js";
import { button, element } from "./elements.js";
import { say } from "./texts.js";

const STEP = 0.01; // of the arrow keys, as a fraction of the image
const ARROWS = {
  ArrowLeft: [-STEP, 0],
  ArrowRight: [STEP, 0],
  ArrowUp: [0, -STEP],
  ArrowDown: [0, STEP],
};

export class BoxesView {
  /** `changed(boxes)` is called after each finished edit. */
  constructor({ changed }) {
    this.changed = changed;
    this.boxes = [];
    this.at = -1;
    this.drag = null;
    this.element = element("div", "videoldm-boxes");
    this.area = element("div", "videoldm-canvas");
    this.problem = element("div", "videoldm-problem");
    this.label = element("input");
    this.file = Object.assign(element("input"), { type: "file", accept: "image/*", hidden: true });
    this.build();
  }

  build() {
    this.problem.role = "alert";
    Object.assign(this.area, { role: "listbox", ariaLabel: say("boxes"), title: say("boxesTip") });
    this.area.addEventListener("pointerdown", (event) => this.grabbed(event));
    this.area.addEventListener("pointermove", (event) => this.dragged(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.area.addEventListener(end, () => this.dropped());
    }
    this.area.addEventListener("keydown", (event) => this.pressed(event));
    Object.assign(this.label, { placeholder: say("boxLabel"), ariaLabel: say("boxLabel") });
    this.label.title = say("boxLabelTip");
    this.label.addEventListener("change", () => {
      this.replace({ ...this.boxes[this.at], label: this.label.value });
    });
    this.file.addEventListener("change", () => this.setBackground(this.file.files[0]));
    const row = element("div", "videoldm-row");
    row.append(this.label, this.file);
    row.append(button("picture", "▦", () => this.file.click()));
    row.append(button("deleteBox", "×", () => this.remove()));
    this.element.append(this.area, this.problem, row);
    // Keep key events from ComfyUI, where Delete would delete the node.
    this.element.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    });
    this.element.addEventListener("keyup", (event) => event.stopPropagation());
  }

  // Display.

  show(boxes) {
    this.problem.textContent = "";
    this.element.classList.remove("videoldm-broken");
    this.boxes = boxes;
    this.at = Math.min(this.at, boxes.length - 1);
    this.draw();
  }

  /** Show what is wrong with the text; the last valid boxes stay, greyed out. */
  showProblem(sentence) {
    this.problem.textContent = sentence;
    this.element.classList.add("videoldm-broken");
  }

  /** Show an image file behind the boxes. */
  async setBackground(file) {
    const picture = await createImageBitmap(file).catch(() => null);
    if (!picture) return;
    this.area.style.backgroundImage = `url(${URL.createObjectURL(file)})`;
    this.area.style.aspectRatio = `${picture.width} / ${picture.height}`;
  }

  draw() {
    const hadFocus = this.area.contains(document.activeElement);
    this.area.replaceChildren(...this.boxes.map((box, index) => this.block(box, index)));
    if (hadFocus) this.area.children[this.at]?.focus({ preventScroll: true });
    this.label.disabled = this.at < 0;
    this.label.value = this.boxes[this.at]?.label ?? "";
  }

  block(box, index) {
    const block = element("div", "videoldm-box", box.label || "…");
    Object.assign(block, { role: "option", tabIndex: 0, ariaSelected: String(index === this.at) });
    block.dataset.index = index;
    block.style.left = `${100 * box.x0}%`;
    block.style.top = `${100 * box.y0}%`;
    block.style.width = `${100 * (box.x1 - box.x0)}%`;
    block.style.height = `${100 * (box.y1 - box.y0)}%`;
    block.style.setProperty("--hue", (210 + 67 * index) % 360);
    block.append(element("span", "videoldm-corner"));
    return block;
  }

  // Edits.

  commit(boxes) {
    this.boxes = boxes;
    this.draw();
    this.changed(boxes);
  }

  replace(box) {
    if (this.at >= 0) this.commit(this.boxes.with(this.at, box));
  }

  remove() {
    if (this.at < 0 || this.element.classList.contains("videoldm-broken")) return;
    const left = this.boxes.toSpliced(this.at, 1);
    this.at = Math.min(this.at, left.length - 1);
    this.commit(left);
  }

  choose(index) {
    this.at = index;
    this.draw();
    this.area.children[index]?.focus({ preventScroll: true });
  }

  pressed(event) {
    if (!event.target.dataset.index || event.ctrlKey || event.metaKey) return;
    this.at = Number(event.target.dataset.index);
    const box = this.boxes[this.at];
    const step = ARROWS[event.key];
    if (step) this.replace((event.shiftKey ? model.resized : model.moved)(box, ...step));
    else if (event.key === "Delete" || event.key === "Backspace") this.remove();
    else if (event.key === "Enter") this.label.focus();
    else return;
    event.preventDefault();
  }

  // Mouse: dragging from an empty place draws a box, its corner resizes it, its body moves it.

  point(event) {
    const { left, top, width, height } = this.area.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  grabbed(event) {
    if (event.button !== 0 || this.element.classList.contains("videoldm-broken")) return;
    event.preventDefault();
    event.stopPropagation();
    const { index } = event.target.closest(".videoldm-box")?.dataset ?? {};
    const from = this.point(event);
    const before = this.boxes;
    if (index === undefined) {
      const label = this.boxes[this.at]?.label ?? "";
      this.boxes = [...before, model.span(label, from, from)];
      this.choose(before.length);
    } else this.choose(Number(index));
    const isCorner = event.target.classList.contains("videoldm-corner");
    const act = index === undefined ? "draw" : isCorner ? "resize" : "move";
    this.drag = { act, from, before, box: this.boxes[this.at] };
    this.area.setPointerCapture(event.pointerId);
  }

  dragged(event) {
    if (!this.drag) return;
    const { act, from, box } = this.drag;
    const to = this.point(event);
    const by = [to[0] - from[0], to[1] - from[1]];
    const edits = {
      draw: () => model.span(box.label, from, to),
      resize: () => model.resized(box, ...by),
      move: () => model.moved(box, ...by),
    };
    this.boxes = this.boxes.with(this.at, edits[act]());
    this.draw();
  }

  dropped() {
    if (!this.drag) return;
    const { act, before, box } = this.drag;
    this.drag = null;
    const now = this.boxes[this.at];
    const isClick = act === "draw" && !model.isLargeEnough(now);
    if (isClick || now === box) {
      this.boxes = before;
      this.at = Math.min(this.at, before.length - 1);
      this.draw();
    } else this.commit(this.boxes);
    if (act === "draw" && !isClick) this.label.select();
  }
}
