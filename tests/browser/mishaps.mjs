// A call, and what happens to calls: sockets that break, networks that change, a relay that forgets.
//
//   node mishaps.mjs '{"base":"http://127.0.0.1:8080","admin":"http://127.0.0.1:9641","shots":"DIR"}'

import { assert, inState, join, picturesMove, play } from "./visitor.mjs";

const ROOM = "/r/rough-call?it=relay";
/** Browsers take their time to call a connection failed. */
const MEND_LIMIT_MS = 60_000;

/** The other half of what the operator of the server can do. */
async function admin(scene, method, path) {
  const answer = await fetch(`${scene.told.admin}/api/v1/${path}`, { method });
  assert(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? undefined : answer.json();
}

await play({
  async "two meet"(scene) {
    scene.ann = await scene.visitors.visitor();
    scene.a = await join(scene, scene.ann, ROOM);
    await inState(scene.a, "waiting");
    scene.b = await join(scene, await scene.visitors.visitor(), ROOM);
    await Promise.all([inState(scene.a, "call"), inState(scene.b, "call")]);
    await Promise.all([picturesMove(scene.a), picturesMove(scene.b)]);
  },

  async "a cut socket comes back and the call goes on"(scene) {
    const { a, b } = scene;
    const frames = await picturesMove(b);
    await a.evaluate(() => window.sockets.at(-1).close());
    await a.waitForFunction(() => window.sockets.length === 2 && window.sockets[1].readyState === WebSocket.OPEN);
    await b.evaluate(() => window.sockets.at(-1).close());
    await b.waitForFunction(() => window.sockets.length === 2 && window.sockets[1].readyState === WebSocket.OPEN);
    const after = await picturesMove(b);
    assert((await b.evaluate(() => document.body.dataset.state)) === "call", "the other side noticed nothing");
    return { frames, after };
  },

  async "a restart by either side, or by both at once, is answered"(scene) {
    const { a, b } = scene;
    const name = (page) => page.evaluate(() => /a=ice-ufrag:(\S+)/.exec(window.peers.at(-1).currentLocalDescription.sdp)[1]);
    const restart = (page) => page.evaluate(() => window.peers.at(-1).restartIce());
    // The second in the room offers by the socket, the first by posting, and then both collide.
    for (const who of [[b], [a], [a, b]]) {
      const before = await Promise.all([name(a), name(b)]);
      await Promise.all(who.map(restart));
      for (const [at, page] of [a, b].entries()) {
        await page.waitForFunction((old) => {
          const peer = window.peers.at(-1);
          const name = /a=ice-ufrag:(\S+)/.exec(peer.currentLocalDescription.sdp)[1];
          return name !== old && peer.signalingState === "stable" && peer.connectionState === "connected";
        }, before[at]);
      }
      await Promise.all([picturesMove(a), picturesMove(b)]);
    }
    for (const page of [a, b]) assert((await page.evaluate(() => window.peers.length)) === 1, "in the same connection");
  },

  async "sessions that the relay ends are made anew"(scene) {
    const { a, b } = scene;
    const { sessions } = await admin(scene, "GET", "sessions");
    assert(sessions.length > 0 && sessions.every(({ user }) => user === "room-rough-call"), JSON.stringify(sessions));
    for (const { id } of sessions) await admin(scene, "DELETE", `sessions/${id}`);
    const began = Date.now();
    const lost = (page) => page.waitForFunction(() => window.peers.at(-1).connectionState !== "connected", undefined, { timeout: MEND_LIMIT_MS });
    await Promise.all([lost(a), lost(b)]);
    const noticed = Date.now() - began;
    await a.waitForFunction(() => document.getElementById("status").textContent !== "");
    await scene.visitors.shot(a, "mending");
    const back = (page) => page.waitForFunction(() => window.peers.at(-1).connectionState === "connected", undefined, { timeout: MEND_LIMIT_MS });
    await Promise.all([back(a), back(b)]);
    await Promise.all([picturesMove(a), picturesMove(b)]);
    return { ended: sessions.length, noticed_ms: noticed, mended_ms: Date.now() - began, connections: await a.evaluate(() => window.peers.length) };
  },

  async "a seat lost for good is taken anew"(scene) {
    const { a, b } = scene;
    // The blocked tries are what the console complains of.
    scene.visitors.allowed = /WebSocket/;
    await b.evaluate(() => {
      window.socketsBlocked = true;
      window.sockets.at(-1).close();
    });
    await b.waitForFunction(() => document.getElementById("status").textContent !== "");
    await b.evaluate(() => new Promise((resolve) => setTimeout(resolve, 11_000)));
    await b.evaluate(() => { window.socketsBlocked = false; });
    await b.waitForFunction(() => window.sockets.at(-1).readyState === WebSocket.OPEN);
    await a.waitForFunction(() => document.body.dataset.state === "waiting");
    await Promise.all([inState(a, "call"), inState(b, "call")]);
    const frames = await Promise.all([picturesMove(a), picturesMove(b)]);
    scene.visitors.allowed = undefined;
    return { frames };
  },

  async "a page that is loaded again is in the call again"(scene) {
    const { a, b } = scene;
    await b.reload();
    // Its own seat may look taken at first.
    await b.waitForFunction(() => document.getElementById("local")?.videoWidth > 0);
    await inState(a, "waiting");
    await b.click("#enter");
    await Promise.all([inState(a, "call"), inState(b, "call")]);
    await Promise.all([picturesMove(a), picturesMove(b)]);
  },

  async "both leave and nothing is left"(scene) {
    for (const page of [scene.a, scene.b]) await page.close({ runBeforeUnload: true });
    for (let tries = 0; ; tries += 1) {
      const rooms = await admin(scene, "GET", "rooms");
      if (rooms.length === 0) break;
      assert(tries < 100, `the room stays: ${JSON.stringify(rooms)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  },
});
