// The console of the admin listener, used as an operator would, while a call runs over the relay.
//
//   node console.mjs '[{"name":"tour","visit":"tour","url":"http://127.0.0.1:9641/","user":"alice","iceServers":[{"urls":"turn:…","username":"…","credential":"…"}]}]'
//
// Visits: `tour` looks at everything and steers (`user` is the account its call runs under, `secret` a text that no
// page may show, `screenshots` a folder for pictures); `locked` needs `token`; `lost` takes the way to the server away
// for a while; `words` compares the two languages and needs no server.
// Prints one JSON line a case with what was seen; exits 1 when any case failed, its reason in "failed",
// and 2 when the console could not be tried at all.

import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { chromium } from "playwright-core";

const CASE_LIMIT_MS = 90_000;
/** How long something that comes every second may take on a busy machine. */
const PATIENCE_MS = 30_000;

const CHROMIUM_FLAGS = [
  // A machine with no other interface than loopback gathers no candidate without this.
  "--allow-loopback-in-peer-connection",
  // The server's certificate is self-signed.
  "--ignore-certificate-errors",
  // Chromium refuses its sandbox to root, who runs the tests in a container.
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
  "--no-first-run",
];

/** Runs in an empty page: two peers that meet over the relay alone, and bytes both ways until the page closes. */
async function call(iceServers) {
  const peers = [0, 1].map(() => new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" }));
  peers.forEach((peer, i) => (peer.onicecandidate = ({ candidate }) => candidate && peers[1 - i].addIceCandidate(candidate)));
  const talk = (channel) => {
    const bytes = new Uint8Array(900);
    channel.onopen = () => setInterval(() => channel.bufferedAmount < 1e6 && channel.send(bytes), 10);
  };
  talk(peers[0].createDataChannel("talk", { ordered: false, maxRetransmits: 0 }));
  const open = new Promise((resolve) => (peers[1].ondatachannel = ({ channel }) => resolve(talk(channel))));
  await peers[0].setLocalDescription();
  await peers[1].setRemoteDescription(peers[0].localDescription);
  await peers[1].setLocalDescription();
  await peers[0].setRemoteDescription(peers[1].localDescription);
  await open;
}

/** A page of a fresh browser profile, and every fault it shows: errors, policy violations, foreign requests, dialogs. */
async function visit(browser, { url }, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => (faults.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) faults.push(`foreign request: ${request.url()}`);
  });
  page.on("console", (message) => {
    // A refused or cut request is told of as an error; the visits that cause them look at what the page makes of it.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) faults.push(message.text());
  });
  return { context, page, faults };
}

const waitFor = (page, test, argument) => page.waitForFunction(test, argument, { timeout: PATIENCE_MS });
const waitForLink = (page, link) => page.waitForSelector(`body[data-link=${link}]`, { timeout: PATIENCE_MS });
const texts = (page, selector) => page.locator(selector).allTextContents();

/** Waits until a selector matches so many elements. */
const waitForCount = (page, selector, count) =>
  waitFor(page, ([wanted, number]) => document.querySelectorAll(wanted).length === number, [selector, count]);

async function picture(page, folder, name) {
  if (folder) await page.screenshot({ path: `${folder}/${name}.png` });
}

async function tour(browser, asked) {
  const caller = await browser.newContext();
  const talk = await caller.newPage();
  await talk.evaluate(call, asked.iceServers);
  const { context, page, faults } = await visit(browser, asked, { viewport: { width: 1600, height: 1000 }, colorScheme: "dark", locale: "en-GB" });
  await page.goto(asked.url);
  await waitForLink(page, "live");
  await waitForCount(page, "tbody tr", 2);
  const seen = { users: await texts(page, "td[data-column=user]") };
  assert.deepEqual(seen.users, [asked.user, asked.user], "each side of the call has a session under its account's name");
  assert.equal(await page.locator("main img, main script").count(), 0, "a name stays text");
  seen.rates = await movingRates(page);
  await looksAround(page, asked);
  await searches(page, asked);
  await opensOne(page);
  await readsSettings(page, asked);
  await steers(page);
  await picture(page, asked.screenshots, "console-dark");
  seen.narrow = await narrow(page, asked);
  await kicks(page, asked);
  assert.deepEqual(faults, []);
  await context.close();
  await caller.close();
  return seen;
}

