// The way to the other side: AppRTC's room server and Collider's socket.
//
// Whoever is first in the room says everything by POST, where it waits for the second; the second says everything by
// the socket. A socket that breaks is opened again under the same name; once the server has given the seat away,
// `expelled` asks for a new one.

import { refusal } from "./page.js";
import { t } from "./i18n.js";

/** How long the server keeps the seat of a client whose socket broke, less the time to get there. */
const GRACE_MS = 9_000;
const RETRY_MS = [200, 500, 1_000, 1_500, 2_500];
const POST_TRIES = 4;

export class RoomFull extends Error {}

/** A message of the other side; what is no object with a type is none. */
export function parse(text) {
  try {
    const message = JSON.parse(text);
    return typeof message?.type === "string" ? message : undefined;
  } catch {
    return undefined;
  }
}

export class Signalling {
  /** `on`: `message(object)`, `lost()`, `back()`, `expelled()`, `refused(words)`. */
  constructor(room, search, on) {
    Object.assign(this, { room, search, on });
    this.posts = Promise.resolve();
    this.outbox = [];
    this.tries = 0;
    this.closed = false;
  }

  /** Takes a seat; returns the server's params. Throws `RoomFull`, or an error in words. */
  async join() {
    let answer;
    try {
      answer = await fetch(`/join/${this.room}${this.search}`, { method: "POST" });
    } catch {
      throw new Error(t("unreachable"));
    }
    if (!answer.ok) throw new Error(await refusal(answer));
    const { result, params } = await answer.json();
    if (result === "FULL") throw new RoomFull();
    if (result !== "SUCCESS") throw new Error(result);
    this.client = params.client_id;
    this.#connect();
    return params;
  }

  /** Says something to the other side, by POST when this is the first in the room. */
  send(message, byPost) {
    const text = JSON.stringify(message);
    if (byPost) this.posts = this.posts.then(() => this.#post(text));
    else if (this.#isOpen()) this.socket.send(JSON.stringify({ cmd: "send", msg: text }));
    else this.outbox.push(text);
  }

  /** Gives the seat back and tells the other side, in the order that its page relies on; returns whether the server heard. */
  async leave() {
    this.closed = true;
    clearTimeout(this.timer);
    if (!this.client) return true;
    const tell = (path, method) => fetch(path, { method, keepalive: true }).then((answer) => answer.text()).then(() => true, () => false);
    const left = await tell(this.#path("leave"), "POST");
    this.#bye();
    return (await tell(`/collider/${this.room}/${this.client}`, "DELETE")) && left;
  }

  /** The same while the page goes away. */
  leaveAtOnce() {
    this.closed = true;
    clearTimeout(this.timer);
    if (!this.client) return;
    navigator.sendBeacon(this.#path("leave"));
    this.#bye();
  }

  #bye() {
    if (this.#isOpen()) this.socket.send(JSON.stringify({ cmd: "send", msg: JSON.stringify({ type: "bye" }) }));
    this.socket?.close();
  }

  #path(what) { return `/${what}/${this.room}/${this.client}${this.search}`; }

  #isOpen() { return this.socket?.readyState === WebSocket.OPEN; }

  #connect() {
    // Its own server, whatever host a link may name.
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.addEventListener("open", () => this.#opened());
    socket.addEventListener("message", ({ data }) => this.#received(data));
    socket.addEventListener("close", () => { if (socket === this.socket) this.#broke(); });
  }

  #opened() {
    if (this.lostAt && Date.now() - this.lostAt > GRACE_MS) return this.#expel();
    this.socket.send(JSON.stringify({ cmd: "register", roomid: this.room, clientid: this.client }));
    for (const text of this.outbox.splice(0)) this.socket.send(JSON.stringify({ cmd: "send", msg: text }));
    if (!this.lostAt) return undefined;
    this.lostAt = undefined;
    return this.on.back();
  }

  #received(data) {
    // The server's own frame, always with both.
    const { msg, error } = JSON.parse(data);
    if (error) {
      // The server still holds this client's broken socket for alive, and its seat with it.
      if (error.startsWith("Duplicated registration") && this.tries > 1) this.#expel();
      return;
    }
    this.tries = 0;
    const message = parse(msg);
    if (message) this.on.message(message);
  }

  #broke() {
    if (this.closed) return;
    if (!this.lostAt) {
      this.lostAt = Date.now();
      this.on.lost();
    }
    const wait = RETRY_MS[Math.min(this.tries, RETRY_MS.length - 1)];
    this.tries += 1;
    this.timer = setTimeout(() => this.#connect(), wait);
  }

  #expel() {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close();
    this.on.expelled();
  }

  /** Posts in the order of `send`, and again when the network fails. */
  async #post(text) {
    for (let tries = 0; tries < POST_TRIES && !this.closed; tries += 1) {
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, RETRY_MS[tries]));
      const answer = await fetch(this.#path("message"), { method: "POST", body: text }).catch(() => undefined);
      if (answer?.ok) {
        const { result } = await answer.json().catch(() => ({}));
        if (result === "UNKNOWN_ROOM" || result === "UNKNOWN_CLIENT") this.#expel();
        return;
      }
      if (answer && answer.status < 500 && answer.status !== 429) {
        this.on.refused(await refusal(answer));
        return;
      }
    }
  }
}
