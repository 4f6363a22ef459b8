// Words beside the pictures, and what each side has switched off: over the connection's data channel.

import { $, element, showDrawer } from "./page.js";

const LINES_MAX = 500;
const TEXT_MAX = 2_000;

export class Chat {
  /** `farState({ mic, camera })` is told what the other side has switched on. */
  constructor(farState) {
    this.farState = farState;
    this.own = { mic: true, camera: true };
    $("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say($("chat-text").value.trim());
    });
  }

  get isOpen() { return !$("chat").hidden; }

  toggle(open = !this.isOpen) {
    showDrawer($("chat"), $("chat-open"), open);
    if (!open) return;
    $("chat-unread").hidden = true;
    $("chat-text").focus();
  }

  /** Uses the channel of a new connection; `undefined` when there is none. */
  use(channel) {
    this.channel = channel;
    this.#available(channel?.readyState === "open");
    channel?.addEventListener("open", () => {
      if (this.channel !== channel) return;
      this.#available(true);
      this.#send({ type: "state", ...this.own });
    });
    channel?.addEventListener("close", () => { if (this.channel === channel) this.#available(false); });
    channel?.addEventListener("message", ({ data }) => { if (this.channel === channel) this.#received(data); });
  }

  /** Tells the other side what is switched on here. */
  tell(own) {
    this.own = own;
    this.#send({ type: "state", ...own });
  }

  #available(is) {
    $("chat-open").hidden = !is;
    if (!is) this.toggle(false);
  }

  #send(message) {
    if (this.channel?.readyState === "open") this.channel.send(JSON.stringify(message));
  }

  #say(text) {
    if (!text) return;
    $("chat-text").value = "";
    this.#send({ type: "text", text });
    this.#add(text, "mine");
  }

  #received(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message?.type === "state") {
      this.farState({ mic: message.mic !== false, camera: message.camera !== false });
    } else if (message?.type === "text" && typeof message.text === "string") {
      this.#add(message.text.slice(0, TEXT_MAX), "theirs");
      if (!this.isOpen) $("chat-unread").hidden = false;
    }
  }

  #add(text, side) {
    const lines = $("chat-lines");
    lines.append(element("li", side, text));
    while (lines.childElementCount > LINES_MAX) lines.firstElementChild.remove();
    lines.scrollTop = lines.scrollHeight;
  }
}
