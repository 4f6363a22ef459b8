// A stay in a room: the seat, the credentials, and one connection after another.

import { IceServers } from "./ice.js";
import { Peer, sessionOf } from "./peer.js";
import { RoomFull, Signalling, parse } from "./signalling.js";
import { pause } from "./page.js";
import { t } from "./i18n.js";

/** The second in the room waits this long for the first one's offer; then it joins again, which makes the first one offer again. */
const OFFER_LIMIT_MS = 15_000;
const REJOIN_TRIES_MAX = 20;
/** Candidates that may come before the offer they belong to. */
const AHEAD_MAX = 256;
const REJOIN_MS = [0, 500, 1_000, 2_000, 4_000, 8_000];
/** A connection that has no relayed candidate and no other way after this long is told of. */
const RELAY_LATE_MS = 3_000;
/** Two who offer at once wait up to this long before one gives way. */
const GIVE_WAY_MS = 1_500;

/** AppRTC's configuration as today's browsers take it. */
export function modernConfiguration(text, search) {
  const { iceTransports, ...configuration } = JSON.parse(text || "{}");
  const wanted = configuration.iceTransportPolicy ?? iceTransports ?? new URLSearchParams(search).get("it");
  if (wanted === "relay") configuration.iceTransportPolicy = "relay";
  else delete configuration.iceTransportPolicy;
  return configuration;
}

export class Session {
  /**
   * `on`: `waiting(afterCall)`, `connecting()`, `state(connectionState)`, `track(stream)`, `channel(channel)`,
   * `notice(key, values)`, `socket(isOpen)`, `failed(error)`.
   */
  constructor({ room, search, params, media, on }) {
    Object.assign(this, { room, search, params, media, on });
    this.ahead = [];
    const transport = params.ice_server_transports || new URLSearchParams(search).get("tt") || "";
    const { iceServers: fixed = [] } = JSON.parse(params.pc_config || "{}");
    this.ice = new IceServers({
      url: params.ice_server_url, fixed, transport, search,
      renewed: (servers) => this.#renewed(servers),
      failed: (why) => this.on.notice("no_credentials", { why }),
    });
  }

  /** Takes a seat and begins. Throws `RoomFull`, or an error in words. */
  async start() {
    const servers = await this.ice.get();
    if (!this.closed) await this.#enter(servers);
  }

  async #enter(servers) {
    const signalling = new Signalling(this.room, this.search, {
      message: (message) => { if (this.signalling === signalling) this.#handle(message); },
      lost: () => this.on.socket(false),
      back: () => this.on.socket(true),
      expelled: () => this.#rejoin(),
      refused: (why) => this.on.notice("join_failed", { why }),
    });
    this.signalling = signalling;
    this.params = await signalling.join();
    if (this.closed) {
      signalling.leaveAtOnce();
      return;
    }
    this.configuration = { ...modernConfiguration(this.params.pc_config, this.search), iceServers: servers };
    this.initiator = this.params.is_initiator === "true";
    const waiting = (this.params.messages ?? []).map(parse).filter(Boolean);
    if (this.initiator) {
      this.on.waiting(false);
      this.#connect();
      return;
    }
    this.on.connecting();
    for (const message of waiting) this.#handle(message);
    this.offerTimer = setTimeout(() => { if (!this.peer) this.#rejoin(); }, OFFER_LIMIT_MS);
  }

  /** Leaves for good. */
  async leave() {
    this.#close();
    await this.signalling?.leave();
  }

  /** The same while the page goes away. */
  leaveAtOnce() {
    this.#close();
    this.signalling?.leaveAtOnce();
  }

  refreshTracks() { this.peer?.refreshTracks(); }

  #close() {
    this.closed = true;
    this.ice.close();
    clearTimeout(this.offerTimer);
    this.#disconnect();
  }

  #disconnect() {
    this.peer?.close();
    this.peer = undefined;
    this.theirs = undefined;
  }

