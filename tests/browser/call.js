// The page's half of relay_call.mjs: two peers in one page, every byte between them relayed.

const MESSAGES = 200;
const MESSAGE_BYTES_MAX = 16 * 1024;
/** Bytes queued in the data channel before the sender waits: enough to keep the relay busy, small enough to stay fair to the video. */
const QUEUED_BYTES_MAX = 256 * 1024;
const FRAMES_STEP = 15;
const MEET_LIMIT_MS = 20_000;

/** Resolves with the first event of that name. */
const next = (target, name) => new Promise((resolve) => target.addEventListener(name, resolve, { once: true }));

/** Asks `probe` again and again until it answers; the caller limits the whole call. */
async function until(probe) {
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Two peers that know only relayed candidates, each given the other's as they are found. */
function makePeers(iceServers, errors, iceTransportPolicy = "relay") {
  const peers = [0, 1].map(() => new RTCPeerConnection({ iceServers, iceTransportPolicy }));
  peers.forEach((peer, i) => {
    peer.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate) peers[1 - i].addIceCandidate(candidate);
    });
    peer.addEventListener("icecandidateerror", ({ errorCode, errorText, url }) => errors.add(`${errorCode} ${errorText} (${url})`));
  });
  return peers;
}

/** Rejects once a peer has looked everywhere and found no relayed candidate: the server refused it. */
function noCandidate(peer) {
  return new Promise((_, reject) => {
    let found = 0;
    peer.addEventListener("icecandidate", ({ candidate }) => { if (candidate?.candidate) found += 1; });
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState === "complete" && found === 0) reject(new Error("no relayed candidate"));
    });
  });
}

async function connect(caller, callee) {
  await caller.setLocalDescription();
  await callee.setRemoteDescription(caller.localDescription);
  await callee.setLocalDescription();
  await caller.setRemoteDescription(callee.localDescription);
  for (const peer of [caller, callee]) {
    await until(() => {
      if (peer.connectionState === "failed") throw new Error("the peers never met: connection failed");
      return peer.connectionState === "connected";
    });
  }
}

/** Sizes at both limits first, random between them after. */
function messageOf(index) {
  const size = [1, MESSAGE_BYTES_MAX][index] ?? 1 + Math.floor(Math.random() * MESSAGE_BYTES_MAX);
  return crypto.getRandomValues(new Uint8Array(size));
}

const equal = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Sends random messages and compares each echo; returns messages and bytes that came back the same. */
async function echo(channel) {
  const sent = [];
  const seen = { messages: 0, bytes: 0 };
  const done = new Promise((resolve, reject) => {
    channel.addEventListener("message", ({ data }) => {
      const wanted = sent[seen.messages];
      if (!equal(wanted, new Uint8Array(data))) return reject(new Error(`echo ${seen.messages} differs from what was sent`));
      seen.messages += 1;
      seen.bytes += wanted.length;
      if (seen.messages === MESSAGES) resolve(seen);
    });
    channel.addEventListener("close", () => reject(new Error("the data channel closed")));
  });
  const send = async () => {
    for (let i = 0; i < MESSAGES; i += 1) {
      if (channel.bufferedAmount > QUEUED_BYTES_MAX) await next(channel, "bufferedamountlow");
      sent.push(messageOf(i));
      channel.send(sent[i]);
    }
  };
  const [result] = await Promise.all([done, send()]);
  return result;
}

/** Waits for decoded frames, then for more of them: the picture moves. */
async function watch(peer) {
  const decoded = async (least) => {
    for (const stat of (await peer.getStats()).values()) {
      if (stat.type === "inbound-rtp" && stat.kind === "video" && stat.framesDecoded >= least) return stat;
    }
    return undefined;
  };
  const first = await until(() => decoded(1));
  const last = await until(() => decoded(first.framesDecoded + FRAMES_STEP));
  return { framesFirst: first.framesDecoded, framesDecoded: last.framesDecoded, frameWidth: last.frameWidth, frameHeight: last.frameHeight };
}

/** The candidate pair the peer really uses. */
async function selectedPair(peer) {
  const stats = await peer.getStats();
  const transport = [...stats.values()].find((stat) => stat.type === "transport");
  const pair = stats.get(transport.selectedCandidatePairId);
  const [local, remote] = [stats.get(pair.localCandidateId), stats.get(pair.remoteCandidateId)];
  return {
    local: local.candidateType,
    remote: remote.candidateType,
    relayProtocol: local.relayProtocol,
    relayedAddress: local.address.includes(":") ? `[${local.address}]:${local.port}` : `${local.address}:${local.port}`,
    bytesSent: pair.bytesSent,
    bytesReceived: pair.bytesReceived,
  };
}

