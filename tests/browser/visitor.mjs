// People with browsers: one Chromium, its pages, and what no page may do.
//
// Every page is watched: an error in its console, a violation of the content policy, a request to another host or an
// exception fails the run, wherever it happens.

import { mkdir } from "node:fs/promises";
import { chromium } from "playwright-core";

const STATE_LIMIT_MS = 20_000;
const STEP_LIMIT_MS = 150_000;
const JPEG_QUALITY = 72;
const FRAMES_STEP = 15;

const CHROMIUM_FLAGS = [
  // A machine with no other interface than loopback gathers no candidate without this.
  "--allow-loopback-in-peer-connection",
  // The relay's certificate is self-signed.
  "--ignore-certificate-errors",
  // Devices to choose from; the second camera measures depth, which no call sends.
  "--use-fake-device-for-media-stream=device-count=3",
  "--use-fake-ui-for-media-stream",
  // A name that is not local, for pages that browsers do not trust.
  "--host-resolver-rules=MAP turnpike.test 127.0.0.1",
  // The screen that is shared is this one's.
  "--auto-select-desktop-capture-source=Entire screen",
  // Chromium refuses its sandbox to root, who runs the tests in a container.
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
  "--no-first-run",
];

/** Runs inside every page before its own scripts: sockets that a test can cut and keep away, connections that it can look into, violations that show. */
function prepare() {
  document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
    console.error(`content policy: ${violatedDirective} ${blockedURI}`);
  });
  const RealPeer = window.RTCPeerConnection;
  window.peers = [];
  window.RTCPeerConnection = class extends RealPeer {
    constructor(...args) {
      super(...args);
      window.peers.push(this);
    }
  };
  window.sockets = [];
  window.socketsBlocked = false;
  const Real = window.WebSocket;
  window.WebSocket = class extends Real {
    constructor(...args) {
      super(...args);
      window.sockets.push(this);
      if (window.socketsBlocked) this.close();
    }
  };
}

export class Visitors {
  /** `told` is this program's argument: `{ base, shots }`. */
  static async arrive(told) {
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: CHROMIUM_FLAGS });
    if (told.shots) await mkdir(told.shots, { recursive: true });
    return new Visitors(browser, told);
  }

  constructor(browser, told) {
    Object.assign(this, { browser, base: told.base, shots: told.shots });
    this.faults = [];
  }

  /** Someone with a browser of their own. */
  async visitor(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1120, height: 700 }, colorScheme: "dark", locale: "en-GB", ...options });
    context.setDefaultTimeout(STATE_LIMIT_MS);
    await context.addInitScript(prepare);
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: this.base }).catch(() => undefined);
    return context;
  }

  /** A page of this server in that browser. */
  async open(context, path) {
    const page = await context.newPage();
    const name = path.split("?")[0];
    const home = new URL(this.base).host;
    const fault = (text) => this.faults.push(`${name}: ${text}`);
    page.on("pageerror", (error) => fault(`exception: ${error.message}`));
    page.on("console", (line) => {
      const expected = this.allowed?.test(line.text());
      if (["error", "warning"].includes(line.type()) && !expected) fault(`console: ${line.text()}`);
    });
    const check = (url) => { if (!["data:", "blob:"].includes(new URL(url).protocol) && new URL(url).host !== home) fault(`request to ${url}`); };
    page.on("request", (request) => check(request.url()));
    page.on("websocket", (socket) => check(socket.url()));
    await page.goto(this.base + path);
    return page;
  }

  /** A picture for people to look at, small enough to keep. */
  async shot(page, name, options = {}) {
    if (!this.shots) return;
    await page.screenshot({ path: `${this.shots}/${name}.jpg`, type: "jpeg", quality: JPEG_QUALITY, ...options });
    if (process.env.PNG) await page.screenshot({ path: `${this.shots}/${name}.png`, ...options });
  }

  async leave() {
    await this.browser.close();
  }
}

/** Fails unless everything one can use has a name, and the page a heading. */
export async function assertNamed(page) {
  const nameless = await page.evaluate(() => {
    const shown = [...document.querySelectorAll("button, a, input, select, video, [role]")].filter((found) => found.checkVisibility());
    const named = (found) => found.getAttribute("aria-label") || found.labels?.length > 0 || found.textContent.trim() || ["status", "log"].includes(found.role) || found.tagName === "VIDEO";
    const headless = [...document.querySelectorAll("h1")].some((heading) => heading.checkVisibility()) || document.body.dataset.state === "call" ? [] : ["no h1"];
    return [...shown.filter((found) => !named(found)).map((found) => found.outerHTML), ...headless];
  });
  assert(nameless.length === 0, `without a name: ${nameless}`);
}

/** Waits until the page is in that state. */
export const inState = (page, state) =>
  page.waitForFunction((wanted) => document.body.dataset.state === wanted, state);

/** Opens a room's page and goes in. */
export async function join(scene, context, path) {
  const page = await scene.visitors.open(context, path);
  await page.waitForFunction(() => document.getElementById("local").videoWidth > 0);
  await page.click("#enter");
  return page;
}

/** Waits until more pictures of the other side are shown than before; returns how many. */
export async function picturesMove(page) {
  const shown = () => document.getElementById("remote").getVideoPlaybackQuality().totalVideoFrames;
  const first = await page.evaluate(shown);
  const enough = ([before, step]) => document.getElementById("remote").getVideoPlaybackQuality().totalVideoFrames >= before + step;
  await page.waitForFunction(enough, [first, FRAMES_STEP]);
  return page.evaluate(shown);
}

export function assert(holds, words) {
  if (!holds) throw new Error(words);
}

/** Rejects once that long has passed, so that a step that hangs fails under its name. */
function within(limitMs, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result within ${limitMs} ms`)), limitMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Runs the steps in their order, a JSON line each; ends the program with 0, with 1 when one failed, with 2 when nothing could be tried. */
export async function play(steps) {
  let told;
  let visitors;
  try {
    told = JSON.parse(process.argv[2] ?? "");
    visitors = await Visitors.arrive(told);
  } catch (error) {
    console.error(`cannot begin: ${error.message}`);
    process.exitCode = 2;
    return;
  }
  const scene = { visitors, told };
  try {
    for (const [name, step] of Object.entries(steps)) {
      try {
        const seen = await within(STEP_LIMIT_MS, step(scene));
        console.log(JSON.stringify({ step: name, ...seen }));
      } catch (error) {
        process.exitCode = 1;
        console.log(JSON.stringify({ step: name, failed: error.message }));
        for (const [at, page] of visitors.browser.contexts().flatMap((context) => context.pages()).entries()) {
          await visitors.shot(page, `failed-${at}`).catch(() => undefined);
        }
        break;
      }
    }
    if (visitors.faults.length > 0) {
      process.exitCode = 1;
      console.log(JSON.stringify({ step: "faults", failed: visitors.faults }));
    }
  } finally {
    await visitors.leave();
  }
}
