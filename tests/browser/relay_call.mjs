// Calls between two browser peers that may only meet through a TURN server.
//
//   node relay_call.mjs '[{"name":"udp","relayProtocol":"udp","iceServers":[{"urls":"turn:…","username":"…","credential":"…"}]}]'
//
// Each case is one call: a data channel that echoes random bytes and a fake camera's video, both relayed.
// Prints one JSON line a case with what was seen; exits 1 when any case failed, its reason in "failed",
// and 2 when the calls could not be tried at all.

import { Lab } from "./lab.mjs";

const CASE_LIMIT_MS = 60_000;

/** Rejects once `limitMs` have passed, so that a call that hangs fails with a name instead. */
function within(limitMs, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result within ${limitMs} ms`)), limitMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Makes one call in a page of its own and returns what was seen, with `failed` when that is not enough. */
async function tryCall(lab, call) {
  const page = await lab.page(call.name);
  try {
    const seen = await within(CASE_LIMIT_MS, page.evaluate((wanted) => window.relayedCall(wanted), call));
    return { name: call.name, ...seen };
  } catch (error) {
    return { name: call.name, failed: error.message };
  } finally {
    await page.context().close();
  }
}

async function main() {
  const calls = JSON.parse(process.argv[2] ?? "");
  if (!Array.isArray(calls) || calls.length === 0) throw new Error("the first argument lists no call");
  const lab = await Lab.open();
  let failures = 0;
  try {
    for (const call of calls) {
      const seen = await tryCall(lab, call);
      if (seen.failed) failures += 1;
      console.log(JSON.stringify(seen));
    }
  } finally {
    await lab.close();
  }
  return failures === 0 ? 0 : 1;
}

main().then(
  (code) => { process.exitCode = code; },
  (error) => { console.error(`relay_call: ${error.message}`); process.exitCode = 2; },
);
