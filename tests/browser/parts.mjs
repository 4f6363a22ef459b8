// The parts of the pages that need no browser, each against what it promises.
//
//   node parts.mjs '{}'

import assert from "node:assert/strict";

const part = (name) => import(new URL(`../../src/http/pages/public/${name}.js`, import.meta.url));
const { modernConstraints } = await part("media");
const { ofTransport, IceServers } = await part("ice");
const { modernConfiguration } = await part("session");
const { parse } = await part("signalling");
const { sessionOf } = await part("peer");
const { clock, describe } = await part("stats");
const { isGoodName, isRandomName, randomName } = await part("rooms");
const { hostOf } = await part("page");
const { rowsOf, verdictOf, whyNot } = await part("verdict");

const tests = {
  "AppRTC's constraints become today's"() {
    assert.equal(modernConstraints(true), true);
    assert.equal(modernConstraints(false), false);
    assert.equal(modernConstraints(undefined), true);
    assert.deepEqual(modernConstraints({ mandatory: { minWidth: "1280", maxHeight: "720" }, optional: [{ minFrameRate: "30" }] }), {
      width: { min: 1280 }, height: { max: 720 }, frameRate: { ideal: 30 },
    });
    assert.deepEqual(modernConstraints({ mandatory: { googNoise: "x", minWidth: "wide" }, optional: [{ facingMode: "user" }] }), { facingMode: { ideal: "user" } });
  },

  "tt keeps one transport"() {
    const servers = [{ urls: ["turn:a?transport=udp", "turn:a?transport=tcp", "turn:b", "stun:a"], username: "u" }, { urls: "stun:c" }];
    assert.equal(ofTransport(servers, ""), servers);
    assert.deepEqual(ofTransport(servers, "tcp"), [{ urls: ["turn:a?transport=tcp", "turn:b?transport=tcp"], username: "u" }]);
  },

  "it=relay holds whoever says it"() {
    assert.deepEqual(modernConfiguration('{"iceServers":[],"iceTransports":"relay"}', ""), { iceServers: [], iceTransportPolicy: "relay" });
    assert.deepEqual(modernConfiguration("{}", "?it=relay"), { iceTransportPolicy: "relay" });
    assert.deepEqual(modernConfiguration('{"iceTransportPolicy":"all"}', "?it=relay"), {});
    assert.deepEqual(modernConfiguration('{"bundlePolicy":"max-bundle"}', ""), { bundlePolicy: "max-bundle" });
  },

  "what is no message is none"() {
    for (const text of ["", "null", "1", "[]", '"bye"', "{}", '{"type":1}', "{"]) assert.equal(parse(text), undefined, text);
    assert.deepEqual(parse('{"type":"bye"}'), { type: "bye" });
  },

  "a description names its session"() {
    assert.equal(sessionOf("v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\n"), "4611731400430051336");
    assert.equal(sessionOf(undefined), undefined);
  },

  "names of rooms"() {
    for (const good of ["abcde", "My-room_1", "a".repeat(64)]) assert.ok(isGoodName(good), good);
    for (const bad of ["", "abcd", "a b c d", "é".repeat(5), "a".repeat(65), "room/x"]) assert.ok(!isGoodName(bad), bad);
    for (let at = 0; at < 50; at += 1) assert.ok(isRandomName(randomName()) && isGoodName(randomName()));
    assert.ok(!isRandomName("friday-call"));
  },

  "times and addresses as people read them"() {
    assert.deepEqual([0, 59.9, 61, 3600, 36_061].map(clock), ["00:00", "00:59", "01:01", "1:00:00", "10:01:01"]);
    assert.deepEqual(["1.2.3.4", "::1", "[::1]"].map(hostOf), ["1.2.3.4", "[::1]", "[::1]"]);
  },

  "statistics tell rates since the last report"() {
    const at = (timestamp, more) => new Map([
      ["T", { id: "T", type: "transport", selectedCandidatePairId: "P" }],
      ["P", { id: "P", type: "candidate-pair", localCandidateId: "L", remoteCandidateId: "R", currentRoundTripTime: 0.012, availableOutgoingBitrate: 2e6 }],
      ["L", { id: "L", type: "local-candidate", candidateType: "relay", address: "::1", port: 5, protocol: "udp", relayProtocol: "tls" }],
      ["R", { id: "R", type: "remote-candidate", candidateType: "host", port: 6, protocol: "udp" }],
      ["C", { id: "C", type: "codec", mimeType: "video/VP9", payloadType: 98 }],
      ["I", { id: "I", type: "inbound-rtp", kind: "video", codecId: "C", timestamp, packetsLost: 0, jitter: 0.004, frameWidth: 640, frameHeight: 480, framesPerSecond: 25, framesDropped: 1, ...more }],
    ]);
    const peer = { pc: { connectionState: "connected", signalingState: "stable", iceConnectionState: "connected", iceGatheringState: "complete" }, setupMs: 120, connectedAt: 0 };
    const before = at(1_000, { bytesReceived: 1_000, packetsReceived: 10 });
    const after = at(3_000, { bytesReceived: 251_000, packetsReceived: 190, packetsLost: 20 });
    const [[, connection], [, received]] = describe(after, before, peer, 61_000);
    const said = Object.fromEntries([...connection, ...received]);
    assert.equal(said.stat_pair, "relay / host");
    assert.equal(said.stat_local, "relay [::1]:5 udp");
    assert.equal(said.stat_remote, "host …:6 udp", "a browser that hides an address");
    assert.equal(said.stat_relay, "TLS");
    assert.equal(said.stat_rtt, "12 ms");
    assert.equal(said.stat_call_time, "01:01");
    assert.equal(said.stat_codec, "VP9 (98)");
    assert.equal(said.stat_bitrate, "1.00 Mbit/s");
    assert.equal(said.stat_packets, "90 /s");
    assert.equal(said.stat_loss, "10.0 % (20)");
    assert.equal(said.stat_size, "640 × 480");
    const [, [, first]] = describe(after, undefined, peer, 61_000);
    assert.equal(Object.fromEntries(first).stat_bitrate, "–", "no rate without a report before");
    assert.equal(describe(new Map(), undefined, { pc: peer.pc }, 0).length, 1, "no streams, no sections");
  },

  "a self-test lists what is offered, and what is not"() {
    const offer = (uri, transport, family) => ({ uri, transport, family });
    const some = rowsOf([offer("turn:1.2.3.4:3478?transport=udp", "udp", 4), offer("turns:t.example?transport=tcp", "tls", null)]);
    assert.deepEqual(some.map(({ kind, absent }) => `${kind}${absent ? " absent" : ""}`), ["stun", "udp", "tcp absent", "tls"]);
    assert.equal(some[0].uri, "stun:1.2.3.4:3478");
    assert.deepEqual(rowsOf([offer("turn:1.2.3.4", "udp", 4)]).filter(({ absent }) => absent).map(({ kind }) => kind), ["tcp", "tls", "ipv6"]);
    assert.deepEqual(rowsOf([]).filter(({ absent }) => !absent), []);
  },

  "a failure is told in words"() {
    const silence = [{ code: 701, text: "timed out" }];
    assert.match(whyNot({ kind: "udp", family: 4 }, silence), /over UDP/);
    assert.match(whyNot({ kind: "stun", family: 4 }, silence), /over UDP/);
    assert.match(whyNot({ kind: "tcp" }, []), /TCP/);
    assert.match(whyNot({ kind: "tls" }, silence), /certificate/);
    assert.match(whyNot({ kind: "udp", family: 6 }, silence), /IPv6/);
    for (const code of [401, 403, 486, 508]) assert.match(whyNot({ kind: "udp", family: 6 }, [...silence, { code, text: "" }]), new RegExp(code));
    assert.match(whyNot({ kind: "udp" }, [{ code: 420, text: "Unknown" }]), /420: Unknown/);
  },

  "the verdict prefers UDP and names what fails"() {
    const row = (kind, state, rtt_ms = 10) => ({ kind, state, rtt_ms, family: 4 });
    const grade = (...rows) => verdictOf(rows).grade;
    assert.equal(grade({ kind: "stun", state: "pass" }), "bad", "STUN alone relays nothing");
    assert.equal(grade(row("udp", "pass"), row("tcp", "pass", 1)), "good");
    assert.match(verdictOf([row("udp", "pass", 50), row("tcp", "pass", 1)]).text, /Fastest: TURN over UDP/);
    assert.match(verdictOf([row("udp", "pass"), row("tls", "fail")]).text, /TURN over TLS, IPv4\.$/);
    assert.equal(grade(row("udp", "fail"), row("tcp", "pass")), "fair", "only TCP");
    assert.equal(grade(row("tcp", "pass"), { kind: "udp", absent: true }), "good", "what is not offered is not missed");
    assert.equal(grade(row("udp", "weak"), row("tcp", "fail")), "fair");
    assert.equal(grade(row("udp", "fail"), row("tcp", "fail")), "bad");
  },

  async "credentials are asked for once, renewed when due, and again with a new token"() {
    const asked = [];
    const answers = [];
    globalThis.location = { href: "https://call.example/r/x" };
    globalThis.fetch = async (path, options) => {
      asked.push(`${options?.method ?? "GET"} ${path}`);
      return answers.shift();
    };
    const json = (status, value) => ({ ok: status === 200, status, statusText: "", json: async () => value });
    const failures = [];
    const ice = new IceServers({ url: "http://other.example:1/v1alpha/iceconfig?key=old", search: "?it=relay", renewed: () => undefined, failed: (why) => failures.push(why) });
    answers.push(json(403, {}), json(200, { ice_server_url: "https://call.example/v1alpha/iceconfig?key=new" }), json(200, { lifetimeDuration: "86400s", iceServers: [{ urls: ["turn:a"] }] }));
    assert.deepEqual(await ice.get(), [{ urls: ["turn:a"] }]);
    assert.deepEqual(asked.splice(0), ["POST /v1alpha/iceconfig?key=old", "GET /params?it=relay", "POST /v1alpha/iceconfig?key=new"], "always its own server");
    await ice.get();
    assert.deepEqual(asked, [], "what is fresh is kept");
    ice.renewAt = 0;
    answers.push(json(503, { detail: "set auth.secrets" }));
    assert.deepEqual(await ice.get(), [{ urls: ["turn:a"] }], "old ones are better than none");
    assert.deepEqual(failures, ["set auth.secrets"]);
    ice.close();
  },
};

for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(JSON.stringify({ step: name }));
  } catch (error) {
    process.exitCode = 1;
    console.log(JSON.stringify({ step: name, failed: error.message }));
  }
}
