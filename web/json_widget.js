// An editor beside a JSON text widget: it shows the text's content and writes edits back.
//
// The value stays in ComfyUI's own text widget, so that workflows and API prompts hold plain text
// that can be typed or linked, and nothing is lost where this script does not run.

import { say } from "./texts.js";
import { addStillWidget, follow, undoable } from "./widgets.js";

/**
 * Attach a view to the text widget `name` of a node, and return it.
 *
 * read(text, node) returns {value} or {problem}, write(value) a text. View is constructed with the
 * callbacks `changed` and, during an edit, `typing`; it has `element`, `show(value)` and
 * `showProblem(sentence)`. `dependsOn`: names of other widgets that read() depends on. `height`: in
 * pixels, or a function of the view.
 */
export function attachView(node, name, { View, title, height, read, write, dependsOn = [] }) {
  const text = node.widgets?.find((one) => one.name === name);
  if (!text) return;
  let writing = false; // The view already shows its own edits; redrawing would move the focus.
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
  for (const one of node.widgets ?? []) if (dependsOn.includes(one.name)) follow(one, show);
  const isFixed = typeof height === "number";
  addStillWidget(node, title, view.element, isFixed ? height : () => height(view));
  // Opening a workflow sets the values of combos and numbers without calling their callbacks.
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
