// The header and the tiles: what the whole server does, second by second.

import { byId, el, setAttribute, setNote, setText } from "./dom.js";
import { bits, brief, bytes, clock, count, duration, perSecond } from "./format.js";
import { Series, Spark } from "./spark.js";
import { say } from "./words.js";

/** Values of a tile's sparkline: one a second. */
const SPAN_S = 240;
/** A young sparkline is drawn over this many seconds, so that it is not a splinter at the edge. */
const SPAN_MIN_S = 60;
/** A longer pause between two values of `status` is shown as a gap. */
const PAUSE_MAX_MS = 5_000;

const sum = (numbers) => Object.values(numbers ?? {}).reduce((total, number) => total + number, 0);

/** Each tile: its title, its value now, how that is written, and the lines below; values under `floor` draw no peaks. */
const TILES = [
  {
    key: "allocations", kind: "one", write: brief, value: (now) => now.allocations,
    lines: (now) => [
      say("tile_allocations", { permissions: brief(now.permissions), channels: brief(now.channels) }),
      say("tile_ports", { n: brief(now.ports_free) }),
    ],
  },
  {
    key: "to_peers", kind: "one", write: bits, value: (now, rates) => rates?.to_peer.bytes_per_s,
    lines: (now, rates) => [perSecond(rates?.to_peer.packets_per_s), say("tile_total", { n: bytes(now.relay?.to_peer.bytes) })],
  },
  {
    key: "to_clients", kind: "two", write: bits, value: (now, rates) => rates?.to_client.bytes_per_s,
    lines: (now, rates) => [perSecond(rates?.to_client.packets_per_s), say("tile_total", { n: bytes(now.relay?.to_client.bytes) })],
  },
  {
    key: "packets", kind: "one", write: perSecond, value: (now, rates) => rates && rates.to_peer.packets_per_s + rates.to_client.packets_per_s,
    lines: (now) => [say("tile_total", { n: brief((now.relay?.to_peer.packets ?? 0) + (now.relay?.to_client.packets ?? 0)) })],
  },
  {
    key: "dropped", kind: "bad", floor: 10, write: perSecond, value: (now, rates, lately) => lately?.drops_per_s,
    lines: (now) => [say("tile_total", { n: brief(sum(now.dropped)) })],
  },
  {
    key: "cpu", kind: "calm", floor: 10, write: (value) => (Number.isFinite(value) ? `${value.toFixed(value < 9.95 ? 1 : 0)} %` : "–"),
    value: (now, rates, lately) => lately?.cpu_percent,
    lines: (now) => [say("tile_process", { memory: bytes(now.process?.rss_bytes), files: count(now.process?.open_fds) })],
  },
];

/** The tiles and the header, fed with `status` documents. */
export class Totals {
  constructor() {
    this.before = null;
    this.tiles = TILES.map((tile) => {
      const spark = new Spark(240, 40, tile.kind);
      const number = el("p", { class: "number" });
      const lines = [el("p", { class: "line-1" }), el("p", { class: "line-2" })];
      const peak = el("span", { class: "peak" });
      byId("tiles").append(el("article", { class: `tile ${tile.kind}`, "data-tile": tile.key },
        el("h2", {}, say(tile.key), peak), number, ...lines, spark.node));
      return { ...tile, spark, number, texts: lines, peak, series: new Series(SPAN_S, SPAN_MIN_S) };
    });
  }

  /** Takes a `status` document; draws it unless nobody looks. */
  take(now, visible) {
    const lately = this.#lately(now);
    const rates = now.rates ?? lately?.rates ?? null;
    for (const tile of this.tiles) {
      if (lately?.paused) tile.series.push(null);
      tile.newest = tile.value(now, rates, lately);
      tile.series.push(tile.newest);
    }
    this.before = { now, atMs: Date.now() };
    if (!visible) return;
    for (const tile of this.tiles) {
      setText(tile.number, tile.write(tile.newest));
      tile.lines(now, rates).forEach((line, place) => setText(tile.texts[place], line));
      setText(tile.peak, say("tile_peak", { n: tile.write(tile.series.peak()) }));
      tile.spark.draw(tile.series, Math.max(tile.series.peak(), tile.floor ?? 0));
    }
    this.#header(now);
  }

  /** Rates that only two documents together tell. */
  #lately(now) {
    if (!this.before) return null;
    const { now: before, atMs } = this.before;
    const elapsedMs = Date.now() - atMs;
    // Another start is another server: its counters begin anew.
    if (before.started_unix_s !== now.started_unix_s || elapsedMs < 100) return null;
    const perS = (later, earlier) => Math.max(0, (later - earlier) * 1000) / elapsedMs;
    const way = (name) => ({
      packets_per_s: perS(now.relay[name].packets, before.relay[name].packets),
      bytes_per_s: perS(now.relay[name].bytes, before.relay[name].bytes),
    });
    return {
      paused: elapsedMs > PAUSE_MAX_MS,
      drops_per_s: perS(sum(now.dropped), sum(before.dropped)),
      cpu_percent: now.process ? perS(now.process.cpu_s, before.process?.cpu_s ?? now.process.cpu_s) * 100 : null,
      rates: now.relay ? { to_peer: way("to_peer"), to_client: way("to_client") } : null,
    };
  }

  #header(now) {
    setText(byId("realm"), now.realm || "turnpike");
    document.title = `${count(now.allocations)} · ${now.realm || "turnpike"}`;
    const state = byId("state");
    state.hidden = false;
    setText(state, say(now.draining ? "draining" : "serving"));
    setAttribute(state, "data-state", now.draining ? "draining" : "serving");
    const left = now.drain?.left_s ?? null;
    const word = left === null ? "banner_draining" : "banner_draining_until";
    setNote(byId("banner"), now.draining ? say(word, { n: count(now.allocations), left: duration(left) }) : null);
    const facts = [["version", now.version], ["uptime", duration(now.uptime_s)], ["workers", count(now.workers)], ["connections", count(now.connections)]];
    const list = byId("facts");
    if (list.childElementCount === 0) {
      list.append(...facts.map(([key]) => el("div", {}, el("dt", {}, say(key)), el("dd", { "data-fact": key }))));
    }
    for (const [key, value] of facts) setText(list.querySelector(`[data-fact=${key}]`), value);
  }
}

/** Shows whether the events arrive, and since when they do not. */
export class Link {
  constructor() {
    this.state = { link: "connecting" };
    setInterval(() => this.#show(), 500);
    this.#show();
  }

  /** Takes what the stream says of itself. */
  take(state) {
    if (this.state.link === state.link && state.link === "live") return;
    this.state = state;
    this.#show();
  }

  #show() {
    const { link, sinceMs, retryMs, reason } = this.state;
    setAttribute(document.body, "data-link", link);
    if (link !== "lost") {
      setText(byId("link-text"), say(link));
      return;
    }
    const time = clock(sinceMs / 1000);
    const s = Math.ceil((retryMs - Date.now()) / 1000);
    setText(byId("link-text"), s > 0 ? say("lost", { time, s }) : say("retrying", { time }));
    setNote(byId("banner"), reason ? say("banner_refused", { reason }) : say("banner_lost", { time }));
  }
}
