// What happens, newest first: sessions that begin and end, requests that are refused.

import { get } from "./api.js";
import { byId, el, setNote, setText } from "./dom.js";
import { clock, count } from "./format.js";
import { noticeWords } from "./reasons.js";
import { say } from "./words.js";

/** Lines kept; older ones go. */
const LINES_MAX = 256;
const KINDS = { created: "created", ended: "ended_kind", refused: "refused" };

/** The feed; `pick(user)` is called when a name in it is chosen. */
export class Feed {
  constructor(pick) {
    this.pick = pick;
    this.sinceOpen = [];
    this.list = byId("feed");
    this.empty = el("li", { class: "empty" }, say("feed_empty"));
    this.list.append(this.empty);
    for (const [kind, word] of Object.entries(KINDS)) {
      const toggle = el("button", { type: "button", class: "kind", "data-kind": kind, "aria-pressed": "true", click: () => this.#toggle(kind, toggle) }, say(word));
      byId("kinds").append(toggle);
    }
  }

  /** The events begin anew: what happened before comes from the server's own memory. */
  async restart() {
    this.sinceOpen = [];
    try {
      const { notices = [] } = asDocument(await get("notices"));
      const known = new Set(notices.map((notice) => JSON.stringify(notice)));
      const all = [...notices, ...this.sinceOpen.filter((notice) => !known.has(JSON.stringify(notice)))];
      all.sort((a, b) => a.at_unix_s - b.at_unix_s);
      this.list.replaceChildren(...all.slice(-LINES_MAX).reverse().map((notice) => this.#line(notice)));
      if (all.length === 0) this.list.append(this.empty);
    } catch {
      // The stream says when the server is away.
    }
  }

  /** Takes a `notice` document. */
  take(notice) {
    if (this.sinceOpen.length < LINES_MAX) this.sinceOpen.push(notice);
    this.empty.remove();
    const line = this.#line(notice);
    line.classList.add("fresh");
    // A reader who has scrolled down keeps the place.
    const height = this.list.scrollTop > 0 ? this.list.scrollHeight : null;
    this.list.prepend(line);
    if (height !== null) this.list.scrollTop += this.list.scrollHeight - height;
    while (this.list.childElementCount > LINES_MAX) this.list.lastElementChild.remove();
  }

  /** Takes the number of notices that never came. */
  lost(number) {
    setNote(byId("feed-note"), number > 0 ? say("feed_lost", { n: count(number) }) : null);
  }

  #line(notice) {
    const word = KINDS[notice.kind];
    const line = el("li", { "data-kind": notice.kind },
      el("time", {}, clock(notice.at_unix_s)),
      el("span", { class: "kind" }, word ? say(word) : notice.kind),
      el("span", { class: "text" }));
    setText(line.lastChild, noticeWords(notice.text ?? ""));
    const who = el("span", { class: "who" });
    if (notice.user) who.append(el("button", { type: "button", class: "name", click: () => this.pick(notice.user) }, notice.user));
    if (notice.client) who.append(el("code", {}, notice.client));
    line.append(who);
    return line;
  }

  #toggle(kind, toggle) {
    const shown = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", shown);
    this.list.classList.toggle(`without-${kind}`, !shown);
  }
}

/** A bare list is taken for the document that would hold it. */
const asDocument = (answer) => (Array.isArray(answer) ? { notices: answer } : answer);
