// The table of live sessions: sorted, filtered, one row kept for each session as long as it lives.

import { get } from "./api.js";
import { byId, el, keyed, setAttribute, setNote, setText } from "./dom.js";
import { bits, bytes, duration } from "./format.js";
import { Series, Spark } from "./spark.js";
import { say } from "./words.js";

/** Values of a row's sparkline: one a second. */
const SPAN_S = 60;
const SPAN_MIN_S = 20;
/** Rates are ordered by their mean over this long, so that rows do not dance. */
const CALM_S = 5;
/** Sessions asked for when those that the events bring are not all. */
const SEARCH_MAX = 200;
const SEARCH_EVERY_MS = 3_000;

const carried = (session) => session.to_peer.bytes + session.to_client.bytes;

const newSeries = () => new Series(SPAN_S, SPAN_MIN_S);
const newHistory = () => ({ toPeer: newSeries(), toClient: newSeries(), both: newSeries() });

/** Whether a text is a whole address, with or without a port: the only part of one that the API searches for. */
const isAddress = (text) => /^\d+(\.\d+){3}(:\d+)?$/.test(text) || /^\[?[\da-f]*:[\da-f:.]*:[\da-f:.]*\]?(:\d+)?$/i.test(text);

const COLUMNS = [
  { key: "user", order: (session) => session.user.toLowerCase() },
  { key: "transport", title: "via", order: (session) => session.transport },
  { key: "client", order: (session) => session.client },
  { key: "relayed", order: (session) => session.relayed.join() },
  { key: "age", number: true, order: (session) => session.age_s },
  { key: "left", number: true, order: (session) => session.expires_in_s },
  { key: "permits", number: true, order: (session) => session.permissions },
  { key: "to_peers", number: true, order: (session, history) => history?.toPeer.mean(CALM_S) ?? 0 },
  { key: "to_clients", number: true, order: (session, history) => history?.toClient.mean(CALM_S) ?? 0 },
  { key: "rate" },
  { key: "carried", number: true, order: carried },
  { key: "action" },
];

/** The table; `open(session)` and `kick(session)` are what its buttons do. */
export class Sessions {
  constructor(open, kick) {
    this.open = open;
    this.kick = kick;
    this.sort = { key: "to_clients", down: true };
    this.histories = new Map();
    this.rows = new Map();
    this.live = { sessions: [], total: 0, partial: false };
    this.found = null;
    this.searchedMs = 0;
    this.searching = null;
    this.#build();
  }

