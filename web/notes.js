// A note in a node with its warnings and errors.
//
// Any node can get one, also ComfyUI's own: a KSampler may fail in layers of this pack. The widget
// exists only while there is something to show.

import { addStillWidget } from "./widgets.js";

const LINE = 17; // pixels, height of a line of text
const CHARACTER = 6; // pixels, average width
const FRAME = 22; // pixels above and below the note, in sum
const PADDING = 12; // pixels above and below each message, in sum
const MARGIN = 40; // pixels at the sides of the text, in sum
const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname)
  .split("/")
  .filter(Boolean)
  .at(-1);
const FORESEEN = new Set(["ValueError", "CheckpointError", "OSError", "FileNotFoundError"]);
const views = new WeakMap();

/** Show a warning in the node, once. */
export function noteWarning(node, text) {
  if (node) viewOf(node).warn(text);
}

/** Show the error of a run if it comes from a node or from code of this pack. */
export function noteError(node, error) {
  const ours = error.node_type?.startsWith("VideoLDM_") || madeHere(error.traceback);
  if (node && ours) viewOf(node).fail(sentence(error));
}

/** Show why the server rejected a node of this pack, in the words of the node's own validation. */
export function noteRejection(node, { class_type, errors }) {
  if (!node || !class_type?.startsWith("VideoLDM_")) return;
  const own = errors.find((one) => one.type === "custom_validation_failed");
  const name = own?.extra_info?.input_name;
  if (own) viewOf(node).fail(own.details.replace(`${name} - `, ""));
}

/** Remove the warnings of a node that starts again. */
export function forgetWarnings(node) {
  if (node) views.get(node)?.warn(null);
}

/** Remove the error of a previous run. */
export function forgetError(node) {
  views.get(node)?.fail("");
}

function madeHere(traceback) {
  const lines = [traceback ?? []].flat().join("\n").replaceAll("\\", "/");
  return lines.includes(`/${PACK}/`);
}

/** The first line of the message, with the exception's type only if it is unexpected. */
function sentence({ exception_message, exception_type }) {
  const kind = exception_type?.split(".").at(-1) ?? "";
  const text = exception_message?.trim().split("\n")[0] ?? "";
  if (!text) return `unexpected ${kind} without a reason`;
  return FORESEEN.has(kind) ? text : `unexpected ${kind}: ${text}`;
}

function viewOf(node) {
  if (!views.has(node)) views.set(node, new NoteView(node));
  return views.get(node);
}

class NoteView {
  constructor(node) {
    this.node = node;
    this.warnings = [];
    this.error = "";
    this.added = 0; // pixels by which the node grew for the note
    this.element = document.createElement("div");
    this.element.className = "videoldm-note";
    this.element.role = "alert";
  }

  /** Add a warning; null removes all. */
  warn(text) {
    if (text !== null && this.warnings.includes(text)) return;
    this.warnings = text === null ? [] : [...this.warnings, text];
    this.show();
  }

  fail(text) {
    if (text === this.error) return;
    this.error = text;
    this.show();
  }

  show() {
    const rows = this.warnings.map((text) => row("videoldm-warning", text));
    if (this.error) rows.push(row("videoldm-error", this.error));
    this.element.replaceChildren(...rows);
    if (rows.length) this.open();
    else this.close();
    this.node.graph?.setDirtyCanvas?.(true, true);
  }

  open() {
    const [width, height] = this.node.size;
    this.height = Math.round(this.textHeight(width));
    this.widget ??= addStillWidget(this.node, "note", this.element, () => this.height);
    const needed = Math.max(height, this.node.computeSize()[1]);
    this.added += needed - height;
    this.node.setSize([width, needed]);
  }

  close() {
    if (!this.widget) return;
    this.widget.onRemove?.();
    const { widgets = [] } = this.node;
    const at = widgets.indexOf(this.widget);
    if (at >= 0) widgets.splice(at, 1);
    this.widget = null;
    const [width, height] = this.node.size;
    this.node.setSize([width, Math.max(height - this.added, this.node.computeSize()[1])]);
    this.added = 0;
  }

  textHeight(width) {
    const perLine = Math.max(16, (width - MARGIN) / CHARACTER);
    const texts = [...this.warnings, this.error].filter(Boolean);
    const lines = texts.reduce((sum, text) => sum + Math.ceil(text.length / perLine), 0);
    return FRAME + LINE * lines + PADDING * texts.length;
  }
}

function row(className, text) {
  return Object.assign(document.createElement("div"), { className, textContent: text, title: text });
}
