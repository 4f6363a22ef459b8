// A call between two people at one link, through the relay alone, from the first look to the last word.
//
//   node call.mjs '{"base":"http://127.0.0.1:8080","shots":"DIR"}'

import { assert, assertNamed, inState, join, picturesMove, play } from "./visitor.mjs";

const ROOM = "/r/friday-call?it=relay";

/** A value of the statistics' drawer. */
const statistic = (page, label) => page.evaluate((wanted) => {
  const title = [...document.querySelectorAll("#statistics dt")].find((term) => term.textContent === wanted);
  return title?.nextElementSibling.textContent;
}, label);

const isPressed = (page, id) => page.getAttribute(`#${id}`, "aria-pressed").then((value) => value === "true");

/** Leaves whatever has the focus, so that keys are the page's. */
const unfocus = (page) => page.evaluate(() => document.activeElement?.blur());

/** How many pictures one side sends a second that are not black: brightness of what the other shows. */
const brightness = (page) => page.evaluate(() => {
  const canvas = new OffscreenCanvas(16, 16);
  const drawing = canvas.getContext("2d");
  drawing.drawImage(document.getElementById("remote"), 0, 0, 16, 16);
  const { data } = drawing.getImageData(0, 0, 16, 16);
  return data.reduce((sum, value, at) => sum + (at % 4 === 3 ? 0 : value), 0) / (16 * 16 * 3);
});