function checkPair(pair, wanted) {
  if (pair.local !== "relay" || pair.remote !== "relay") throw new Error(`the selected pair is ${pair.local}/${pair.remote}, not relay/relay`);
  if (pair.relayProtocol !== wanted) throw new Error(`relayed over ${pair.relayProtocol}, not ${wanted}`);
}

/** One whole call; `wanted` is a case of relay_call.mjs. Never rejects: what went wrong is in `failed`. */
window.relayedCall = async ({ iceServers, relayProtocol }) => {
  const errors = new Set();
  const began = performance.now();
  const [caller, callee] = makePeers(iceServers, errors);
  const seen = {};
  try {
    const camera = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
    camera.getTracks().forEach((track) => caller.addTrack(track, camera));
    callee.addEventListener("track", ({ streams }) => { document.getElementById("seen").srcObject = streams[0]; });
    callee.addEventListener("datachannel", ({ channel }) => {
      channel.binaryType = "arraybuffer";
      channel.addEventListener("message", ({ data }) => channel.send(data));
    });
    const channel = caller.createDataChannel("echo");
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = QUEUED_BYTES_MAX / 2;
    const opened = next(channel, "open");

    seen.stage = "connecting";
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`the peers did not meet within ${MEET_LIMIT_MS} ms`)), MEET_LIMIT_MS));
    await Promise.race([connect(caller, callee).then(() => opened), noCandidate(caller), late]);
    seen.connectedMs = Math.round(performance.now() - began);

    seen.stage = "sending";
    const [echoed, watched] = await Promise.all([echo(channel), watch(callee)]);
    Object.assign(seen, { echoed, watched });

    seen.stage = "judging";
    seen.pairs = [await selectedPair(caller), await selectedPair(callee)];
    seen.pairs.forEach((pair) => checkPair(pair, relayProtocol));
    delete seen.stage;
  } catch (error) {
    seen.failed = `${seen.stage ?? "preparing"}: ${error.message}`;
    seen.iceErrors = [...errors];
  } finally {
    caller.close();
    callee.close();
  }
  return seen;
};

/** A call of one camera's picture, one way, that lasts; `seen` is where it plays. */
async function callOn(iceServers, policy, seen) {
  const errors = new Set();
  const [caller, callee] = makePeers(iceServers, errors, policy);
  const camera = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 } });
  camera.getTracks().forEach((track) => caller.addTrack(track, camera));
  callee.addEventListener("track", ({ streams }) => { seen.srcObject = streams[0]; });
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`the peers did not meet within ${MEET_LIMIT_MS} ms`)), MEET_LIMIT_MS));
  await Promise.race([connect(caller, callee), noCandidate(caller), late]);
  return [caller, callee];
}

/** Begins two lasting calls: one that is relayed, and one past the relay, which shows what this machine alone does to a picture. */
window.begin = async (iceServers) => {
  const seen = document.getElementById("seen");
  const beside = seen.cloneNode();
  seen.after(beside);
  window.lasting = { relayed: await callOn(iceServers, "relay", seen), direct: await callOn([], "all", beside) };
  return (await selectedPair(window.lasting.relayed[1])).local;
};

async function inbound(peer) {
  const stats = [...(await peer.getStats()).values()];
  const video = stats.find((stat) => stat.type === "inbound-rtp" && stat.kind === "video");
  return { frames: video?.framesDecoded ?? 0, freezes: video?.freezeCount ?? 0, lost: video?.packetsLost ?? 0 };
}

/** Waits until the relayed call has shown so many more frames, and says how both calls fare. */
window.advance = async (frames) => {
  const { relayed, direct } = window.lasting;
  const goal = (await inbound(relayed[1])).frames + frames;
  await until(async () => {
    if (relayed[1].connectionState !== "connected") throw new Error(`the relayed call is ${relayed[1].connectionState}`);
    return (await inbound(relayed[1])).frames >= goal;
  });
  return { relayed: await inbound(relayed[1]), direct: await inbound(direct[1]) };
};

/** What a newcomer finds: how many relayed candidates, and the codes of the refusals. */
window.tryAnew = async (iceServers) => {
  const peer = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
  const seen = { candidates: 0, codes: [] };
  peer.addEventListener("icecandidate", ({ candidate }) => { if (candidate?.candidate) seen.candidates += 1; });
  peer.addEventListener("icecandidateerror", ({ errorCode }) => { seen.codes.push(errorCode); });
  peer.createDataChannel("any");
  await peer.setLocalDescription();
  await until(() => peer.iceGatheringState === "complete");
  peer.close();
  return seen;
};

/** Ends the lasting calls. */
window.hangUp = () => Object.values(window.lasting).flat().forEach((peer) => peer.close());