/** The relay's rates are above zero, and what was carried grows from one second to the next. */
async function movingRates(page) {
  await waitFor(page, () => [...document.querySelectorAll("td[data-column=to_peers]")].every((cell) => !/^0 bit/.test(cell.textContent)));
  const before = await texts(page, "td[data-column=carried]");
  await waitFor(page, (old) => [...document.querySelectorAll("td[data-column=carried]")].every((cell) => !old.includes(cell.textContent)), before);
  await waitFor(page, () => document.querySelector("[data-tile=to_peers] .spark .line").getAttribute("d").split("L").length > 4);
  const tile = (name) => page.locator(`[data-tile=${name}] .number`).textContent();
  const rates = { allocations: await tile("allocations"), toPeers: await tile("to_peers"), toClients: await tile("to_clients"), packets: await tile("packets") };
  assert.equal(rates.allocations, "2");
  for (const way of ["toPeers", "toClients"]) assert.match(rates[way], /^[1-9][\d.]* [kM]bit\/s$/);
  return rates;
}

/** The feed tells how the sessions began, the counters what was answered. */
async function looksAround(page, { user }) {
  await waitFor(page, () => document.querySelectorAll("#feed [data-kind=created]").length >= 2);
  assert.equal(await page.locator("#feed [data-kind=created] .name").first().textContent(), user);
  const answers = await texts(page, "#answers .what");
  assert.ok(answers.includes("answered") && answers.some((text) => text.startsWith("401: ")), answers.join());
  await page.click("#kinds [data-kind=created]");
  await page.locator("#feed [data-kind=created]").first().waitFor({ state: "hidden" });
  await page.click("#kinds [data-kind=created]");
}

async function searches(page, { user }) {
  await page.fill("#filter", "nobody has this name");
  await waitForCount(page, "tbody tr", 0);
  assert.equal(await page.locator("#sessions .empty").textContent(), "No session fits the filter.");
  await page.fill("#filter", user.slice(1, 6).toUpperCase());
  await waitForCount(page, "tbody tr", 2);
  await page.selectOption("#transport", "tls");
  await waitForCount(page, "tbody tr", 0);
  await page.selectOption("#transport", "");
  await page.fill("#filter", "");
  await waitForCount(page, "tbody tr", 2);
}

/** By keyboard: sorting, one session in full, and back to where one was. */
async function opensOne(page) {
  await page.focus("th[data-column=age] button");
  await page.keyboard.press("Enter");
  await page.waitForSelector("th[data-column=age][aria-sort=descending]");
  await page.keyboard.press("Enter");
  await page.waitForSelector("th[data-column=age][aria-sort=ascending]");
  await page.focus("tbody tr:first-child button.name");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#drawer:not([hidden])");
  await waitFor(page, () => document.querySelectorAll("#drawer .entries li").length >= 2);
  const facts = await texts(page, "#drawer dd");
  assert.match(facts[0], /^\d+-\d+-\d+$/, "the session's name");
  assert.ok(facts.every((text) => text !== "" && text !== "–"), facts.join(" | "));
  await page.keyboard.press("Escape");
  await page.waitForSelector("#drawer", { state: "hidden" });
  assert.ok(await page.evaluate(() => document.activeElement.matches("tbody button.name")), "the focus comes back");
}

async function readsSettings(page, { secret }) {
  await page.click("#settings summary");
  await waitFor(page, () => document.querySelectorAll("#settings-list dt").length > 0);
  const all = await page.locator("#settings-list dt").count();
  await page.fill("#settings-filter", "realm");
  await waitFor(page, (number) => document.querySelectorAll("#settings-list dt").length < number, all);
  assert.ok((await texts(page, "#settings-list dt")).includes("realm"));
  await page.fill("#settings-filter", "");
  if (secret) assert.ok(!(await page.content()).includes(secret), "secrets stay hidden");
  await page.click("#settings summary");
  await page.evaluate(() => scrollTo(0, 0));
}

