// One connection to the other side: perfect negotiation in AppRTC's messages.
//
// The first in the room is impolite and makes the first offer; the second is polite and begins by answering. Both
// may offer later. An AppRTC page that began the call answers no offer, so an offer of ours that stays unanswered is
// taken back.

const ANSWER_LIMIT_MS = 10_000;
/** A connection that is disturbed for this long is mended before the browser calls it failed. */
const DISTURBED_MS = 2_000;
/** The polite side leaves the first try to the other. */
const POLITE_WAIT_MS = 2_500;
/** A connection that failed is given up after this long. */
const MEND_LIMIT_MS = 20_000;
const CHANNEL = { negotiated: true, id: 0 };

/** Names the other side's connection: another one has another number here. */
export const sessionOf = (sdp) => /^o=\S+ (\S+)/m.exec(sdp ?? "")?.[1];

export class Peer {
  /**
   * `on`: `send(message)`, `track(stream)`, `state(connectionState)`, `channel(channel)`, `dead()`,
   * `gathered(found)`; `renew()` gives fresh ICE servers.
   */
  constructor({ configuration, polite, media, renew, on }) {
    Object.assign(this, { polite, media, renew, on });
    this.remote = new MediaStream();
    this.early = [];
    this.chain = Promise.resolve();
    this.found = new Set();
    this.pc = new RTCPeerConnection(configuration);
    this.#listen();
    if (!polite) this.#offerAll();
  }

