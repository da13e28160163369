// What the editors in nodes are built of.

import { say } from "./texts.js";

/** An element of a page. */
export function element(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** A button that shows `sign`, named and explained by the texts `name` and `<name>Tip`. */
export function button(name, sign, act) {
  const made = element("button", `videoldm-button videoldm-${name}`, sign);
  Object.assign(made, { type: "button", title: say(`${name}Tip`), ariaLabel: say(name) });
  made.addEventListener("click", act);
  return made;
}