await play({
  async "the landing page leads to a room"(scene) {
    scene.ann = await scene.visitors.visitor();
    const page = await scene.visitors.open(scene.ann, "/");
    assert(/^\d{9}$/.test(await page.inputValue("#room")), "a room is proposed");
    await page.fill("#room", "a b");
    assert(await page.isDisabled("#go"), "a name with a space is refused");
    await assertNamed(page);
    await page.fill("#room", "friday-call");
    await scene.visitors.shot(page, "landing");
    await page.click("#go");
    await page.waitForURL("**/r/friday-call");
    assert((await page.textContent("#lobby-title")).includes("friday-call"), "the room is named");
    await page.close();
  },

  async "the first waits with a link to share"(scene) {
    const page = await scene.visitors.open(scene.ann, ROOM);
    await page.waitForFunction(() => document.getElementById("local").videoWidth > 0);
    await assertNamed(page);
    await scene.visitors.shot(page, "lobby");
    await page.click("#enter");
    await inState(page, "waiting");
    await page.click("#copy");
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert(copied === scene.visitors.base + ROOM, `the link was copied, not ${copied}`);
    await assertNamed(page);
    await scene.visitors.shot(page, "waiting");
    scene.a = page;
  },

  async "the second comes and both see moving pictures"(scene) {
    scene.ben = await scene.visitors.visitor();
    scene.b = await join(scene, scene.ben, ROOM);
    await Promise.all([inState(scene.a, "call"), inState(scene.b, "call")]);
    const [a, b] = await Promise.all([picturesMove(scene.a), picturesMove(scene.b)]);
    await assertNamed(scene.a);
    await scene.visitors.shot(scene.a, "call");
    return { framesOfA: a, framesOfB: b };
  },

  async "the statistics say relay to relay"(scene) {
    const seen = [];
    for (const page of [scene.a, scene.b]) {
      await unfocus(page);
      await page.keyboard.press("i");
      await page.waitForFunction(() => /Mbit|kbit/.test(document.getElementById("statistics-body").textContent));
      await page.waitForFunction(() => [...document.querySelectorAll("#statistics dd")].some((value) => value.textContent === "relay / relay"));
      seen.push({ pair: await statistic(page, "Selected pair"), over: await statistic(page, "Relay over"), rtt: await statistic(page, "Round trip") });
    }
    await scene.visitors.shot(scene.a, "statistics");
    await scene.a.keyboard.press("i");
    await scene.b.keyboard.press("Escape");
    for (const page of [scene.a, scene.b]) assert(await page.isHidden("#statistics"), "the drawer closes again");
    assert(seen.every(({ pair, over }) => pair === "relay / relay" && ["UDP", "TCP"].includes(over)), JSON.stringify(seen));
    return { seen };
  },

  async "a third finds the room full"(scene) {
    const cid = await scene.visitors.visitor();
    const page = await scene.visitors.open(cid, ROOM);
    assert((await page.title()).includes("Room full"), "the page says so");
    assert((await page.textContent("h1")) === "Sorry, this room is full.", "in these words");
    await scene.visitors.shot(page, "full");
    await page.click("a.main");
    await page.waitForURL(`${scene.visitors.base}/`);
    await cid.close();
  },

  async "mute by button and key reaches the other side"(scene) {
    const { a, b } = scene;
    await unfocus(a);
    await a.keyboard.press("m");
    assert(await isPressed(a, "mic"), "m mutes");
    await b.waitForSelector("#far-muted:not([hidden])");
    await a.keyboard.press(" ");
    assert(!(await isPressed(a, "mic")), "space unmutes");
    await b.waitForSelector("#far-muted", { state: "hidden" });
    await a.mouse.move(200, 200);
    await a.click("#camera");
    assert(await isPressed(a, "camera"), "the button switches the camera off");
    await b.waitForSelector("#far-off:not([hidden])");
    await b.waitForFunction(() => document.getElementById("remote").videoWidth > 0);
    let dark = await brightness(b);
    for (let tries = 0; dark > 8 && tries < 50; tries += 1) {
      await b.waitForTimeout(100);
      dark = await brightness(b);
    }
    assert(dark <= 8, `what is sent is black, not of brightness ${dark}`);
    await scene.visitors.shot(b, "far-off");
    await unfocus(a);
    await a.keyboard.press("c");
    await b.waitForSelector("#far-off", { state: "hidden" });
    return { dark };
  },

  async "words cross as text"(scene) {
    const { a, b } = scene;
    const words = "<img src=x onerror=alert(1)> 你好";
    await a.mouse.move(220, 220);
    await a.click("#chat-open");
    await a.fill("#chat-text", words);
    await a.keyboard.press("Enter");
    await b.waitForSelector("#chat-unread:not([hidden])");
    await b.mouse.move(220, 220);
    await b.click("#chat-open");
    assert((await b.textContent("#chat-lines li.theirs")) === words, "as they were typed");
    assert((await b.locator("#chat-lines img").count()) === 0, "and not as markup");
    await b.fill("#chat-text", "See you on Friday!");
    await b.keyboard.press("Enter");
    await a.waitForSelector("#chat-lines li.theirs");
    await scene.visitors.shot(a, "chat");
    for (const page of [a, b]) await page.keyboard.press("Escape");
  },

  async "buttons hide from a resting pointer, not from a keyboard"(scene) {
    const { a } = scene;
    await a.mouse.move(240, 240);
    await a.waitForFunction(() => document.body.classList.contains("idle"));
    await a.keyboard.press("Tab");
    assert(!(await a.evaluate(() => document.body.classList.contains("idle"))), "a key brings them back");
    const stays = await a.evaluate(() => new Promise((resolve) => {
      const seen = new MutationObserver(() => resolve(false));
      seen.observe(document.body, { attributeFilter: ["class"] });
      setTimeout(() => resolve(true), 5_600);
    }));
    assert(stays, "and they stay");
  },

  async "a shared screen takes the camera's place"(scene) {
    const { a, b } = scene;
    await a.mouse.move(260, 260);
    const before = await b.evaluate(() => document.getElementById("remote").videoWidth / document.getElementById("remote").videoHeight);
    await a.click("#screen");
    const shares = await a.waitForFunction(() => document.getElementById("screen").getAttribute("aria-pressed") === "true", undefined, { timeout: 4_000 }).then(() => true, () => false);
    // A machine without a display has no screen to share; the call goes on either way.
    if (shares) {
      await picturesMove(b);
      await a.click("#screen");
      await a.waitForFunction(() => document.getElementById("screen").getAttribute("aria-pressed") === "false");
    }
    await picturesMove(b);
    return { shares, before };
  },

  async "another camera and microphone are chosen in the call"(scene) {
    const { a, b } = scene;
    const used = (kind) => a.evaluate((wanted) => {
      const sender = window.peers.at(-1).getSenders().find(({ track }) => track?.kind === wanted);
      return sender.track.getSettings().deviceId;
    }, kind);
    await a.mouse.move(280, 280);
    await a.click("#devices-open");
    await assertNamed(a);
    await scene.visitors.shot(a, "devices");
    const seen = {};
    for (const [select, kind] of [["#device-camera", "video"], ["#device-mic", "audio"]]) {
      const before = await used(kind);
      const options = await a.evaluate((id) => [...document.querySelector(id).options].map(({ value }) => value), select);
      const other = options.findLast((value) => value !== before);
      assert(options.length >= 2 && other, `there is another for ${kind}: ${options}`);
      await a.selectOption(select, other);
      await a.waitForFunction(([wanted, id]) => window.peers.at(-1).getSenders().some(({ track }) => track?.kind === wanted && track.getSettings().deviceId === id), [kind, other]);
      seen[kind] = options.length;
    }
    await a.click("#devices button");
    assert(await a.isHidden("#devices"), "the dialog closes");
    await picturesMove(b);
    return seen;
  },

  async "a closed tab leaves the other waiting"(scene) {
    await scene.b.close({ runBeforeUnload: true });
    await inState(scene.a, "waiting");
    await scene.visitors.shot(scene.a, "waiting-again");
  },

  async "who comes back is seen again"(scene) {
    scene.b = await join(scene, scene.ben, ROOM);
    await Promise.all([inState(scene.a, "call"), inState(scene.b, "call")]);
    const [a, b] = await Promise.all([picturesMove(scene.a), picturesMove(scene.b)]);
    return { framesOfA: a, framesOfB: b };
  },

  async "hanging up ends it for one and not for the other"(scene) {
    const { a, b } = scene;
    await unfocus(a);
    await a.keyboard.press("q");
    await inState(a, "left");
    await inState(b, "waiting");
    assert(await a.evaluate(() => document.getElementById("local").srcObject === null), "the camera is let go");
    await assertNamed(a);
    await scene.visitors.shot(a, "left");
    await a.click("#rejoin");
    await a.waitForFunction(() => document.body.dataset.state === "lobby" && document.getElementById("local").videoWidth > 0);
    await a.click("#enter");
    await Promise.all([inState(a, "call"), inState(b, "call")]);
    await picturesMove(a);
    for (const page of [a, b]) await page.close({ runBeforeUnload: true });
    const recent = await scene.visitors.open(scene.ann, "/");
    assert((await recent.textContent("#recent-list li")) === "friday-call", "the room is remembered");
    await recent.close();
  },
});
