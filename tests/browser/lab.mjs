// One Chromium and the empty page whose script, call.js, makes calls between two peers of its own.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

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

export class Lab {
  static async open() {
    const server = await servePage();
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: CHROMIUM_FLAGS });
    return new Lab(server, browser);
  }

  constructor(server, browser) {
    Object.assign(this, { server, browser });
  }

  /** The page, in a context of its own; an exception in it is shown under this name. */
  async page(name) {
    const context = await this.browser.newContext();
    const page = await context.newPage();
    page.on("pageerror", (error) => console.error(`${name}: ${error}`));
    await page.goto(`http://localhost:${this.server.address().port}/`);
    return page;
  }

  async close() {
    await this.browser.close();
    this.server.close();
  }
}
