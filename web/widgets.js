// What the pack's widgets share: following a value, and DOM widgets that hold none.

/** Call `listener` whenever the widget's value changes, by hand or by a script. */
export function follow(widget, listener) {
  const before = widget.callback;
  widget.callback = function (...given) {
    const answer = before?.apply(this, given);
    listener();
    return answer;
  };
}

/** A DOM widget without a value. It stands last: others would be saved in the wrong place. */
export function addStillWidget(node, name, element, height) {
  const widget = node.addDOMWidget(name, `videoldm_${name}`, element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
    getMaxHeight: () => height,
  });
  widget.serialize = false;
  return widget;
}
