// A note in a node: what it warned of, and why it failed.
//
// Any node may get one, ComfyUI's own included: a KSampler fails by layers of ours. The widget is
// there only as long as there is something to read.

import { addStillWidget } from "./widgets.js";

const LINE = 17; // pixels of a line of text
const CHARACTER = 6; // pixels, on average
const FRAME = 22; // pixels above and below all notes
const PADDING = 12; // pixels above and below the text of one
const MARGIN = 40; // pixels beside it, of the node and of the note
const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname)
  .split("/")
  .filter(Boolean)
  .at(-1);
const FORESEEN = new Set(["ValueError", "CheckpointError", "OSError", "FileNotFoundError"]);
const views = new WeakMap();

/** Note a warning, once. */
export function noteWarning(node, text) {
  if (node) viewOf(node).warn(text);
}

/** Note why a node of ours, or one that ran code of ours, ended the run. */
export function noteError(node, error) {
  const ours = error.node_type?.startsWith("VideoLDM_") || madeHere(error.traceback);
  if (node && ours) viewOf(node).fail(sentence(error));
}

/** Note why the server refused to queue a node of ours, in the node's own words. */
export function noteRefusal(node, { class_type, errors }) {
  if (!node || !class_type?.startsWith("VideoLDM_")) return;
  const own = errors.find((one) => one.type === "custom_validation_failed");
  const name = own?.extra_info?.input_name;
  if (own) viewOf(node).fail(own.details.replace(`${name} - `, ""));
}

/** The node begins anew: what it warned of is past. */
export function forgetWarnings(node) {
  if (node) views.get(node)?.warn(null);
}

/** A new run begins. */
export function forgetError(node) {
  views.get(node)?.fail("");
}

function madeHere(traceback) {
  const lines = [traceback ?? []].flat().join("\n").replaceAll("\\", "/");
  return lines.includes(`/${PACK}/`);
}

/** The first line; the kind of error only where nobody foresaw it. */
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

  /** Add a warning; null takes all away. */
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
