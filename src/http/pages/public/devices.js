// The choice of camera, microphone and speaker.

import { $, element } from "./page.js";
import { notice } from "./say.js";
import { t } from "./i18n.js";

export class Devices {
  constructor(media) {
    this.media = media;
    $("speaker-row").hidden = typeof HTMLMediaElement.prototype.setSinkId !== "function";
    for (const kind of ["camera", "mic", "speaker"]) {
      $(`device-${kind}`).addEventListener("change", ({ target }) => this.#choose(kind, target.value));
    }
    $("devices").addEventListener("click", ({ target }) => { if (target === $("devices")) $("devices").close(); });
    $("devices").querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      $("devices").close();
    });
    navigator.mediaDevices?.addEventListener?.("devicechange", () => { if ($("devices").open) this.#fill(); });
  }

  async open() {
    await this.#fill();
    if (!$("devices").open) $("devices").showModal();
  }

  /** Plays on the speaker that was chosen before, where it still exists. */
  async applySpeaker() {
    const wanted = this.media.choice.speaker;
    if (wanted !== undefined) await $("remote").setSinkId?.(wanted).catch(() => undefined);
  }

  async #fill() {
    const found = await this.media.devices();
    const used = { camera: this.media.cameraTrack, mic: this.media.audioTrack };
    for (const [kind, devices] of Object.entries(found)) {
      const options = devices.map((device, at) => {
        const option = element("option", "", device.label || t("device_nameless", { number: at + 1 }));
        option.value = device.deviceId;
        return option;
      });
      if (kind === "speaker" || options.length === 0) options.unshift(element("option", "", t("device_default")));
      const select = $(`device-${kind}`);
      select.replaceChildren(...options);
      if (options[0] && !options[0].hasAttribute("value")) options[0].value = "";
      const current = kind === "speaker" ? $("remote").sinkId : used[kind]?.getSettings().deviceId;
      if (options.some((option) => option.value === current)) select.value = current;
    }
  }

  async #choose(kind, deviceId) {
    try {
      await this.media.choose(kind, deviceId);
      if (kind === "speaker") await $("remote").setSinkId(deviceId);
      else await this.#fill();
    } catch (error) {
      notice(t("device_failed", { why: error.message }));
    }
  }
}
