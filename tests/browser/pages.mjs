// The pages under other conditions: one person alone, a phone, another language, missing devices, plain HTTP, an old
// client on the other side.
//
//   node pages.mjs '{"base":"http://127.0.0.1:8080","shots":"DIR"}'

import { assert, inState, picturesMove, play } from "./visitor.mjs";

const hasPicture = (page) => page.waitForFunction(() => document.getElementById("local").videoWidth > 0);
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

const oldFramesMove = async (page) => {
  const first = await page.evaluate(() => window.call.frames());
  await page.waitForFunction(async (before) => (await window.call.frames()) >= before + 15, first);
};

await play({
  async "one person tries the relay with both ends"(scene) {
    const { visitors } = scene;
    scene.eve = await visitors.visitor();
    const page = await visitors.open(scene.eve, "/r/loop-room?debug=loopback");
    await hasPicture(page);
    await page.click("#enter");
    await inState(page, "call");
    await picturesMove(page);
    const pairs = await page.evaluate(async () => Promise.all(window.peers.map(async (peer) => {
      const stats = await peer.getStats();
      const transport = [...stats.values()].find((stat) => stat.type === "transport");
      const pair = stats.get(transport.selectedCandidatePairId);
      return [stats.get(pair.localCandidateId).candidateType, stats.get(pair.remoteCandidateId).candidateType];
    })));
    assert(pairs.length === 2 && pairs.flat().every((type) => type === "relay"), JSON.stringify(pairs));
    assert((await page.textContent("#status")) === "Looped through the relay", "the page says what it does");
    await visitors.shot(page, "loopback");
    await page.keyboard.press("q");
    await inState(page, "left");
    await page.close();
    return { pairs };
  },

  async "a phone and a desk"(scene) {
    const { visitors } = scene;
    const small = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
    const phone = await visitors.visitor(small);
    const landing = await visitors.open(phone, "/");
    assert(await fits(landing), "the landing page fits");
    await visitors.shot(landing, "phone-landing");
    await landing.close();
    const page = await visitors.open(phone, "/r/phone-room?it=relay&tt=tcp");
    await hasPicture(page);
    assert(await fits(page), "the question fits");
    await visitors.shot(page, "phone-lobby");
    await page.tap("#enter");
    await inState(page, "waiting");
    await visitors.shot(page, "phone-waiting");
    const desk = await visitors.open(scene.eve, "/r/phone-room?it=relay&tt=tcp");
    await hasPicture(desk);
    await desk.click("#enter");
    await Promise.all([inState(page, "call"), inState(desk, "call")]);
    await picturesMove(page);
    await visitors.shot(page, "phone");
    const boxes = await page.evaluate(() => [...document.querySelectorAll("#controls button")].filter((button) => button.offsetParent !== null).map((button) => button.getBoundingClientRect()).map(({ left, right, width, height }) => ({ left, right, width, height })));
    assert(boxes.every(({ left, right, width, height }) => left >= 0 && right <= 360 && width >= 40 && height >= 40), JSON.stringify(boxes));
    await page.tap("#statistics-open");
    await page.waitForFunction(() => [...document.querySelectorAll("#statistics dd")].some((value) => value.textContent === "TCP"));
    await visitors.shot(page, "phone-statistics");
    await desk.close({ runBeforeUnload: true });
    await phone.close();
  },

  async "a Chinese browser, and one that asks for it"(scene) {
    const { visitors } = scene;
    const chinese = await visitors.visitor({ locale: "zh-CN" });
    const page = await visitors.open(chinese, "/r/zh-room");
    await hasPicture(page);
    assert((await page.textContent("#enter")) === "加入", "by its language");
    assert((await page.getAttribute("#mic", "aria-label")) === "麦克风静音", "labels too");
    assert((await page.getAttribute("html", "lang")) === "zh-CN", "and it says so");
    await visitors.shot(page, "lobby-zh");
    await chinese.close();
    const asked = await visitors.open(scene.eve, "/?lang=zh");
    assert((await asked.textContent("h1")) === "一个链接，即刻视频通话", "by the link");
    await visitors.shot(asked, "landing-zh");
    await asked.click("#go");
    await asked.waitForURL("**/r/*?lang=zh");
    await asked.close();
  },

  async "without camera, without anything"(scene) {
    const { visitors } = scene;
    const refuse = async (wants) => {
      const context = await visitors.visitor();
      await context.addInitScript((refused) => {
        const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          for (const [kind, name] of Object.entries(refused)) if (wanted[kind]) throw new DOMException("refused by the test", name);
          return real(wanted);
        };
      }, wants);
      return context;
    };
    const voice = await refuse({ video: "NotFoundError" });
    const silent = await refuse({ video: "NotAllowedError", audio: "NotAllowedError" });
    const a = await visitors.open(voice, "/r/bare-room?it=relay");
    await a.waitForSelector("#notices .notice");
    assert((await a.textContent("#notices .notice span")).startsWith("There is no camera"), "what is missing is said");
    await a.click("#enter");
    await inState(a, "waiting");
    const b = await visitors.open(silent, "/r/bare-room?it=relay");
    await b.waitForSelector("#notices .notice");
    assert((await b.textContent("#notices .notice span")).includes("blocked"), "and what is refused");
    await visitors.shot(b, "lobby-blocked");
    await b.click("#enter");
    await Promise.all([inState(a, "call"), inState(b, "call")]);
    await b.waitForFunction(async () => {
      const stats = [...(await window.peers.at(-1).getStats()).values()];
      return stats.some((stat) => stat.type === "inbound-rtp" && stat.kind === "audio" && stat.packetsReceived > 20);
    });
    await b.waitForSelector("#far-off:not([hidden])");
    await visitors.shot(b, "voice");
    await voice.close();
    await silent.close();
  },

  async "plain HTTP says what is wrong"(scene) {
    const { visitors } = scene;
    const page = await scene.eve.newPage();
    // A name that is neither localhost nor https: browsers give it no devices.
    const foreign = new URL(visitors.base);
    foreign.hostname = "turnpike.test";
    await page.goto(`${foreign.origin}/r/plain-room`);
    await page.waitForSelector("#notices .notice");
    assert((await page.textContent("#notices .notice span")).includes("https://"), "the notice points to https");
    await page.click("#enter");
    await inState(page, "waiting");
    await page.click("#copy");
    await page.waitForFunction(() => document.getElementById("copy").textContent === "Copied");
    await visitors.shot(page, "insecure");
    await page.close({ runBeforeUnload: true });
  },

  async "a relay that cannot be used is told of"(scene) {
    const { visitors } = scene;
    const tell = async (change, words) => {
      const page = await scene.eve.newPage();
      await page.route("**/v1alpha/iceconfig?**", change);
      await page.goto(`${visitors.base}/r/bad-room?it=relay`);
      await hasPicture(page);
      await page.click("#enter");
      await inState(page, "waiting");
      await page.waitForFunction((wanted) => document.getElementById("notices").textContent.includes(wanted), words);
      await page.close({ runBeforeUnload: true });
    };
    await tell(async (route) => {
      const answer = await route.fetch();
      const { iceServers } = await answer.json();
      await route.fulfill({ response: answer, json: { iceServers: iceServers.map((server) => ({ ...server, credential: "wrong" })) } });
    }, "relay could not be used");
    await tell((route) => route.fulfill({ status: 503, json: { detail: "set auth.secrets" } }), "set auth.secrets");
  },

  async "credentials are renewed before they end"(scene) {
    const { visitors } = scene;
    const page = await visitors.open(scene.eve, "/r/long-room?it=relay");
    await hasPicture(page);
    await page.click("#enter");
    await inState(page, "waiting");
    const user = () => page.evaluate(() => window.peers.at(-1).getConfiguration().iceServers[0].username);
    const first = await user();
    await page.waitForFunction((old) => window.peers.at(-1).getConfiguration().iceServers[0].username !== old, first);
    assert(Number((await user()).split(":")[0]) > Number(first.split(":")[0]), "the new ones end later");
    // By now the first ones have ended; whoever joins meets the offer that was made with them.
    await page.waitForFunction((old) => Number(old.split(":")[0]) * 1000 < Date.now(), first);
    const other = await visitors.open(await visitors.visitor(), "/r/long-room?it=relay");
    await hasPicture(other);
    await other.click("#enter");
    await Promise.all([inState(page, "call"), inState(other, "call")]);
    await picturesMove(page);
    for (const either of [page, other]) await either.close({ runBeforeUnload: true });
    return { first };
  },

  async "AppRTC's own page on the other side"(scene) {
    const { visitors } = scene;
    const old = await visitors.visitor();
    await old.addInitScript({ path: new URL("apprtc_client.js", import.meta.url).pathname });
    const search = "?it=relay";
    const oldPage = () => visitors.open(old, "/robots.txt");
    const start = (page, room) => page.evaluate(([name, query]) => window.apprtc(name, query), [room, search]);

    // Ours is first.
    const ours = await visitors.open(scene.eve, `/r/old-room${search}`);
    await hasPicture(ours);
    await ours.click("#enter");
    await inState(ours, "waiting");
    const second = await oldPage();
    await start(second, "old-room");
    await inState(ours, "call");
    await Promise.all([picturesMove(ours), oldFramesMove(second)]);
    await visitors.shot(ours, "with-apprtc");
    await second.evaluate(() => window.call.hangUp());
    await inState(ours, "waiting");
    await ours.close({ runBeforeUnload: true });
    await second.close();

    // The old one is first, answers no offers, and begins anew when ours goes and comes back.
    const first = await oldPage();
    await start(first, "older-room");
    let guest = await visitors.open(scene.eve, `/r/older-room${search}`);
    await hasPicture(guest);
    await guest.click("#enter");
    await inState(guest, "call");
    await Promise.all([picturesMove(guest), oldFramesMove(first)]);
    await guest.evaluate(() => document.activeElement.blur());
    await guest.keyboard.press("q");
    await inState(guest, "left");
    await guest.click("#rejoin");
    await hasPicture(guest);
    await guest.click("#enter");
    await inState(guest, "call");
    await Promise.all([picturesMove(guest), oldFramesMove(first)]);
    const unexpected = await first.evaluate(() => window.call.unexpected);
    assert(unexpected.length === 0, `the old page heard only what it knows: ${unexpected}`);
    await guest.close({ runBeforeUnload: true });
    await first.close();
  },
});
