// What this pack adds to ComfyUI's browser side: the timeline, estimates, progress, live previews.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./graph.js";
import { makeRoom, playPreviews } from "./previews.js";
import { attachStatus, statusOf } from "./status.js";
import { loadTexts } from "./texts.js";
import { attachTimeline } from "./timeline_widget.js";

const WITH_STATUS = new Set([
  "VideoLDM_VideoSampler",
  "VideoLDM_InterpolateFrames",
  "VideoLDM_UpsampleVideo",
  "VideoLDM_TemporalVAEDecode",
]);

app.registerExtension({
  name: "VideoLDM",

  async init() {
    document.head.append(
      Object.assign(document.createElement("link"), {
        rel: "stylesheet",
        href: new URL("style.css", import.meta.url).href,
      }),
    );
    await loadTexts();
  },

  async setup() {
    api.addEventListener("videoldm.progress", ({ detail }) => {
      statusOf(findNode(app.rootGraph, detail.node))?.tell(detail);
    });
    api.addEventListener("b_preview_with_metadata", ({ detail }) => {
      makeRoom(findNode(app.rootGraph, detail.displayNodeId));
    });
    // Another node begins, or nothing runs any more.
    api.addEventListener("executing", () => everyStatus((view) => view.rest()));
    api.addEventListener("graphChanged", () => everyStatus((view) => view.foretell()));
  },

  async nodeCreated(node) {
    if (node.comfyClass === "VideoLDM_LongHorizonSegments") attachTimeline(node);
    if (!WITH_STATUS.has(node.comfyClass)) return;
    attachStatus(node);
    playPreviews(node);
  },

  async afterConfigureGraph() {
    everyStatus((view) => view.foretell());
  },
});

function everyStatus(act, graph = app.rootGraph) {
  for (const node of graph?.nodes ?? []) {
    const view = statusOf(node);
    if (view) act(view);
    if (node.subgraph) everyStatus(act, node.subgraph);
  }
}
