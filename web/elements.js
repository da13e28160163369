// DOM elements of which the editors are built.

import { say } from "./texts.js";

/** A new DOM element. */
export function element(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/** A button that shows `sign`, with the texts `name` and `<name>Tip` as label and tooltip. */
export function button(name, sign, act) {
  const made = element("button", `videoldm-button videoldm-${name}`, sign);
  Object.assign(made, { type: "button", title: say(`${name}Tip`), ariaLabel: say(name) });
  made.addEventListener("click", act);
  return made;
}
