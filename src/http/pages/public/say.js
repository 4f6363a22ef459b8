// Words over the stage: one line of status, and notices that stay until they are closed.

import { $, element, icon } from "./page.js";
import { t } from "./i18n.js";

const PASSING_MS = 2_500;
const NOTICES_MAX = 3;

let lasting = "";
let timer;

/** Shows a line for as long as the state lasts; empty for none. */
export function status(text) {
  lasting = text;
  clearTimeout(timer);
  $("status").textContent = text;
}

/** Shows a line for a moment. */
export function passing(text) {
  clearTimeout(timer);
  $("status").textContent = text;
  timer = setTimeout(() => { $("status").textContent = lasting; }, PASSING_MS);
}

/** Shows a notice with an optional button; the same words are shown once. */
export function notice(text, action) {
  for (const shown of $("notices").children) if (shown.dataset.text === text) return;
  const box = element("div", "notice");
  box.dataset.text = text;
  box.append(element("span", "", text));
  if (action) {
    const button = element("button", "main", action.label);
    button.type = "button";
    button.addEventListener("click", () => { box.remove(); action.run(); });
    box.append(button);
  }
  const close = element("button", "icon plain");
  close.type = "button";
  close.setAttribute("aria-label", t("close"));
  close.append(icon("close"));
  close.addEventListener("click", () => box.remove());
  box.append(close);
  $("notices").append(box);
  while ($("notices").childElementCount > NOTICES_MAX) $("notices").firstElementChild.remove();
}

/** Takes all notices away. */
export const clearNotices = () => $("notices").replaceChildren();
