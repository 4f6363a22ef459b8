// The console of the admin listener, used as an operator would, while people call each other over the relay.
//
//   node console.mjs '{"base":"http://127.0.0.1:8080","admin":"http://127.0.0.1:9641","shots":"DIR","stranger":{"user":"alice","urls":"turn:…","username":"…","credential":"…"}}'
//
// `stranger` is someone who allocates by hand: its `user` is how the console should name it. `secret` is a text that
// no page may show. With `token` the console is locked, and only that is looked at.

import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { Visitors, assertNamed, join, play } from "./visitor.mjs";

/** How long something that comes every second may take on a busy machine. */
const PATIENCE_MS = 30_000;
const ROOM = "console-room";

/** Runs in an empty page: two peers that meet over the relay alone, and bytes both ways until the page closes. */
async function talk([iceServers, limitMs]) {
  const errors = [];
  const peers = [0, 1].map(() => new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" }));
  peers.forEach((peer, i) => (peer.onicecandidate = ({ candidate }) => candidate && peers[1 - i].addIceCandidate(candidate)));
  peers.forEach((peer) => (peer.onicecandidateerror = ({ errorCode, errorText }) => errors.push(`${errorCode} ${errorText}`)));
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`no relayed talk: ${errors}`)), limitMs));
  const send = (channel) => {
    const bytes = new Uint8Array(900);
    channel.onopen = () => setInterval(() => channel.bufferedAmount < 1e6 && channel.send(bytes), 10);
  };
  send(peers[0].createDataChannel("talk", { ordered: false, maxRetransmits: 0 }));
  const open = new Promise((resolve) => (peers[1].ondatachannel = ({ channel }) => resolve(send(channel))));
  await peers[0].setLocalDescription();
  await peers[1].setRemoteDescription(peers[0].localDescription);
  await peers[1].setLocalDescription();
  await peers[0].setRemoteDescription(peers[1].localDescription);
  await Promise.race([open, late]);
}

/** The operator's browser: other pages, of another origin. */
const operator = ({ visitors, told }, base = told.admin) => new Visitors(visitors.browser, { base, shots: told.shots });

const waitFor = (page, test, argument) => page.waitForFunction(test, argument, { timeout: PATIENCE_MS });
const waitForLink = (page, link) => page.waitForSelector(`body[data-link=${link}]`, { timeout: PATIENCE_MS });
const texts = (page, selector) => page.locator(selector).allTextContents();

/** Waits until a selector matches so many elements. */
const waitForCount = (page, selector, count) =>
  waitFor(page, ([wanted, number]) => document.querySelectorAll(wanted).length === number, [selector, count]);

/** A call between two pages shows as sessions of their room, whose rates move while its pictures do. */
async function showsACall(scene) {
  const people = await Promise.all([scene.visitors.visitor(), scene.visitors.visitor()]);
  for (const person of people) await join(scene, person, `/r/${ROOM}?it=relay`);
  const desk = operator(scene);
  const context = await desk.visitor({ viewport: { width: 1600, height: 1000 } });
  const page = await desk.open(context, "/");
  await waitForLink(page, "live");
  const user = `room-${ROOM}`;
  await waitFor(page, (name) => {
    const rows = [...document.querySelectorAll("tbody tr")].filter((row) => row.querySelector(".name").textContent === name);
    const fast = rows.filter((row) => /[kM]bit/.test(row.querySelector("[data-column=to_clients]").textContent));
    return fast.length >= 2;
  }, user);
  const seen = { call: await movingRates(page, user) };
  await waitFor(page, (room) => [...document.querySelectorAll("#rooms > li > strong")].some((name) => name.textContent === room), ROOM);
  assert.equal(await page.locator("#rooms > li", { hasText: ROOM }).locator(".chips li").count(), 2);
  await desk.shot(page, "console-call");
  for (const person of people) await person.close();
  await context.close();
  assert.deepEqual(desk.faults, []);
  return seen;
}

/** Everything there is to see and to press, with someone whose name would like to be markup. */
async function isToured(scene) {
  const { stranger, secret } = scene.told;
  const desk = operator(scene);
  const caller = await scene.visitors.visitor();
  await (await caller.newPage()).evaluate(talk, [[stranger], PATIENCE_MS]);
  const context = await desk.visitor({ viewport: { width: 1600, height: 1000 } });
  const page = await desk.open(context, "/");
  await waitForLink(page, "live");
  // The call before may leave sessions that have not been given up yet.
  await page.fill("#filter", stranger.user);
  await waitForCount(page, "tbody tr", 2);
  const seen = { users: await texts(page, "td[data-column=user]") };
  assert.deepEqual(seen.users, [stranger.user, stranger.user], "a session on each side, under the account's name");
  assert.equal(await page.locator("main img, main script").count(), 0, "a name stays text");
  await assertNamed(page);
  seen.rates = await movingRates(page, stranger.user);
  await looksAround(page, stranger);
  await searches(page, stranger);
  await opensOne(page);
  await readsSettings(page, secret);
  await steers(page);
  await desk.shot(page, "console");
  await page.fill("#filter", "");
  seen.narrow = await narrow(page, desk);
  await page.fill("#filter", stranger.user);
  await waitForCount(page, "tbody tr", 2);
  // Once it is gone, the session in the drawer is asked for in vain.
  desk.allowed = /^Failed to load resource.* 404 /;
  await revokes(page, stranger);
  await kicks(page, stranger);
  await context.close();
  await caller.close();
  assert.deepEqual(desk.faults, []);
  return seen;
}

