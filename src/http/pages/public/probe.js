// Measurements of one way to the server: what it answers, and what gets through.

import { pause } from "./page.js";

/** Browsers give up on a silent server after about ten seconds themselves. */
const GATHER_LIMIT_MS = 12_000;
const MEET_LIMIT_MS = 10_000;
const PINGS = 11;
const PING_LIMIT_MS = 2_000;
const MESSAGE_BYTES = 1_100;
/** As fast as a video call sends: 100 messages a second are 880 kbit/s. */
const PACED_MESSAGES = 120;
const PACE_MS = 10;
const RUN_MS = 1_200;
const RUN_BYTES_MAX = 3_500_000;
/** Bytes handed to the browser ahead of the network. */
const AHEAD_BYTES_MAX = 64 << 10;
/** What is still on its way when the run ends has this long to arrive. */
const DRAIN_MS = 1_000;
/** Messages that may be lost or late: what is measured is the network, not a repair. */
const LOSSY = { ordered: false, maxRetransmits: 0 };

/** Rejects with `words` once that long has passed. */
function within(ms, promise, words) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(words)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Gathers through one server alone: the first candidate of that type, the time to it, and the browser's errors. */
export async function gather(iceServer, type) {
  const policy = type === "relay" ? "relay" : "all";
  const peer = new RTCPeerConnection({ iceServers: [iceServer], iceTransportPolicy: policy });
  const began = performance.now();
  const errors = [];
  try {
    const found = new Promise((resolve) => {
      peer.addEventListener("icecandidateerror", ({ errorCode: code, errorText: text }) => errors.push({ code, text }));
      peer.addEventListener("icecandidate", ({ candidate }) => {
        if (candidate?.type === type) resolve(candidate);
      });
      peer.addEventListener("icegatheringstatechange", () => {
        if (peer.iceGatheringState === "complete") resolve(undefined);
      });
    });
    peer.createDataChannel("gather");
    await peer.setLocalDescription();
    const candidate = await within(GATHER_LIMIT_MS, found, "silent").catch(() => null);
    const ms = Math.round(performance.now() - began);
    const place = candidate?.address && { address: candidate.address, port: candidate.port };
    return { found: Boolean(candidate), completed: candidate !== null, ms, errors, ...place };
  } finally {
    peer.close();
  }
}

/** Two ends in this page that meet through that server alone; returns open channels. */
async function meet(iceServer) {
  const configuration = { iceServers: [iceServer], iceTransportPolicy: "relay" };
  const ends = [new RTCPeerConnection(configuration), new RTCPeerConnection(configuration)];
  const close = () => ends.forEach((end) => end.close());
  ends.forEach((end, at) => end.addEventListener("icecandidate", ({ candidate }) => {
    if (candidate?.candidate) ends[1 - at].addIceCandidate(candidate).catch(() => undefined);
  }));
  const open = (label, id) => ends.map((end) => {
    const channel = end.createDataChannel(label, { ...LOSSY, negotiated: true, id });
    channel.binaryType = "arraybuffer";
    return channel;
  });
  const channels = { ping: open("ping", 0), pace: open("pace", 1), run: open("run", 2) };
  const opened = Object.values(channels).flat().map((channel) => new Promise((resolve) => {
    channel.addEventListener("open", resolve, { once: true });
  }));
  try {
    await ends[0].setLocalDescription();
    await ends[1].setRemoteDescription(ends[0].localDescription);
    await ends[1].setLocalDescription();
    await ends[0].setRemoteDescription(ends[1].localDescription);
    await within(MEET_LIMIT_MS, Promise.all(opened), "apart");
  } catch (error) {
    close();
    throw error;
  }
  return { ...channels, close };
}

/** The median time of a message there and back, in milliseconds; pings that are lost do not count. */
async function roundTrip([near, far]) {
  far.addEventListener("message", ({ data }) => far.send(data));
  const times = [];
  for (let at = 0; at < PINGS; at += 1) {
    const began = performance.now();
    const back = new Promise((resolve) => {
      const heard = ({ data }) => {
        if (data !== String(at)) return;
        near.removeEventListener("message", heard);
        resolve();
      };
      near.addEventListener("message", heard);
    });
    near.send(String(at));
    const came = await within(PING_LIMIT_MS, back, "lost").then(() => true, () => false);
    if (came) times.push(performance.now() - began);
  }
  if (times.length === 0) throw new Error("lost");
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length / 2)];
}

/** Counts what arrives; resolves `settled` once all that was sent is there, or the rest has had its time. */
function count(far) {
  const seen = { messages: 0, bytes: 0, last: 0 };
  far.addEventListener("message", ({ data }) => {
    seen.messages += 1;
    seen.bytes += data.byteLength;
    seen.last = performance.now();
  });
  const settled = async (sent) => {
    const drained = performance.now() + DRAIN_MS;
    while (seen.messages < sent && performance.now() < drained) await pause(10);
    if (seen.messages === 0) throw new Error("lost");
  };
  return { seen, settled };
}

/** The share lost at the pace of a video call: a full line would lose some of any test's own making. */
async function losses([near, far], message) {
  const { seen, settled } = count(far);
  for (let sent = 0; sent < PACED_MESSAGES && near.readyState === "open"; sent += 1) {
    near.send(message);
    await pause(PACE_MS);
  }
  await settled(PACED_MESSAGES);
  return 1 - seen.messages / PACED_MESSAGES;
}

/** Bits a second that arrive when as much is sent as goes. */
async function rate([near, far], message) {
  const { seen, settled } = count(far);
  const began = performance.now();
  const more = () => near.readyState === "open" && sent * MESSAGE_BYTES < RUN_BYTES_MAX;
  let sent = 0;
  while (performance.now() - began < RUN_MS && more()) {
    while (near.bufferedAmount < AHEAD_BYTES_MAX && more()) {
      near.send(message);
      sent += 1;
    }
    await pause(2);
  }
  await settled(sent);
  return (seen.bytes * 8000) / Math.max(seen.last - began, 1);
}

/** Round trip, throughput and loss through that server. Throws `apart` when nothing came through, `lost` when it broke. */
export async function through(iceServer) {
  const way = await meet(iceServer);
  try {
    const rtt_ms = await roundTrip(way.ping);
    const message = crypto.getRandomValues(new Uint8Array(MESSAGE_BYTES));
    const loss = await losses(way.pace, message);
    return { rtt_ms, loss, bitsPerSecond: await rate(way.run, message) };
  } finally {
    way.close();
  }
}
