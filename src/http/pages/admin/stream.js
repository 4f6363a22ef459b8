// Server-sent events over fetch: EventSource cannot carry the Authorization header.
// Reconnects by itself, more slowly each time, and says since when nothing was heard.

import { ask } from "./api.js";

/** Nothing at all for this long means that the connection is dead; the server comments every 15 s. */
const SILENCE_MAX_MS = 20_000;
const WAIT_FIRST_MS = 500;
const WAIT_MAX_MS = 15_000;
/** Characters of one unfinished event; more is not our server. */
const EVENT_MAX = 16 * 1024 * 1024;

/** Turns pieces of an event stream into events (WHATWG HTML §9.2.6, without `id` and `retry`). */
export class EventReader {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = "";
    this.name = "";
    this.lines = [];
  }

  /** Reads the next piece of text. */
  push(text) {
    // A CR may be half of a CRLF: it waits for what follows.
    const all = this.rest + text;
    const end = all.endsWith("\r") ? all.length - 1 : all.length;
    const lines = all.slice(0, end).split(/\r\n|\n|\r/);
    this.rest = lines.pop() + all.slice(end);
    if (this.rest.length > EVENT_MAX) throw new Error("an event is too long");
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") {
      if (this.lines.length > 0) this.onEvent(this.name || "message", this.lines.join("\n"));
      this.name = "";
      this.lines = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.name = value;
    else if (field === "data") this.lines.push(value);
  }
}

/**
 * A stream of events that comes back after every break.
 * `onEvent(name, document)`, `onLink(state)`: `{link: "connecting" | "live" | "locked"}` or
 * `{link: "lost", sinceMs, retryMs, reason}`, with times of `Date.now()`.
 */
export class Stream {
  constructor(path, onEvent, onLink) {
    this.path = path;
    this.onEvent = onEvent;
    this.onLink = onLink;
    this.attempts = 0;
    this.heardMs = Date.now();
    this.timer = null;
    this.abort = null;
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => !document.hidden && this.hurry());
  }

  /** Connects, or connects anew. */
  start() {
    clearTimeout(this.timer);
    this.timer = null;
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    this.#run(abort).then(
      () => this.#broken(abort, null),
      (error) => this.#broken(abort, error),
    );
  }

  /** Tries at once instead of waiting out the pause. */
  hurry() {
    if (this.timer === null) return;
    this.attempts = 0;
    this.start();
  }

  async #run(abort) {
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MAX_MS);
    try {
      const response = await ask(this.path, { signal: abort.signal, headers: { accept: "text/event-stream" } });
      const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const events = new EventReader((name, text) => this.#take(name, text));
      for (;;) {
        const { done, value } = await pieces.read();
        if (done || abort !== this.abort) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), SILENCE_MAX_MS);
        this.heardMs = Date.now();
        events.push(value);
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  #take(name, text) {
    if (this.attempts !== null) this.onLink({ link: "live" });
    this.attempts = null;
    this.onEvent(name, JSON.parse(text));
  }

  #broken(abort, error) {
    // A newer connection has taken over.
    if (abort !== this.abort) return;
    abort.abort();
    this.abort = null;
    if (error?.status === 401) return this.onLink({ link: "locked" });
    const attempt = this.attempts ?? 0;
    this.attempts = attempt + 1;
    // Many consoles that lost the same server do not come back in the same moment.
    const waitMs = Math.min(WAIT_MAX_MS, WAIT_FIRST_MS * 2 ** attempt) * (0.75 + Math.random() / 2);
    this.timer = setTimeout(() => this.start(), waitMs);
    const reason = error?.status ? error.message : "";
    this.onLink({ link: "lost", sinceMs: this.heardMs, retryMs: Date.now() + waitMs, reason });
  }
}