/** What a user's sessions carried grows, and so do the totals. */
async function movingRates(page, user) {
  const carried = (name) => [...document.querySelectorAll("tbody tr")].filter((row) => row.querySelector(".name").textContent === name)
    .map((row) => row.querySelector("[data-column=carried]").textContent);
  const before = await page.evaluate(carried, user);
  await waitFor(page, ([name, old]) => {
    const rows = [...document.querySelectorAll("tbody tr")].filter((row) => row.querySelector(".name").textContent === name);
    return rows.filter((row) => !old.includes(row.querySelector("[data-column=carried]").textContent)).length >= 2;
  }, [user, before]);
  await waitFor(page, () => document.querySelector("[data-tile=to_peers] .spark .line").getAttribute("d").split("L").length > 4);
  const tile = (name) => page.locator(`[data-tile=${name}] .number`).textContent();
  const rates = { allocations: await tile("allocations"), toPeers: await tile("to_peers"), toClients: await tile("to_clients"), packets: await tile("packets") };
  assert.ok(Number(rates.allocations) >= 2, rates.allocations);
  for (const way of ["toPeers", "toClients"]) assert.match(rates[way], /^[1-9][\d.]* [kM]bit\/s$/);
  return rates;
}

/** The feed tells how the sessions began, the counters what was answered. */
async function looksAround(page, { user }) {
  await waitFor(page, (name) => {
    const names = [...document.querySelectorAll("#feed [data-kind=created] .name")];
    return names.filter((button) => button.textContent === name).length >= 2;
  }, user);
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
  await page.fill("#filter", user);
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

async function readsSettings(page, secret) {
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
async function narrow(page, desk) {
  await page.setViewportSize({ width: 360, height: 740 });
  await desk.shot(page, "console-phone");
  const width = () => page.evaluate(() => document.documentElement.scrollWidth);
  const seen = { english: await width() };
  await page.goto(`${desk.base}/?lang=zh`);
  await waitForLink(page, "live");
  await page.waitForSelector("tbody tr");
  seen.chinese = await width();
  assert.equal(await page.getAttribute("html", "lang"), "zh");
  assert.ok(seen.english <= 360 && seen.chinese <= 360, JSON.stringify(seen));
  await page.setViewportSize({ width: 1600, height: 1000 });
  await page.emulateMedia({ colorScheme: "light" });
  await page.goto(`${desk.base}/`);
  await waitForLink(page, "live");
  await page.waitForSelector("tbody tr");
  await desk.shot(page, "console-light");
  return seen;
}

/** A user is revoked from the drawer, after a question. */
async function revokes(page, { user }) {
  await page.locator("tbody button.name").first().click();
  await page.locator("#drawer .actions button.danger").last().click();
  assert.ok((await page.locator("#ask-text").textContent()).includes(user));
  await page.click("#ask-yes");
  await waitFor(page, () => [...document.querySelectorAll(".toast")].some((line) => / is revoked until the server ends; sessions ended: 2\.$/.test(line.textContent)));
  await page.keyboard.press("Escape");
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
async function comesBack(scene) {
  const way = new Way(new URL(scene.told.admin));
  await way.open();
  const desk = operator(scene, `http://127.0.0.1:${way.port}`);
  desk.allowed = /^Failed to load resource/;
  const context = await desk.visitor();
  const page = await desk.open(context, "/");
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
  await context.close();
  await way.cut();
  assert.deepEqual(desk.faults, []);
  return { said };
}

/** Without the token nothing is shown; a wrong one is told of; the right one stays in this tab alone. */
async function isLocked(scene) {
  const { token } = scene.told;
  const desk = operator(scene);
  desk.allowed = /^Failed to load resource.* 401 /;
  const context = await desk.visitor();
  const page = await desk.open(context, "/");
  await page.waitForSelector("#enter[open]");
  assert.equal(await page.locator("tbody tr").count(), 0);
  await page.fill("#enter-token", `${token}x`);
  await page.keyboard.press("Enter");
  await waitFor(page, () => document.querySelector("#enter[open] .fault")?.textContent);
  const fault = await page.locator("#enter-fault").textContent();
  await page.keyboard.press("Escape");
  await page.fill("#enter-token", token);
  await page.keyboard.press("Enter");
  await waitForLink(page, "live");
  assert.equal(await page.locator("#enter[open]").count(), 0);
  await page.reload();
  await waitForLink(page, "live");
  const other = await desk.open(context, "/");
  await other.waitForSelector("#enter[open]");
  await context.close();
  assert.deepEqual(desk.faults, []);
  return { fault };
}

/** Both languages say the same things, with the same places to fill, and all that the page asks for. */
async function hasItsWords() {
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

/** Whether the argument has a token; one that cannot be read is told of by `play`. */
function hasToken() {
  try {
    return "token" in JSON.parse(process.argv[2]);
  } catch {
    return false;
  }
}

await play(hasToken()
  ? { "the console is locked": isLocked }
  : {
    "the words of both languages": hasItsWords,
    "a call in the console": showsACall,
    "the console is toured": isToured,
    "the console comes back": comesBack,
  });
