// The configuration in force, asked for when its section is opened. Secrets arrive hidden.

import { get } from "./api.js";
import { byId, el, setNote } from "./dom.js";
import { say } from "./words.js";

/** The section and its search. */
export class Settings {
  constructor() {
    this.settings = [];
    byId("settings").addEventListener("toggle", () => byId("settings").open && this.refresh());
    byId("settings-filter").addEventListener("input", () => this.#show());
    byId("settings-changed").addEventListener("change", () => this.#show());
  }

  /** Asks again, if it is shown. */
  async refresh() {
    if (!byId("settings").open) return;
    try {
      const answer = await get("config");
      this.settings = Array.isArray(answer) ? answer : answer.settings ?? [];
      this.#show();
    } catch (error) {
      setNote(byId("settings-note"), say("settings_fault", { reason: error.status ? error.message : say("unreachable") }));
    }
  }

  #show() {
    const text = byId("settings-filter").value.trim().toLowerCase();
    const changed = byId("settings-changed").checked;
    const fits = ({ key, value, origin }) =>
      !(changed && origin === "default") && [key, value, origin].some((field) => String(field).toLowerCase().includes(text));
    const shown = this.settings.filter(fits);
    setNote(byId("settings-note"), shown.length === 0 ? say("settings_empty") : null);
    byId("settings-list").replaceChildren(...shown.map(({ key, value, origin }) =>
      el("div", { "data-set": origin === "default" ? null : "true" },
        el("dt", {}, el("code", {}, key)),
        el("dd", {}, el("code", {}, String(value)), el("span", { class: "hint" }, origin === "default" ? say("origin_default") : origin)))));
  }
}
