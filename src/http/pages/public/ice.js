// Relay credentials: fetched with the token that the server put into the page, renewed long before they end.

import { refusal } from "./page.js";

/** Part of a credential's life after which it is renewed. */
const RENEW_AT = 0.6;
/** A renewal that fails is tried again after this long. */
const RETRY_MS = 30_000;
/** A timer cannot wait longer than 2^31 ms; a day is plenty. */
const WAIT_MAX_MS = 24 * 3600 * 1000;

/** Keeps URLs of one transport, as AppRTC's `tt=` does. */
export function ofTransport(servers, transport) {
  if (!transport) return servers;
  return servers.flatMap((server) => {
    const urls = [server.urls].flat().flatMap((url) => {
      if (url.includes(`transport=${transport}`)) return [url];
      return url.startsWith("turn") && !url.includes("?transport=") ? [`${url}?transport=${transport}`] : [];
    });
    return urls.length > 0 ? [{ ...server, urls }] : [];
  });
}

export class IceServers {
  /** `renewed` is called with new servers, `failed` with words when the server gives none. */
  constructor({ url, fixed = [], transport = "", search = "", renewed, failed }) {
    Object.assign(this, { url, fixed, transport, search, renewed, failed });
    this.servers = undefined;
    this.timer = undefined;
  }

  /** The servers, fresh enough to begin with. */
  async get() {
    if (this.servers && performance.now() < this.renewAt) return this.servers;
    try {
      await this.#fetch();
    } catch (error) {
      this.failed(error.message);
      this.#wait(RETRY_MS);
    }
    return this.servers ?? [];
  }

  /** Ends renewing. */
  close() {
    clearTimeout(this.timer);
    this.closed = true;
  }

  async #fetch() {
    if (this.fixed.length > 0) {
      this.renewAt = Infinity;
      this.servers = ofTransport(this.fixed, this.transport);
      return;
    }
    if (!this.url) {
      this.renewAt = Infinity;
      this.servers = [];
      return;
    }
    let answer = await this.#ask();
    if (answer.status === 401 || answer.status === 403) {
      // The token in the page is older than its limit: the server makes another.
      const params = await fetch(`/params${this.search}`);
      if (params.ok) this.url = (await params.json()).ice_server_url || this.url;
      answer = await this.#ask();
    }
    if (!answer.ok) throw new Error(await refusal(answer));
    const { iceServers, lifetimeDuration } = await answer.json();
    const life_ms = (Number.parseFloat(lifetimeDuration) || 86_400) * 1000;
    this.renewAt = performance.now() + life_ms * RENEW_AT;
    this.servers = ofTransport(iceServers, this.transport);
    this.#wait(Math.min(life_ms * RENEW_AT, WAIT_MAX_MS));
  }

  /** Always this server: whatever name it gives itself, the page talks to nobody else. */
  #ask() {
    const { pathname, search } = new URL(this.url, location.href);
    return fetch(pathname + search, { method: "POST" });
  }

  #wait(ms) {
    clearTimeout(this.timer);
    if (this.closed) return;
    this.timer = setTimeout(async () => {
      const before = this.servers;
      this.renewAt = 0;
      const servers = await this.get();
      if (servers !== before && !this.closed) this.renewed(servers);
    }, ms);
  }
}
