// Shared by the pack's widgets: change listeners, DOM widgets without a value, undo.

import { app } from "../../scripts/app.js";

/** Call `listener` after each call of the widget's callback. */
export function follow(widget, listener) {
  const before = widget.callback;
  widget.callback = function (...given) {
    const answer = before?.apply(this, given);
    listener();
    return answer;
  };
}

/**
 * Add a DOM widget without a value. It comes last, or values of others would be saved in the wrong
 * place. `height` is in pixels, or a function that returns it.
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
  // A new node was measured before this widget was added; one from a file has its saved size.
  grow(node);
  return widget;
}

/** Enlarge a node to the size that its widgets need; a larger one is kept. */
export function grow(node) {
  const [wide, high] = node.computeSize();
  node.setSize([Math.max(node.size[0], wide), Math.max(node.size[1], high)]);
}

/** Change the graph in one undo step of its own. */
export function undoable(change) {
  app.canvas.emitBeforeChange();
  try {
    change();
  } finally {
    app.canvas.emitAfterChange();
  }
}

/**
 * Let the wheel zoom the canvas as over the rest of a node, except that a focused text scrolls.
 * Nodes 2.0 forwards wheel events itself.
 */
function zoomCanvas(event) {
  const { target } = event;
  const edited = target === document.activeElement && target.scrollHeight > target.clientHeight;
  if (LiteGraph.vueNodesMode || edited) return;
  event.preventDefault();
  event.stopPropagation();
  app.canvas.canvas.dispatchEvent(new WheelEvent(event.type, event));
}