  /** Takes a message of the other side; they are judged one after the other. */
  handle(message) {
    this.chain = this.chain.then(() => this.#handle(message)).catch((error) => {
      if (!this.closed) console.warn(`${message.type}: ${error.message}`);
    });
    return this.chain;
  }

  /** Sends what the media are now. */
  refreshTracks() {
    for (const [kind, track] of [["audio", this.media.audioTrack], ["video", this.media.videoTrack]]) {
      const sender = this.#transceiver(kind)?.sender;
      if (sender && sender.track !== (track ?? null)) sender.replaceTrack(track ?? null).catch(() => undefined);
    }
  }

  /** Puts renewed credentials in force for whatever is gathered from now on. */
  setIceServers(iceServers) {
    if (!this.closed) this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
  }

  close() {
    this.closed = true;
    clearTimeout(this.answerTimer);
    clearTimeout(this.mendTimer);
    clearTimeout(this.deadTimer);
    this.pc.close();
  }

  #listen() {
    const pc = this.pc;
    pc.addEventListener("negotiationneeded", () => this.#offer());
    pc.addEventListener("icecandidate", ({ candidate }) => {
      if (!candidate?.candidate) return;
      this.found.add(candidate.type);
      const { sdpMLineIndex: label, sdpMid: id } = candidate;
      this.on.send({ type: "candidate", label, id, candidate: candidate.candidate });
    });
    pc.addEventListener("icegatheringstatechange", () => {
      if (pc.iceGatheringState === "complete") this.on.gathered(this.found);
    });
    pc.addEventListener("track", ({ track }) => {
      for (const old of this.remote.getTracks().filter((kept) => kept.kind === track.kind)) this.remote.removeTrack(old);
      this.remote.addTrack(track);
      for (const change of ["mute", "unmute", "ended"]) track.addEventListener(change, () => this.on.track(this.remote));
      this.on.track(this.remote);
    });
    pc.addEventListener("connectionstatechange", () => this.#stateChanged());
  }

  #stateChanged() {
    const state = this.pc.connectionState;
    if (state === "connected") {
      this.setupMs ??= Math.round(performance.now() - this.began);
      this.connectedAt ??= performance.now();
      clearTimeout(this.mendTimer);
      clearTimeout(this.deadTimer);
      this.deadTimer = undefined;
    } else if (state === "disconnected" || state === "failed") {
      if (state === "failed") this.deadTimer ??= setTimeout(() => this.on.dead(), MEND_LIMIT_MS);
      clearTimeout(this.mendTimer);
      const wait = (state === "failed" ? 0 : DISTURBED_MS) + (this.polite ? POLITE_WAIT_MS : 0);
      this.mendTimer = setTimeout(() => this.#mend(), wait);
    }
    this.on.state(state);
  }

  async #mend() {
    const servers = await this.renew();
    if (this.closed || this.pc.connectionState === "connected") return;
    this.setIceServers(servers);
    this.pc.restartIce();
  }

  #transceiver(kind) {
    return this.pc.getTransceivers().find((found) => found.receiver.track.kind === kind && found.currentDirection !== "stopped");
  }

  /** Audio, video and the channel, whatever devices there are: later changes then need no new offer. */
  #offerAll() {
    const streams = [this.media.stream];
    this.pc.addTransceiver(this.media.audioTrack ?? "audio", { direction: "sendrecv", streams });
    this.pc.addTransceiver(this.media.videoTrack ?? "video", { direction: "sendrecv", streams });
    this.adopted = true;
    this.#openChannel();
  }

  /** Answers the first offer with what this side has. */
  #adopt(sdp) {
    this.adopted = true;
    for (const kind of ["audio", "video"]) {
      const transceiver = this.#transceiver(kind);
      if (!transceiver) continue;
      transceiver.direction = "sendrecv";
      transceiver.sender.setStreams?.(this.media.stream);
    }
    this.refreshTracks();
    if (/^m=application /m.test(sdp)) this.#openChannel();
  }

  #openChannel() {
    const channel = this.pc.createDataChannel("turnpike", CHANNEL);
    this.on.channel(channel);
  }

  async #offer() {
    // The polite side begins by answering.
    if (this.closed || this.deaf || !this.adopted) return;
    try {
      this.offering = true;
      await this.pc.setLocalDescription();
      if (this.pc.signalingState !== "have-local-offer") return;
      this.on.send({ type: "offer", sdp: this.pc.localDescription.sdp });
      this.#awaitAnswer();
    } catch (error) {
      if (!this.closed) console.warn(`offer: ${error.message}`);
    } finally {
      this.offering = false;
    }
  }

  #awaitAnswer() {
    clearTimeout(this.answerTimer);
    // The first offer waits for whoever comes, however late.
    if (!this.pc.remoteDescription) return;
    this.answerTimer = setTimeout(async () => {
      if (this.closed || this.pc.signalingState !== "have-local-offer") return;
      this.deaf = true;
      await this.pc.setLocalDescription({ type: "rollback" }).catch(() => undefined);
    }, ANSWER_LIMIT_MS);
  }

  async #handle(message) {
    if (this.closed) return;
    if (message.type === "offer") await this.#answer(message);
    else if (message.type === "answer") await this.#accept(message);
    else if (message.type === "candidate") await this.#candidate(message);
  }

  async #answer({ sdp }) {
    const collision = this.offering || this.pc.signalingState !== "stable";
    this.ignoring = collision && !this.polite;
    if (this.ignoring) return;
    this.began ??= performance.now();
    await this.pc.setRemoteDescription({ type: "offer", sdp });
    this.remoteSession = sessionOf(sdp);
    if (!this.adopted) this.#adopt(sdp);
    await this.pc.setLocalDescription();
    this.on.send({ type: "answer", sdp: this.pc.localDescription.sdp });
    await this.#addEarly();
  }

  async #accept({ sdp }) {
    if (this.pc.signalingState !== "have-local-offer") return;
    this.began ??= performance.now();
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    clearTimeout(this.answerTimer);
    this.remoteSession = sessionOf(sdp);
    await this.#addEarly();
  }

  async #candidate({ label, id, candidate }) {
    if (!candidate) return;
    const found = { candidate, sdpMLineIndex: label, ...(id === undefined ? {} : { sdpMid: String(id) }) };
    if (!this.pc.remoteDescription) {
      this.early.push(found);
      return;
    }
    await this.pc.addIceCandidate(found).catch((error) => { if (!this.ignoring) throw error; });
  }

  async #addEarly() {
    for (const candidate of this.early.splice(0)) await this.pc.addIceCandidate(candidate);
  }
}