/** Every change asks first; no means no. */
async function steers(page) {
  const state = (name) => page.waitForSelector(`#state[data-state=${name}]`, { timeout: PATIENCE_MS });
  await page.click("#drain");
  await page.click("#ask-no");
  await page.click("#drain");
  await page.keyboard.press("Escape");
  await page.click("#drain");
  assert.ok(await page.evaluate(() => document.activeElement.id === "ask-no"), "the harmless answer has the focus");
  await page.click("#ask-yes");
  await state("draining");
  await page.waitForSelector("#banner:not([hidden])");
  await page.click("#drain");
  await page.click("#ask-yes");
  await state("serving");
  await page.click("#reload");
  await page.click("#ask-yes");
  await waitFor(page, () => [...document.querySelectorAll(".toast")].some((line) => /^(In force now|Read;)/.test(line.textContent)));
  // Toasts go by themselves, and are in no picture.
  await waitForCount(page, ".toast", 0);
}

/** On a phone's width nothing is cut off, in either language. */
async function narrow(page, asked) {
  await page.setViewportSize({ width: 360, height: 740 });
  await picture(page, asked.screenshots, "console-phone");
  const width = () => page.evaluate(() => document.documentElement.scrollWidth);
  const seen = { english: await width() };
  await page.goto(`${asked.url}?lang=zh`);
  await waitForLink(page, "live");
  await waitForCount(page, "tbody tr", 2);
  seen.chinese = await width();
  assert.equal(await page.getAttribute("html", "lang"), "zh");
  assert.ok(seen.english <= 360 && seen.chinese <= 360, JSON.stringify(seen));
  await page.setViewportSize({ width: 1600, height: 1000 });
  await page.emulateMedia({ colorScheme: "light" });
  await page.goto(asked.url);
  await waitForLink(page, "live");
  await waitForCount(page, "tbody tr", 2);
  await picture(page, asked.screenshots, "console-light");
  return seen;
}

/** A session that is kicked is gone from the table, and the feed says who did it; then all of the user. */
async function kicks(page, { user }) {
  await page.locator("tbody tr:first-child button.danger").click();
  assert.ok((await page.locator("#ask-text").textContent()).startsWith(`${user} at `));
  await page.click("#ask-yes");
  await waitForCount(page, "tbody tr", 1);
  await waitFor(page, () => [...document.querySelectorAll("#feed [data-kind=ended] .text")].some((text) => text.textContent.startsWith("closed by the server")));
  await page.locator("tbody button.name").click();
  await page.locator("#drawer .actions button.danger").first().click();
  await page.click("#ask-yes");
  await waitForCount(page, "tbody tr", 0);
  await waitFor(page, (text) => [...document.querySelectorAll(".toast")].some((line) => line.textContent === text), `Sessions of ${user} ended: 1.`);
  await waitFor(page, () => document.querySelector("#drawer .fault").textContent === "This session has ended.");
}

/** Without the token nothing is shown; a wrong one is told of; the right one stays in this tab alone. */
async function locked(browser, asked) {
  const { context, page, faults } = await visit(browser, asked, { locale: "en-GB" });
  await page.goto(asked.url);
  await page.waitForSelector("#enter[open]");
  assert.equal(await page.locator("tbody tr").count(), 0);
  await page.fill("#enter-token", `${asked.token}x`);
  await page.keyboard.press("Enter");
  await waitFor(page, () => document.querySelector("#enter[open] .fault").textContent !== "");
  const fault = await page.locator("#enter-fault").textContent();
  await page.keyboard.press("Escape");
  await page.fill("#enter-token", asked.token);
  await page.keyboard.press("Enter");
  await waitForLink(page, "live");
  assert.equal(await page.locator("#enter[open]").count(), 0);
  await page.reload();
  await waitForLink(page, "live");
  const other = await context.newPage();
  await other.goto(asked.url);
  await other.waitForSelector("#enter[open]");
  assert.deepEqual(faults, []);
  await context.close();
  return { fault };
}

/** A way to the server that can be cut, stand still and heal. */
class Way {
  constructor(url) {
    this.ends = new Set();
    this.still = false;
    this.server = createServer((near) => {
      const far = connect(Number(url.port), url.hostname);
      for (const [from, to] of [[near, far], [far, near]]) {
        this.ends.add(from);
        from.on("data", (bytes) => this.still || to.write(bytes));
        from.on("close", () => (this.ends.delete(from), to.destroy()));
        from.on("error", () => to.destroy());
      }
    });
  }

