// What the pack's widgets share: following a value, DOM widgets that hold none, and undo.

import { app } from "../../scripts/app.js";

/** Call `listener` whenever the widget's value changes, by hand or by a script. */
export function follow(widget, listener) {
  const before = widget.callback;
  widget.callback = function (...given) {
    const answer = before?.apply(this, given);
    listener();
    return answer;
  };
}

/**
 * A DOM widget without a value. It stands last: others would be saved in the wrong place.
 * `height` is in pixels, or a function that says it.
 */
export function addStillWidget(node, name, element, height) {
  const pixels = typeof height === "function" ? height : () => height;
  const widget = node.addDOMWidget(name, `videoldm_${name}`, element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: pixels,
    getMaxHeight: pixels,
  });
  widget.serialize = false;
  element.addEventListener("wheel", zoomCanvas, { passive: false });
  // A node made by hand was measured before this widget came; one from a file has its saved size.
  grow(node);
  return widget;
}

/** Make a node as large as its widgets need; a larger one stays. */
export function grow(node) {
  const [wide, high] = node.computeSize();
  node.setSize([Math.max(node.size[0], wide), Math.max(node.size[1], high)]);
}

/** Change the graph so that one Ctrl+Z takes back this change and nothing else. */
export function undoable(change) {
  app.canvas.emitBeforeChange();
  try {
    change();
  } finally {
    app.canvas.emitAfterChange();
  }
}

/**
 * Let the wheel zoom the canvas, as it does over the rest of a node; a text that is being edited
 * scrolls. Nodes 2.0 hands wheels on by itself.
 */
function zoomCanvas(event) {
  const { target } = event;
  const edited = target === document.activeElement && target.scrollHeight > target.clientHeight;
  if (LiteGraph.vueNodesMode || edited) return;
  event.preventDefault();
  event.stopPropagation();
  app.canvas.canvas.dispatchEvent(new WheelEvent(event.type, event));
}