  /** Takes a `sessions` document: the busiest sessions. */
  take(live, visible) {
    this.live = live;
    this.#remember(live.sessions);
    if (!this.#mustSearch()) this.found = null;
    else if (visible) this.#search();
    if (visible) this.#show();
  }

  /** Shows only what bears this text. */
  filter(text) {
    byId("filter").value = text;
    this.#refilter();
  }

  /** The rates of a session over the last minute, if it was seen. */
  history(id) {
    return this.histories.get(id);
  }

  #build() {
    this.heads = new Map();
    const head = el("tr", { role: "row" });
    for (const column of COLUMNS) {
      const title = say(column.title ?? column.key);
      const cell = el("th", { role: "columnheader", scope: "col", class: column.number ? "number" : null, "data-column": column.key });
      if (column.order) cell.append(el("button", { type: "button", click: () => this.#sortBy(column) }, title));
      else cell.append(el("span", { class: column.key === "action" ? "unseen" : null }, title));
      this.heads.set(column.key, cell);
      head.append(cell);
    }
    this.body = el("tbody", { role: "rowgroup" });
    this.empty = el("p", { class: "empty", hidden: true });
    byId("sessions").append(
      el("table", { role: "table", "aria-labelledby": "sessions-title" }, el("thead", { role: "rowgroup" }, head), this.body),
      this.empty,
    );
    // Of many rows few are in sight, and only those are filled each second.
    this.sight = new IntersectionObserver((changes) => {
      for (const { target: row, isIntersecting } of changes) {
        row.isSeen = isIntersecting;
        if (isIntersecting) this.#fill(row, row.session);
      }
    }, { root: null, rootMargin: "200px" });
    byId("filter").addEventListener("input", () => this.#refilter());
    byId("transport").addEventListener("change", () => this.#refilter());
  }

  #sortBy(column) {
    const down = this.sort.key === column.key ? !this.sort.down : column.number === true;
    this.sort = { key: column.key, down };
    this.searchedMs = 0;
    this.#show(true);
  }

  #refilter() {
    clearTimeout(this.searching);
    this.searching = setTimeout(() => {
      this.searchedMs = 0;
      if (this.#mustSearch()) this.#search();
    }, 300);
    if (!this.#mustSearch()) this.found = null;
    this.#show(true);
  }

  /** Whether the events do not bring all sessions, and the busiest are not what is wanted. */
  #mustSearch() {
    const wanted = byId("filter").value.trim() !== "" || byId("transport").value !== "" || this.#serverSort() !== "rate";
    return this.live.total > this.live.sessions.length && wanted;
  }

  #serverSort() {
    return { age: "age", carried: "bytes" }[this.sort.key] ?? "rate";
  }

  async #search() {
    if (Date.now() - this.searchedMs < SEARCH_EVERY_MS) return;
    this.searchedMs = Date.now();
    const text = byId("filter").value.trim();
    const query = new URLSearchParams({ limit: SEARCH_MAX, sort: this.#serverSort() });
    if (byId("transport").value) query.set("transport", byId("transport").value);
    if (text) query.set(isAddress(text) ? "client" : "user", text);
    try {
      this.found = await get(`sessions?${query}`);
      this.#remember(this.found.sessions);
      this.#show();
    } catch {
      // The stream says when the server is away; the next event searches again.
    }
  }

  #remember(sessions) {
    const nowMs = Date.now();
    for (const session of sessions) {
      let history = this.histories.get(session.id);
      if (!history) this.histories.set(session.id, (history = newHistory()));
      // A search and an event in the same second are one value.
      if (nowMs - (history.atMs ?? 0) < 500) continue;
      history.atMs = nowMs;
      // A session that was seen once has no rate yet: a gap, not a zero.
      history.toPeer.push(session.to_peer.bytes_per_s);
      history.toClient.push(session.to_client.bytes_per_s);
      history.both.push(session.to_peer.bytes_per_s + session.to_client.bytes_per_s);
    }
    for (const [id, history] of this.histories) if (nowMs - history.atMs > SPAN_S * 1000) this.histories.delete(id);
  }

  #fits(session) {
    const text = byId("filter").value.trim().toLowerCase();
    const transport = byId("transport").value;
    if (transport && session.transport !== transport) return false;
    return [session.user, session.username, session.client, session.id, ...session.relayed].some((field) => field?.toLowerCase().includes(text));
  }

  #show(anew = false) {
    const known = new Map([...(this.found?.sessions ?? []), ...this.live.sessions].map((session) => [session.id, session]));
    const sessions = [...known.values()].filter((session) => this.#fits(session));
    this.#order(sessions, anew);
    keyed(this.body, this.rows, sessions, (session) => session.id, (session) => this.#row(session), (row, session) => this.#fill(row, session));
    for (const [key, cell] of this.heads) {
      setAttribute(cell, "aria-sort", key !== this.sort.key ? null : this.sort.down ? "descending" : "ascending");
    }
    const { total } = this.live;
    setText(byId("sessions-tally"), sessions.length === total ? total : say("tally_of", { shown: sessions.length, total }));
    const missing = this.found ? this.found.total > this.found.sessions.length : total > this.live.sessions.length;
    setNote(byId("sessions-note"), this.live.partial || this.found?.partial ? say("note_partial")
      : !missing ? null
      : this.found ? say("note_searched", { n: this.found.sessions.length, total: this.found.total })
      : say("note_busiest", { n: this.live.sessions.length, total }));
    setNote(this.empty, sessions.length > 0 ? null : say(total === 0 ? "empty_sessions" : "empty_filtered"));
  }

  #order(sessions, anew) {
    // Rows hold still under the pointer and the keyboard: what is aimed at must not move away.
    if (!anew && (this.body.matches(":hover") || this.body.querySelector(":focus-visible"))) {
      const places = new Map([...this.body.children].map((row, place) => [row.session.id, place]));
      const placeOf = (session) => places.get(session.id) ?? places.size;
      sessions.sort((a, b) => placeOf(a) - placeOf(b));
      return;
    }
    const { order } = COLUMNS.find((column) => column.key === this.sort.key);
    const sign = this.sort.down ? -1 : 1;
    const keys = new Map(sessions.map((session) => [session.id, order(session, this.histories.get(session.id))]));
    sessions.sort((a, b) => {
      const [first, second] = [keys.get(a.id), keys.get(b.id)];
      if (first === second) return a.id < b.id ? -1 : 1;
      return first < second ? -sign : sign;
    });
  }

  #row(first) {
    const row = el("tr", { role: "row" });
    const parts = {};
    for (const { key, number } of COLUMNS) {
      const cell = el("td", { role: "cell", "data-column": key, "data-title": say(key), class: number ? "number" : null });
      parts[key] = cell;
      row.append(cell);
    }
    // The buttons speak of the row's newest session, not of the one it was made for.
    row.session = first;
    parts.name = el("button", { type: "button", class: "name", click: () => this.open(row.session) });
    parts.user.append(parts.name);
    parts.spark = new Spark(60, 20, "both");
    parts.rate.append(parts.spark.node);
    parts.kick = el("button", { type: "button", class: "small danger", click: (event) => (event.stopPropagation(), this.kick(row.session)) }, say("kick"));
    parts.action.append(parts.kick);
    row.addEventListener("click", (event) => event.target.closest("button") ?? this.open(row.session));
    row.parts = parts;
    row.isSeen = true;
    this.sight.observe(row);
    return row;
  }

  #fill(row, session) {
    const { parts } = row;
    row.session = session;
    if (!row.isSeen) return;
    const name = session.user || session.username || session.id;
    setText(parts.name, name);
    setAttribute(parts.name, "title", session.username);
    setAttribute(parts.name, "aria-label", say("open_user", { user: name }));
    setText(parts.transport, session.transport.toUpperCase());
    setText(parts.client, session.client);
    setText(parts.relayed, session.relayed.join("\n"));
    setText(parts.age, duration(session.age_s));
    setText(parts.left, duration(session.expires_in_s));
    setText(parts.permits, `${session.permissions} / ${session.channels}`);
    setText(parts.to_peers, bits(session.to_peer.bytes_per_s));
    setText(parts.to_clients, bits(session.to_client.bytes_per_s));
    setText(parts.carried, bytes(carried(session)));
    setAttribute(parts.kick, "aria-label", say("kick_user", { user: name }));
    const history = this.histories.get(session.id);
    if (!history) return;
    parts.spark.draw(history.both);
    const peak = say("tile_peak", { n: bits(history.both.peak()) });
    setAttribute(parts.rate, "aria-label", peak);
    setAttribute(parts.rate, "title", peak);
  }
}
