// A preview in Load Video: exactly the frames that it will load, in their order and at their rate.
//
// ComfyUI plays the whole file. Where only a part of it is loaded, or at another rate, the server
// makes a small video of that with the code that loads it (nodes/host/comfyui/selection_preview.py),
// and it is played here in place of the other.

import { api } from "../../scripts/api.js";
import { forgetWarnings, noteWarning } from "./notes.js";
import { previewed } from "./previews.js";
import { say } from "./texts.js";
import { addStillWidget, follow } from "./widgets.js";

const WAIT = 400; // milliseconds without a change
const HEIGHT = 240; // pixels of the player and the line below it
const WHOLE = {
  start: 0,
  count: 0,
  stride: 1,
  force_rate: 0,
  start_time: 0,
  duration: 0,
  ping_pong: false,
};
const SHAPE = ["width", "height", "fit", "multiple_of", "alpha"];
const NAMES = ["file", ...Object.keys(WHOLE), ...SHAPE, "edit"];
const asked = new WeakMap();
const players = new WeakMap();
const chosen = new WeakMap();

/** Let the preview follow the widgets of a Load Video. */
export function followSelection(node) {
  for (const name of NAMES) {
    const widget = widgetOf(node, name);
    if (widget) follow(widget, () => showSelection(node));
  }
}

/** Show what a Load Video has chosen, if it changed; ComfyUI shows whole files by itself. */
export function showSelection(node) {
  if (node.comfyClass !== "VideoLDM_LoadVideo") return;
  const query = queryOf(node);
  if (chosen.get(node) === query) return;
  const isEdited = /[1-9]/.test(textOf(node, "edit") ?? "");
  const isPart = isEdited || Object.entries(WHOLE).some(([name, whole]) => valueOf(node, name) !== whole);
  const isRendered = String(valueOf(node, "file")).startsWith("rendered: ");
  chosen.set(node, query);
  clearTimeout(asked.get(node)?.timer);
  if (isPart || isRendered) {
    const turn = { timer: setTimeout(() => show(node, turn), WAIT) };
    asked.set(node, turn);
  } else {
    asked.delete(node);
    players.get(node)?.hide();
  }
}

async function show(node, turn) {
  if (isWired(node)) return; // Nobody knows the values before the run.
  const reply = await api.fetchApi(`/videoldm/selection?${queryOf(node)}`);
  if (!reply.ok || asked.get(node) !== turn || !node.graph) return;
  const found = await reply.json();
  forgetWarnings(node);
  if (found.error) {
    noteWarning(node, found.error);
    return;
  }
  playerOf(node).play(found);
}

function playerOf(node) {
  if (!players.has(node)) players.set(node, new Player(node));
  return players.get(node);
}

/** The element in the node; it takes no room while ComfyUI's own preview is right. */
class Player {
  constructor(node) {
    this.node = node;
    this.root = document.createElement("div");
    this.root.className = "videoldm-selection";
    this.video = Object.assign(document.createElement("video"), {
      controls: true,
      loop: true,
      muted: true,
      autoplay: true,
      playsInline: true,
    });
    this.line = document.createElement("div");
    this.root.append(this.video, this.line);
    addStillWidget(node, "selection", this.root, () => (previewed.has(node) ? HEIGHT : 0));
  }

  play({ filename, subfolder, type, frames, shown, frame_rate, width, height }) {
    previewed.add(this.node);
    const query = new URLSearchParams({ filename, subfolder, type });
    this.video.src = api.apiURL(`/view?${query}`);
    const seconds = (frames / frame_rate).toFixed(2);
    const rate = Number(frame_rate.toFixed(3));
    const all = say("selection", { frames, seconds, rate, width, height });
    this.line.textContent = shown < frames ? `${all} ${say("selectionBegins", { shown })}` : all;
    this.lay();
  }

  hide() {
    previewed.delete(this.node);
    this.video.removeAttribute("src");
    this.video.load();
    this.lay();
  }

  lay() {
    const isShown = previewed.has(this.node);
    this.root.style.display = isShown ? "" : "none";
    const [wide, high] = this.node.computeSize();
    this.node.setSize([Math.max(this.node.size[0], wide), Math.max(this.node.size[1], high)]);
    this.node.setDirtyCanvas?.(true, true);
  }
}

function queryOf(node) {
  const query = new URLSearchParams();
  for (const name of NAMES) {
    const text = textOf(node, name);
    if (text !== undefined) query.set(name, text);
  }
  return query.toString();
}

function isWired(node) {
  const names = new Set(["file", ...Object.keys(WHOLE)]);
  return (node.inputs ?? []).some((one) => names.has(one.name) && one.link != null);
}

function widgetOf(node, name) {
  return node.widgets?.find((one) => one.name === name);
}

function textOf(node, name) {
  const value = valueOf(node, name);
  return typeof value === "object" ? JSON.stringify(value) : value;
}

function valueOf(node, name) {
  return widgetOf(node, name)?.value ?? WHOLE[name];
}
