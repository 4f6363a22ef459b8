// Calls between two browser peers that may only meet through a TURN server.
//
//   node relay_call.mjs '[{"name":"udp","relayProtocol":"udp","iceServers":[{"urls":"turn:…","username":"…","credential":"…"}]}]'
//
// Each case is one call: a data channel that echoes random bytes and a fake camera's video, both relayed.
// Prints one JSON line a case with what was seen; exits 1 when any case failed, its reason in "failed",
// and 2 when the calls could not be tried at all.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

const CASE_LIMIT_MS = 60_000;

const CHROMIUM_FLAGS = [
  // A machine with no other interface than loopback gathers no candidate without this.
  "--allow-loopback-in-peer-connection",
  // The server's certificate is self-signed.
  "--ignore-certificate-errors",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  // Chromium refuses its sandbox to root, who runs the tests in a container.
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
  "--no-first-run",
];

/** Serves the page on a port of the kernel's choice; `localhost` is a secure context, which the camera needs. */
async function servePage() {
  const files = new Map([
    ["/", ["text/html", await readFile(new URL("call.html", import.meta.url))]],
    ["/call.js", ["text/javascript", await readFile(new URL("call.js", import.meta.url))]],
  ]);
  const server = createServer((request, response) => {
    const [type, body] = files.get(request.url) ?? [];
    if (!type) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": `${type}; charset=utf-8` }).end(body);
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "localhost", resolve);
  });
  return server;
}

/** Rejects once `limitMs` have passed, so that a call that hangs fails with a name instead. */
function within(limitMs, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result within ${limitMs} ms`)), limitMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Makes one call in a page of its own and returns what was seen, with `failed` when that is not enough. */
async function tryCall(browser, url, call) {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    page.on("pageerror", (error) => console.error(`${call.name}: ${error}`));
    await page.goto(url);
    const seen = await within(CASE_LIMIT_MS, page.evaluate((wanted) => window.relayedCall(wanted), call));
    return { name: call.name, ...seen };
  } catch (error) {
    return { name: call.name, failed: error.message };
  } finally {
    await context.close();
  }
}

async function main() {
  const calls = JSON.parse(process.argv[2] ?? "");
  if (!Array.isArray(calls) || calls.length === 0) throw new Error("the first argument lists no call");
  const server = await servePage();
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: CHROMIUM_FLAGS,
  });
  let failures = 0;
  try {
    for (const call of calls) {
      const seen = await tryCall(browser, `http://localhost:${server.address().port}/`, call);
      if (seen.failed) failures += 1;
      console.log(JSON.stringify(seen));
    }
  } finally {
    await browser.close();
    server.close();
  }
  return failures === 0 ? 0 : 1;
}

main().then(
  (code) => { process.exitCode = code; },
  (error) => { console.error(`relay_call: ${error.message}`); process.exitCode = 2; },
);
