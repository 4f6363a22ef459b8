// Counters in words: answers by code, drops and endings by reason; and the rooms, listeners and certificate.

import { get } from "./api.js";
import { byId, el, keyed, setAttribute, setNote, setText } from "./dom.js";
import { brief, clock, count, day, duration } from "./format.js";
import { answerWords, dropWords, endWords } from "./reasons.js";
import { say } from "./words.js";

/** A certificate with fewer days left is warned of, and with fewer still shouted about. */
const CERTIFICATE_WARN_DAYS = 14;
const CERTIFICATE_ALARM_DAYS = 3;
/** Rooms are asked for at most so often, and at least so often while there are some: numbers may stay while people change. */
const ROOMS_EVERY_MS = 2_000;
const ROOMS_AGE_MAX_MS = 30_000;

/** The cards below the table, fed with `status` documents. */
export class Counters {
  constructor() {
    this.lists = { answers: new Map(), drops: new Map(), ended: new Map() };
  }

  /** Takes a `status` document. */
  take(now) {
    this.#list("answers", answers(now.requests ?? []));
    this.#list("drops", reasons(now.dropped ?? {}, dropWords));
    this.#list("ended", reasons(now.ended ?? {}, endWords));
    setText(byId("ended-tally"), say("of_begun", { n: count(now.allocations_created_total) }));
    const listening = (now.listening ?? []).map(({ protocol, address }) => `${protocol} ${address}`);
    if (this.listening !== listening.join()) {
      this.listening = listening.join();
      byId("listening").replaceChildren(...listening.map((text) => el("li", {}, el("code", {}, text))));
    }
    this.#certificate(now.certificate);
  }

  /** Shows how often, with a bar of its share; what grew since the last time is marked. */
  #list(name, items) {
    const kept = this.lists[name];
    if (items.length === 0) {
      keyed(byId(name), kept, [], String, null, null);
      if (!byId(name).firstChild) byId(name).append(el("li", { class: "empty" }, say(`none_${name}`)));
      return;
    }
    byId(name).querySelector(".empty")?.remove();
    const most = Math.max(...items.map((item) => item.count));
    keyed(byId(name), kept, items, (item) => item.key, () => el("li", {}, el("span", { class: "what" }), el("span", { class: "often number" }), el("span", { class: "hint" }), el("progress", { max: 1, "aria-hidden": "true" })),
      (node, item) => {
        const [what, often, hint, bar] = node.children;
        setText(what, item.text);
        setAttribute(node, "title", item.title);
        setAttribute(node, "data-bad", item.bad ? "true" : null);
        const grown = node.count !== undefined && item.count > node.count;
        node.classList.toggle("grown", grown);
        node.count = item.count;
        setText(often, brief(item.count));
        setText(hint, item.hint ?? "");
        // Counts of very different size are compared by their magnitude.
        bar.value = Math.log1p(item.count) / Math.log1p(most);
      });
  }

  #certificate(certificate) {
    const key = JSON.stringify(certificate ?? null);
    const leftS = certificate ? certificate.not_after_unix_s - Date.now() / 1000 : 0;
    const days = Math.floor(leftS / 86_400);
    if (this.certificate === `${key} ${days}`) return;
    this.certificate = `${key} ${days}`;
    const box = byId("certificate");
    if (!certificate) {
      box.replaceChildren(el("p", { class: "empty" }, say("certificate_none")));
      return;
    }
    const state = days < CERTIFICATE_ALARM_DAYS ? "alarm" : days < CERTIFICATE_WARN_DAYS ? "warn" : "good";
    const left = leftS < 0 ? say("certificate_over", { time: duration(-leftS) }) : days < 1 ? say("certificate_one") : say("certificate_left", { n: count(days) });
    box.replaceChildren(
      el("p", { class: "left", "data-state": state }, el("strong", {}, left), ` · ${say("certificate_until", { day: day(certificate.not_after_unix_s) })}`),
      el("p", {}, (certificate.names ?? []).join(", ")),
      el("p", { class: "hint" }, say("issued_by", { issuer: certificate.issuer })),
    );
  }
}

/** Answers by code, errors first, each with the methods it was given to. */
function answers(requests) {
  const byCode = new Map();
  for (const { method, code, count: often } of requests) {
    if (!often) continue;
    const entry = byCode.get(code) ?? { count: 0, methods: [] };
    entry.count += often;
    entry.methods.push(`${method} ${count(often)}`);
    byCode.set(code, entry);
  }
  return [...byCode].map(([code, entry]) => {
    const [words, hint] = answerWords(code);
    const text = /^\d+$/.test(code) && words !== code ? `${code}: ${words}` : words;
    return { key: code, text, hint, title: entry.methods.join(", "), count: entry.count, bad: code !== "success" };
  }).sort((a, b) => b.bad - a.bad || b.count - a.count);
}

const reasons = (counts, words) => Object.entries(counts)
  .filter(([, often]) => often > 0)
  .map(([reason, often]) => ({ key: reason, text: words(reason), title: reason, count: often }))
  .sort((a, b) => b.count - a.count);

/** The rooms, asked for when a `status` document says that they changed. */
export class Rooms {
  constructor() {
    this.seen = null;
    this.askedMs = 0;
    this.kept = new Map();
  }

  /** Takes a `status` document. */
  take(now) {
    const { rooms = 0, clients = 0 } = now.rooms ?? {};
    setText(byId("rooms-tally"), say("tally_rooms", { rooms: count(rooms), clients: count(clients) }));
    const seen = JSON.stringify(now.rooms ?? null);
    const ageMs = Date.now() - this.askedMs;
    const stale = seen !== this.seen || (rooms > 0 && ageMs > ROOMS_AGE_MAX_MS);
    if (!stale || ageMs < ROOMS_EVERY_MS) return;
    this.seen = seen;
    this.askedMs = Date.now();
    this.#ask();
  }

  async #ask() {
    try {
      const answer = await get("rooms");
      this.#show(Array.isArray(answer) ? answer : answer.rooms ?? []);
    } catch (error) {
      this.seen = null;
      if (error.status) setNote(byId("rooms-note"), say("rooms_off", { reason: error.message }));
    }
  }

  #show(rooms) {
    setNote(byId("rooms-note"), rooms.length === 0 ? say("rooms_empty") : null);
    const make = () => el("li", {}, el("strong"), el("span", { class: "hint" }), el("ul", { class: "chips" }));
    keyed(byId("rooms"), this.kept, rooms, (room) => room.room, make, (node, room) => {
      const clients = room.clients ?? [];
      const [name, facts, list] = node.children;
      setText(name, room.room);
      const words = [clients.length === 1 ? say("room_client") : say("room_clients", { n: count(clients.length) })];
      const queued = Array.isArray(room.queued) ? room.queued.length : room.queued ?? 0;
      if (queued > 0) words.push(say("room_queued", { n: count(queued) }));
      setText(facts, words.join(" · "));
      list.replaceChildren(...clients.map((client) => {
        const notes = [say("room_since", { time: clock(Math.round(Date.now() / 1000) - client.age_s) })];
        if (client.initiator) notes.push(say("initiator"));
        if (client.registered === false) notes.push(say("unregistered"));
        return el("li", {}, el("code", {}, client.id), ` ${notes.join(" · ")}`);
      }));
    });
  }
}
