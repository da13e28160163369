// The timeline in its node: it shows what the JSON widget holds and writes edits into it.
//
// The value stays in ComfyUI's own text widget, so that workflows and API prompts are plain, the
// text can be typed by hand or linked, and nothing is lost where this script does not run.

import { say } from "./texts.js";
import { readSegments, writeSegments } from "./timeline.js";
import { TimelineView } from "./timeline_view.js";
import { addStillWidget, follow } from "./widgets.js";

const HEIGHT = 262;

export function attachTimeline(node) {
  const text = node.widgets?.find((one) => one.name === "segments");
  if (!text) return;
  const view = new TimelineView((segments) => {
    text.value = writeSegments(segments);
    text.callback?.(text.value);
  });
  const show = () => {
    const { segments, problem } = readSegments(text.value ?? "");
    if (problem) view.showProblem(sentence(problem));
    else view.show(segments);
  };
  follow(text, show);
  addStillWidget(node, "timeline", view.element, HEIGHT);
  show();
}

function sentence([key, values]) {
  return say(key, { ...values, ...(values.kind && { kind: say(values.kind) }) });
}
