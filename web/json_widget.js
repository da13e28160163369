// A view of a JSON text widget: it shows what the text holds and writes edits into it.
//
// The value stays in ComfyUI's own text widget, so that workflows and API prompts are plain, the
// text can be typed by hand or linked, and nothing is lost where this script does not run.

import { say } from "./texts.js";
import { addStillWidget, follow, undoable } from "./widgets.js";

/**
 * Attach a view to the text widget `name` of a node.
 *
 * read(text, node) gives {value} or {problem}, write(value) a text; View is built with `changed` and
 * `typing` (of edits that go on) and has `element`, `show(value)` and `showProblem(sentence)`.
 * `besides` are names of further widgets that reading depends on. `height` is in pixels, or a function
 * of the view. Returns the view.
 */
export function attachView(node, name, { View, title, height, read, write, besides = [] }) {
  const text = node.widgets?.find((one) => one.name === name);
  if (!text) return;
  let writing = false; // What the view wrote, it shows already; drawing anew would move the focus.
  const put = (value) => {
    writing = true;
    text.value = write(value);
    text.callback?.(text.value);
    writing = false;
  };
  const view = new View({ typing: put, changed: (value) => undoable(() => put(value)) });
  const show = () => {
    if (writing) return;
    const { value, problem } = read(text.value ?? "", node);
    if (problem) view.showProblem(sentence(problem));
    else view.show(value);
  };
  follow(text, show);
  for (const one of node.widgets ?? []) if (besides.includes(one.name)) follow(one, show);
  const isFixed = typeof height === "number";
  addStillWidget(node, title, view.element, isFixed ? height : () => height(view));
  // A file that is opened sets the values of choices and numbers without a word.
  const configured = node.onConfigure;
  node.onConfigure = function (...given) {
    const answer = configured?.apply(this, given);
    show();
    return answer;
  };
  show();
  return view;
}

function sentence([key, values]) {
  return say(key, { ...values, ...(values.kind && { kind: say(values.kind) }) });
}
