// The extension of ComfyUI's frontend: editors for segments, boxes, curves and camera moves,
// estimates, progress, warnings and errors in nodes, live previews.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { readBoxes, writeBoxes } from "./boxes.js";
import { BoxesView } from "./boxes_view.js";
import { readCamera, writeCamera } from "./camera.js";
import { CameraView } from "./camera_view.js";
import { readCurve, writeCurve } from "./curve.js";
import { CurveView } from "./curve_view.js";
import { useNetworks } from "./estimate.js";
import { downstream, findNode } from "./graph.js";
import { attachView } from "./json_widget.js";
import { forgetError, forgetWarnings, noteError, noteRejection, noteWarning } from "./notes.js";
import {
  dropUploadValue,
  forgetSelection,
  hidePreviewOfRendered,
  makeRoom,
  playPreviews,
} from "./previews.js";
import { attachSelection, showSelection } from "./selection.js";
import { attachStatus, statusOf } from "./status.js";
import { loadTexts } from "./texts.js";
import { clockOf, readSegments, writeSegments } from "./timeline.js";
import { TimelineView } from "./timeline_view.js";
import { grow } from "./widgets.js";

const TIMELINE = {
  View: TimelineView,
  title: "timeline",
  height: (view) => 262 + view.finished.height,
  read: (text, node) => readSegments(text, clockOf(node)),
  write: writeSegments,
  dependsOn: ["frames", "frame_rate"],
};
const BOXES = {
  View: BoxesView,
  title: "picture",
  height: 300,
  read: readBoxes,
  write: writeBoxes,
};

const CURVE = {
  View: CurveView,
  title: "drawing",
  height: 200,
  read: (text, node) => {
    const [over, kind] = ["over", "interpolation"].map(
      (name) => node.widgets?.find((one) => one.name === name)?.value,
    );
    return readCurve(text, over, kind);
  },
  write: writeCurve,
  dependsOn: ["over", "interpolation"],
};

const CAMERA = {
  View: CameraView,
  title: "viewfinder",
  height: 300,
  read: (text, node) => {
    const frames = node.widgets?.find((one) => one.name === "frames")?.value;
    return readCamera(text, frames);
  },
  write: writeCamera,
  dependsOn: ["frames"],
};

const LOOK_EVERY = 200; // milliseconds
const LOOKS = 300; // a minute in all
const COMPARE_AFTER = 200; // milliseconds
const timelines = new WeakMap(); // of nodes
let comparing = null;
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
      statusOf(findNode(app.rootGraph, detail.node))?.showProgress(detail);
    });
    api.addEventListener("b_preview_with_metadata", ({ detail }) => {
      makeRoom(findNode(app.rootGraph, detail.displayNodeId));
    });
    api.addEventListener("videoldm.warning", ({ detail }) => {
      noteWarning(findNode(app.rootGraph, detail.node), detail.text);
    });
    api.addEventListener("execution_error", ({ detail }) => {
      noteError(findNode(app.rootGraph, detail.node_id), detail);
    });
    api.addEventListener("execution_start", () => {
      everyNode(forgetError);
      everyNode((node) => timelines.get(node)?.begin());
    });
    noteRejections();
    // Another node starts or, with null, the run has ended.
    api.addEventListener("executing", ({ detail }) => {
      const node = detail === null ? null : findNode(app.rootGraph, detail);
      forgetWarnings(node);
      forgetSelection(node);
      everyStatus((view) => view.clearProgress());
    });
    api.addEventListener("executed", ({ detail }) => {
      const node = findNode(app.rootGraph, detail.display_node ?? detail.node);
      if (node) showSelection(node);
      const [found] = detail.output?.videoldm_windows ?? [];
      if (node && found) {
        const sampler = String(detail.display_node ?? detail.node);
        everyNode((one) => showFinished(one, node, found, sampler));
        compareFinished();
      }
      const [plan] = detail.output?.videoldm_plan ?? [];
      if (plan) statusOf(node)?.showPlan(plan);
    });
    api.addEventListener("graphChanged", () => {
      everyStatus((view) => view.updateEstimate());
      compareFinished();
    });
  },

  async beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "VideoLDM_VideoSampler") return;
    useNetworks(nodeData.input.required.model[1].videoldm_networks);
  },

  async beforeConfigureGraph(graph) {
    const inner = (graph?.definitions?.subgraphs ?? []).flatMap((one) => one.nodes ?? []);
    [...(graph?.nodes ?? []), ...inner].forEach(dropUploadValue);
  },

  async nodeCreated(node) {
    if (node.comfyClass === "VideoLDM_LongHorizonSegments") {
      timelines.set(node, attachView(node, "segments", TIMELINE));
    }
    if (node.comfyClass === "VideoLDM_StrengthCurve") attachView(node, "points", CURVE);
    if (node.comfyClass === "VideoLDM_CameraControl") attachView(node, "moves", CAMERA);
    if (node.comfyClass === "VideoLDM_BoundingBoxes") attachView(node, "boxes", BOXES);
    if (node.comfyClass === "VideoLDM_LoadVideo") {
      hidePreviewOfRendered(node);
      attachSelection(node);
    }
    if (!WITH_STATUS.has(node.comfyClass)) return;
    attachStatus(node);
    playPreviews(node);
  },

  async afterConfigureGraph() {
    everyStatus((view) => view.updateEstimate());
    everyNode(showSelection);
  },
});

/** Show errors of rejected prompts: polled, since the frontend has no event for a rejection. */
function noteRejections() {
  let looking = null;
  let times = 0;
  const stop = () => clearInterval(looking);
  api.addEventListener("promptQueueing", () => {
    everyNode(forgetError);
    stop();
    times = 0;
    looking = setInterval(look, LOOK_EVERY);
  });
  api.addEventListener("promptQueued", stop);

  function look() {
    const refused = Object.entries(app.lastNodeErrors ?? {});
    for (const [id, found] of refused) noteRejection(findNode(app.rootGraph, id), found);
    times += 1;
    if (refused.length || times > LOOKS) stop();
  }
}

/** Show a sampler's windows in a timeline upstream of it. */
function showFinished(node, sampler, found, id) {
  const view = timelines.get(node);
  if (!view || !downstream(node).includes(sampler)) return;
  view.showRun(found, id);
  grow(node);
}

/** Show in timelines what the present workflow would sample again; many changes count as one. */
function compareFinished() {
  clearTimeout(comparing);
  comparing = setTimeout(async () => {
    const views = [];
    everyNode((node) => timelines.get(node)?.finished.found && views.push(timelines.get(node)));
    if (!views.length) return;
    const { output } = await app.graphToPrompt();
    views.forEach((view) => view.compare(output));
  }, COMPARE_AFTER);
}

function everyStatus(act) {
  everyNode((node) => {
    const view = statusOf(node);
    if (view) act(view);
  });
}

function everyNode(act, graph = app.rootGraph) {
  for (const node of graph?.nodes ?? []) {
    act(node);
    if (node.subgraph) everyNode(act, node.subgraph);
  }
}
