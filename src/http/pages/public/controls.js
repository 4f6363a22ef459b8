// Buttons, keys, and when the buttons get out of the way.

import { $ } from "./page.js";
import { passing } from "./say.js";
import { t } from "./i18n.js";

const IDLE_MS = 5_000;
const KEYS = { m: "mic", " ": "mic", c: "camera", f: "full", i: "statistics-open", q: "hangup" };

export class Controls {
  /** `state()` is the page's state; `on` has `hangUp()`, `statistics()`, `chat()`, `devices()`, `screenFailed(error)`. */
  constructor({ media, state, on }) {
    Object.assign(this, { media, state, on });
    this.byKeys = false;
    const clicks = {
      mic: () => this.#mic(), camera: () => this.#camera(), screen: () => this.#screen(), full: () => this.#full(),
      "devices-open": () => on.devices(), "lobby-devices": () => on.devices(),
      "statistics-open": () => on.statistics(), "statistics-close": () => on.statistics(false),
      "chat-open": () => on.chat(), "chat-close": () => on.chat(false), hangup: () => on.hangUp(),
    };
    for (const [id, run] of Object.entries(clicks)) $(id).addEventListener("click", run);
    $("screen").hidden = !media.sharesScreens;
    $("full").hidden = !document.fullscreenEnabled;
    document.addEventListener("fullscreenchange", () => this.#press("full", Boolean(document.fullscreenElement)));
    document.addEventListener("keydown", (event) => this.#key(event));
    for (const touch of ["pointermove", "pointerdown", "focusin"]) {
      document.addEventListener(touch, () => this.wake(), { passive: true });
    }
    for (const move of ["pointerdown", "pointermove"]) {
      document.addEventListener(move, () => { this.byKeys = false; }, { capture: true, passive: true });
    }
  }

  /** Shows the buttons; they hide again after a while, except from those who work by keys. */
  wake() {
    document.body.classList.remove("idle");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#rest(), IDLE_MS);
  }

  /** Shows what is switched off. */
  refresh() {
    this.#press("mic", !this.media.micOn);
    this.#press("camera", !this.media.cameraOn);
    this.#press("screen", Boolean(this.media.screen));
  }

  #rest() {
    const reading = $("controls").matches(":hover") || $("devices").open;
    if (this.byKeys || reading || this.state() !== "call") return;
    document.body.classList.add("idle");
  }

  #press(id, is) { $(id).setAttribute("aria-pressed", String(is)); }

  #key(event) {
    this.byKeys = true;
    this.wake();
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || $("devices").open) return;
    if (event.key === "Escape") {
      this.on.statistics(false);
      this.on.chat(false);
      return;
    }
    const at = event.target;
    if (at.matches?.("input, textarea, select")) return;
    // Space presses the button that has the focus.
    if (event.key === " " && at.matches?.("button, a")) return;
    if (event.key === "l") {
      $("near").classList.toggle("mini-hidden");
      return;
    }
    const button = $(KEYS[event.key.toLowerCase()] ?? "");
    if (!button || button.hidden || getComputedStyle(button).display === "none") return;
    event.preventDefault();
    button.click();
  }

  #mic() {
    this.media.setMic(!this.media.micOn);
    passing(t(this.media.micOn ? "mic_live" : "mic_muted"));
  }

  #camera() {
    this.media.setCamera(!this.media.cameraOn);
    passing(t(this.media.cameraOn ? "camera_live" : "camera_muted"));
  }

  async #screen() {
    const on = !this.media.screen;
    try {
      await this.media.shareScreen(on, () => passing(t("sharing_ended")));
      passing(t(on ? "sharing" : "sharing_ended"));
    } catch (error) {
      // Whoever closes the browser's own question has decided; that is no failure.
      if (error.name !== "NotAllowedError") this.on.screenFailed(error);
    }
  }

  #full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => undefined);
  }
}