  /** Opens, the first time on a port of the kernel's choice. */
  async open() {
    await new Promise((resolve) => this.server.listen(this.port ?? 0, "127.0.0.1", resolve));
    this.port = this.server.address().port;
  }

  /** Closes every connection and takes no new one. */
  async cut() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.ends.forEach((end) => end.destroy());
    await closed;
  }
}

/** A console without its server says since when, looks stale, and comes back by itself. */
async function lost(browser, asked) {
  const way = new Way(new URL(asked.url));
  await way.open();
  const url = `http://127.0.0.1:${way.port}/`;
  const { context, page, faults } = await visit(browser, { url }, { locale: "en-GB" });
  await page.goto(url);
  await waitForLink(page, "live");
  await way.cut();
  await waitForLink(page, "lost");
  const said = await page.locator("#link-text").textContent();
  assert.match(said, /^disconnected since \d\d:\d\d:\d\d, trying again/);
  assert.match(await page.locator("#banner").textContent(), /does not answer/);
  await way.open();
  await waitForLink(page, "live");
  await page.waitForSelector("#banner", { state: "hidden" });
  // No byte comes and no connection ends: only the silence tells.
  way.still = true;
  await waitForLink(page, "lost");
  way.still = false;
  await waitForLink(page, "live");
  assert.deepEqual(faults, []);
  await context.close();
  await way.cut();
  return { said };
}

/** Both languages say the same things, with the same places to fill, and all that the page asks for. */
async function words() {
  const folder = new URL("../../src/http/pages/admin/", import.meta.url);
  const { WORDS } = await import(new URL("words.js", folder));
  const { TABLES } = await import(new URL("reasons.js", folder));
  const { EventReader } = await import(new URL("stream.js", folder));
  const places = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
  assert.deepEqual(Object.keys(WORDS.zh).sort(), Object.keys(WORDS.en).sort());
  for (const [key, text] of Object.entries(WORDS.en)) assert.deepEqual(places(WORDS.zh[key]), places(text), key);
  for (const { en, zh } of Object.values(TABLES)) assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
  const { readFile, readdir } = await import("node:fs/promises");
  for (const file of (await readdir(folder)).filter((name) => /\.(js|html)$/.test(name))) {
    const text = await readFile(new URL(file, folder), "utf8");
    for (const [, key] of text.matchAll(/(?:\bsay\("|data-word(?:-label|-placeholder)?=")(\w+)"/g)) assert.ok(key in WORDS.en, `${file}: ${key}`);
  }
  return { words: Object.keys(WORDS.en).length, events: readsEvents(EventReader) };
}

/** An event stream is read the same however it is cut into pieces. */
function readsEvents(EventReader) {
  const stream = ":\n\nevent: status\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata:x\n\nevent: none\n\nid: 7\rdata\rretry: 1\r\rdata: cut";
  const expected = [["status", '{"a":\n1}'], ["message", "x"], ["message", ""]];
  for (let size = 1; size <= stream.length; size += 1) {
    const read = [];
    const reader = new EventReader((...event) => read.push(event));
    for (let at = 0; at < stream.length; at += size) reader.push(stream.slice(at, at + size));
    assert.deepEqual(read, expected, `in pieces of ${size}`);
  }
  return expected.length;
}

const VISITS = { tour, locked, lost, words };

/** Rejects once the limit has passed, so that a visit that hangs fails with a name instead. */
function within(limitMs, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result within ${limitMs} ms`)), limitMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function main() {
  const cases = JSON.parse(process.argv[2] ?? "");
  if (!Array.isArray(cases) || cases.length === 0) throw new Error("the first argument lists no visit");
  let failures = 0;
  for (const asked of cases) {
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: CHROMIUM_FLAGS });
    try {
      const seen = await within(CASE_LIMIT_MS, VISITS[asked.visit](browser, asked));
      console.log(JSON.stringify({ name: asked.name, ...seen }));
    } catch (error) {
      failures += 1;
      console.log(JSON.stringify({ name: asked.name, failed: error.message }));
      console.error(error.stack);
    } finally {
      await browser.close();
    }
  }
  return failures === 0 ? 0 : 1;
}

main().then(
  (code) => { process.exitCode = code; },
  (error) => { console.error(`console: ${error.message}`); process.exitCode = 2; },
);