  #connect() {
    this.#disconnect();
    const peer = new Peer({
      configuration: this.configuration,
      polite: !this.initiator,
      media: this.media,
      renew: () => this.ice.get(),
      on: {
        send: (message) => { if (this.peer === peer) this.signalling.send(message, this.initiator); },
        track: (stream) => { if (this.peer === peer) this.on.track(stream); },
        state: (state) => { if (this.peer === peer) this.on.state(state); },
        channel: (channel) => this.on.channel(channel),
        dead: () => { if (this.peer === peer) this.#rejoin(); },
        gathered: () => this.#judgeRelay(peer),
      },
    });
    this.peer = peer;
    return peer;
  }

  /** New credentials are for what is gathered from now on; where there were none at all, the stay begins anew. */
  #renewed(servers) {
    const hadNone = this.configuration?.iceServers.length === 0;
    if (this.configuration) this.configuration.iceServers = servers;
    this.peer?.setIceServers(servers);
    if (hadNone && this.peer?.pc.connectionState !== "connected") this.#rejoin();
  }

  /** Says that the relay is out of reach, unless the two have met without it: gathering may end early then. */
  #judgeRelay(peer) {
    const offered = this.configuration.iceServers.some(({ urls }) => [urls].flat().some((url) => url.startsWith("turn")));
    if (!offered || peer.found.has("relay") || this.relayTold) return;
    setTimeout(() => {
      if (this.peer !== peer || peer.found.has("relay") || peer.connectedAt !== undefined) return;
      this.relayTold = true;
      this.on.notice("no_relay");
    }, RELAY_LATE_MS);
  }

  #handle(message) {
    if (this.closed) return;
    if (message.type === "bye") this.#remoteLeft();
    else if (message.type === "offer") this.#offered(message);
    else if (this.peer) this.peer.handle(message);
    else if (this.ahead.length < AHEAD_MAX) this.ahead.push(message);
  }

  /** The other side began again, or left: this one is now the first in the room. */
  async #remoteLeft() {
    const afterCall = Boolean(this.peer?.connectedAt);
    this.initiator = true;
    this.ahead = [];
    this.#disconnect();
    this.on.waiting(afterCall);
    this.configuration.iceServers = await this.ice.get();
    if (!this.closed && !this.peer) this.#connect();
  }

  async #offered(message) {
    clearTimeout(this.offerTimer);
    const known = this.theirs ?? this.peer?.remoteSession;
    if (this.peer && !known && this.initiator) {
      // Both made a first offer: whoever wakes first gives way and answers.
      const peer = this.peer;
      await pause(Math.random() * GIVE_WAY_MS);
      if (this.peer !== peer || peer.remoteSession || this.closed) return;
    }
    if (!this.peer || known !== sessionOf(message.sdp)) {
      // Another connection than before, so another page over there: it leads from now on.
      if (!this.peer || known || this.initiator) {
        this.initiator = false;
        this.on.connecting();
        this.#connect();
      }
    }
    this.theirs = sessionOf(message.sdp);
    this.peer.handle(message);
    for (const early of this.ahead.splice(0)) this.peer.handle(early);
  }

  /** The seat is gone, or the connection beyond mending: as a new client, as often as it takes. */
  async #rejoin() {
    if (this.closed || this.rejoining) return;
    this.rejoining = true;
    this.on.notice("rejoining");
    clearTimeout(this.offerTimer);
    const before = this.signalling;
    this.#disconnect();
    const failure = await this.#enterAgain(before);
    this.rejoining = false;
    if (this.closed) return;
    if (failure) this.on.failed(failure);
    else this.on.socket(true);
  }

  /** Tries until there is a seat; returns why there is none. The one of before is given back first: this one needs it. */
  async #enterAgain(before) {
    let failure = new Error(t("unreachable"));
    let left = false;
    for (let tries = 0; tries < REJOIN_TRIES_MAX && !this.closed; tries += 1) {
      await pause(REJOIN_MS[Math.min(tries, REJOIN_MS.length - 1)] * (0.75 + Math.random() / 2));
      left ||= await before.leave();
      if (this.closed) break;
      if (!left) continue;
      try {
        await this.#enter(await this.ice.get());
        return undefined;
      } catch (error) {
        failure = error;
        if (error instanceof RoomFull) break;
      }
    }
    return failure;
  }
}
