// The self-test page, as someone who wants to know whether a call will work.
//
//   node selftest.mjs '{"base":"http://127.0.0.1:8080","shots":"DIR"}'

import { assert, assertNamed, inState, play } from "./visitor.mjs";

const TEST_LIMIT_MS = 90_000;

const rows = (page) => page.evaluate(() => [...document.querySelectorAll("#rows > li")].map((row) => ({
  kind: row.dataset.kind,
  state: row.className,
  name: row.querySelector("h3").textContent,
  words: row.querySelector(".words")?.textContent,
  facts: Object.fromEntries([...row.querySelectorAll("dl > div")].map((pair) => [pair.querySelector("dt").textContent, pair.querySelector("dd").textContent])),
})));

const finished = (page) => page.waitForFunction(() => document.body.dataset.state === "done", undefined, { timeout: TEST_LIMIT_MS });

await play({
  async "every way that is offered works"(scene) {
    scene.dora = await scene.visitors.visitor({ viewport: { width: 860, height: 900 } });
    const page = await scene.visitors.open(scene.dora, "/test");
    assert((await page.locator("#rows > li").count()) === 0, "nothing is tried before the button");
    await assertNamed(page);
    await page.click("#start");
    await finished(page);
    const seen = await rows(page);
    await scene.visitors.shot(page, "selftest", { fullPage: true });
    for (const kind of ["stun", "udp", "tcp", "tls"]) {
      for (const family of ["IPv4", "IPv6"]) {
        const row = seen.find((found) => found.kind === kind && found.name.endsWith(family));
        assert(row?.state === "pass", `${kind} ${family}: ${JSON.stringify(row)}`);
        if (kind === "stun") continue;
        for (const fact of ["Address", "Found in", "Round trip", "Throughput", "Loss"]) assert(row.facts[fact], `${row.name} tells its ${fact}`);
      }
    }
    assert((await page.textContent("#verdict-title")) === "Calls from here will work.", await page.textContent("#verdict"));
    scene.page = page;
    return { rows: seen.map(({ name, facts }) => ({ name, ...facts })) };
  },

  async "the report is copied as JSON without the credential"(scene) {
    const { page } = scene;
    await page.click("#report");
    await page.waitForFunction(() => document.getElementById("report").textContent === "Copied");
    const text = await page.evaluate(() => navigator.clipboard.readText());
    const report = JSON.parse(text);
    assert(report.verdict === "good" && report.rows.length === 8, text);
    assert(!/credential|password/i.test(text), "no credential is in it");
  },

  async "a server that says no is told apart from one that is silent"(scene) {
    const page = await scene.dora.newPage();
    // What the browser is told, not what the server offers, is changed: a wrong password, a port nobody listens on.
    await page.route("**/v1/test?**", async (route) => {
      const answer = await route.fetch();
      const offer = await answer.json();
      const udp = offer.servers.find(({ transport, family }) => transport === "udp" && family === 4);
      const tcp = offer.servers.find(({ transport, family }) => transport === "tcp" && family === 4);
      const dead = { ...tcp, uri: "turn:127.0.0.1:1?transport=tcp" };
      await route.fulfill({ response: answer, json: { ...offer, servers: [udp, dead], credential: "wrong" } });
    });
    await page.goto(`${scene.visitors.base}/test?auto`);
    await finished(page);
    const seen = await rows(page);
    await scene.visitors.shot(page, "selftest-bad", { fullPage: true });
    const of = (kind) => seen.find((row) => row.kind === kind);
    assert(of("udp").state === "fail" && of("udp").words.includes("401"), JSON.stringify(seen));
    assert(of("tcp").state === "fail" && of("tcp").words.startsWith("No TCP connection"), JSON.stringify(seen));
    assert(of("tls").state === "absent" && of("ipv6").state === "absent", "what is not offered is no failure");
    assert((await page.textContent("#verdict-title")) === "The relay cannot be used from here.", "and the verdict says so");
    await page.close();
  },

  async "on a phone, in Chinese"(scene) {
    const context = await scene.visitors.visitor({ viewport: { width: 360, height: 740 }, locale: "zh-CN" });
    const page = await scene.visitors.open(context, "/test");
    assert((await page.textContent("h1")) === "这里能通话吗？", "the browser's language is spoken");
    assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing sticks out");
    await inState(page, "ready");
    await scene.visitors.shot(page, "selftest-zh");
    await context.close();
  },
});
