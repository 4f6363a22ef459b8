// One session in full, beside the table; asked for again while it is open.

import { get } from "./api.js";
import { byId, el, keyed, setAttribute, setText } from "./dom.js";
import { bits, bytes, count, duration, perSecond } from "./format.js";
import { Series, Spark } from "./spark.js";
import { say } from "./words.js";

const ASK_EVERY_MS = 2_000;
const NO_HISTORY = new Series(1);

/** The drawer; `history(id)` gives a session's rates, `kick` and `kickAll` end it or all of its user, `revoke` also keeps the user out, `toast(text)` tells. */
export class Drawer {
  constructor(history, { kick, kickAll, revoke, toast }) {
    this.history = history;
    this.kick = kick;
    this.kickAll = kickAll;
    this.revoke = revoke;
    this.toast = toast;
    this.node = byId("drawer");
    this.session = null;
    this.timer = null;
    this.#build();
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.session && !document.querySelector("dialog[open]")) this.close();
    });
  }

  /** Shows a session; what the table knows at once, the rest when the server answers. */
  open(session) {
    this.back = document.activeElement;
    this.session = session;
    this.#fill(session);
    this.#lists(null);
    setText(this.state, "");
    this.kickButton.disabled = false;
    this.node.hidden = false;
    this.node.focus({ preventScroll: true });
    this.#ask(session.id);
  }

  /** Takes the rates of another second. */
  take(sessions) {
    const newer = this.session && sessions.find((session) => session.id === this.session.id);
    if (newer) this.#fill(newer);
  }

  /** Hides, and gives the focus back. */
  close() {
    clearTimeout(this.timer);
    this.session = null;
    this.node.hidden = true;
    if (this.back?.isConnected) this.back.focus({ preventScroll: true });
  }

  #build() {
    this.title = el("h2", { id: "drawer-title" });
    this.state = el("p", { class: "fault", role: "status" });
    this.facts = new Map();
    const fact = (key) => {
      const value = el("dd");
      this.facts.set(key, value);
      return el("div", {}, el("dt", {}, say(key)), value);
    };
    const way = (key, kind) => {
      const parts = { now: el("strong"), total: el("span"), spark: new Spark(240, 36, kind) };
      this[key] = parts;
      return el("div", { class: `way ${kind}` }, el("h3", {}, say(key)), parts.now, parts.total, parts.spark.node);
    };
    const list = (key) => {
      const body = el("ul", { class: "entries" });
      const tally = el("span", { class: "tally" });
      this[key] = { body, tally, kept: new Map() };
      return el("section", {}, el("h3", {}, say(key), " ", tally), body);
    };
    this.kickButton = el("button", { type: "button", class: "danger", click: () => this.kick(this.session) }, say("kick"));
    this.kickAllButton = el("button", { type: "button", class: "danger", click: () => this.kickAll(this.session) }, say("kick_all"));
    this.revokeButton = el("button", { type: "button", class: "danger", click: () => this.revoke(this.session) }, say("revoke"));
    this.node.append(
      el("div", { class: "head" }, this.title,
        el("button", { type: "button", class: "small", "aria-label": say("close"), click: () => this.close() }, "✕")),
      this.state,
      el("dl", {}, ...["id", "username", "transport", "client", "server", "relayed", "age", "expires"].map(fact)),
      el("div", { class: "ways" }, way("to_peers", "one"), way("to_clients", "two")),
      list("permissions"), list("channels"),
      el("div", { class: "actions" },
        el("button", { type: "button", click: () => this.#copy() }, say("copy")), this.kickAllButton, this.kickButton, this.revokeButton),
    );
  }

  async #ask(id) {
    clearTimeout(this.timer);
    const open = () => this.session?.id === id;
    try {
      const session = await get(`sessions/${encodeURIComponent(id)}`);
      if (!open()) return;
      this.#fill({ ...this.session, ...session });
      this.#lists(session);
      setText(this.state, "");
    } catch (error) {
      if (!open()) return;
      if (error.status === 404) {
        setText(this.state, say("gone"));
        this.kickButton.disabled = true;
        return;
      }
      setText(this.state, say("detail_fault", { reason: error.status ? error.message : say("unreachable") }));
    }
    this.timer = setTimeout(() => this.#ask(id), ASK_EVERY_MS);
  }

  #fill(session) {
    this.session = session;
    this.kickAllButton.hidden = !session.user;
    this.revokeButton.hidden = !session.user;
    setText(this.title, session.user || session.username || say("detail"));
    const values = {
      id: session.id, username: session.username, transport: session.transport.toUpperCase(), client: session.client,
      server: session.server, relayed: session.relayed.join("\n"), age: duration(session.age_s), expires: duration(session.expires_in_s),
    };
    for (const [key, value] of Object.entries(values)) setText(this.facts.get(key), value ?? "–");
    const history = this.history(session.id);
    const top = Math.max(history?.toPeer.peak() ?? 0, history?.toClient.peak() ?? 0);
    const ways = [[this.to_peers, session.to_peer, history?.toPeer], [this.to_clients, session.to_client, history?.toClient]];
    for (const [parts, way, series] of ways) {
      setText(parts.now, bits(way.bytes_per_s));
      setText(parts.total, `${perSecond(way.packets_per_s)} · ${bytes(way.bytes)} · ${count(way.packets)}`);
      parts.spark.draw(series ?? NO_HISTORY, top);
    }
  }

  #lists(session) {
    const entry = () => el("li", {}, el("code"), el("span"));
    const show = ({ body, tally, kept }, entries, keyOf, text) => {
      setText(tally, entries === null ? "" : entries.length || say("none"));
      keyed(body, kept, entries ?? [], keyOf, entry, (node, item) => {
        setText(node.firstChild, text(item));
        setText(node.lastChild, duration(item.expires_in_s));
      });
    };
    show(this.permissions, session?.permissions ?? null, (item) => item.peer, (item) => item.peer);
    show(this.channels, session?.channels ?? null, (item) => item.number, (item) => `${item.number} → ${item.peer}`);
    setAttribute(this.node, "aria-busy", session === null ? "true" : null);
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.session.id);
      this.toast(say("copied"));
    } catch {
      // Without a secure context there is no clipboard: the id is there to be selected.
      getSelection().selectAllChildren(this.facts.get("id"));
    }
  }
}
