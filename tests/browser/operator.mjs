// A relayed call while its server is reloaded, given another certificate, and told to end.
//
//   node operator.mjs '{"pid":1,"log":"…","configuration":"…","certificate":["…","…"],"iceServers":[…]}'
//
// `certificate` is a file and the one to put in its place, pair by pair. Prints one JSON line a step with how the
// relayed call and one past the relay fared meanwhile; exits 1 when a step failed, its reason in "failed", and 2
// when the calls could not be tried at all.

import { appendFile, readFile, rename } from "node:fs/promises";
import { Lab } from "./lab.mjs";

const STEP_LIMIT_MS = 60_000;
const FRAMES = 40;
const RELOADS = 10;

const told = JSON.parse(process.argv[2]);

/** Waits until the log has so many lines with this text. */
async function logged(text, count) {
  for (;;) {
    const log = await readFile(told.log, "utf8");
    if (log.split(text).length > count) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${STEP_LIMIT_MS} ms`)), STEP_LIMIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** What became of the calls between two looks. */
function judge(before, after) {
  const gone = (call, key) => after[call][key] - before[call][key];
  const seen = { frames: gone("relayed", "frames"), lost: gone("relayed", "lost"), freezes: gone("relayed", "freezes"), freezesBeside: gone("direct", "freezes") };
  if (seen.lost > 0) seen.failed = "packets were lost";
  // Where the call beside froze too, it was this machine and not the relay.
  if (seen.freezes > seen.freezesBeside) seen.failed = "the picture froze";
  return seen;
}

async function main() {
  const lab = await Lab.open();
  let failures = 0;
  const page = await lab.page("operator");
  let last;
  const step = async (name, deed) => {
    let seen;
    try {
      const more = await within(deed());
      const look = await within(page.evaluate((frames) => window.advance(frames), FRAMES));
      seen = { ...more, ...(last ? judge(last, look) : {}) };
      last = look;
    } catch (error) {
      seen = { failed: error.message };
    }
    if (seen.failed) failures += 1;
    console.log(JSON.stringify({ name, ...seen }));
  };
  const evaluate = (name) => page.evaluate(([deed, servers]) => window[deed](servers), [name, told.iceServers]);
  try {
    await step("call", async () => ({ candidate: await evaluate("begin") }));
    await step("quiet", async () => ({}));
    await step("reloads", async () => {
      for (let count = 1; count <= RELOADS; count += 1) {
        await appendFile(told.configuration, `# ${count}\n`);
        process.kill(told.pid, "SIGHUP");
        await logged("reloaded", count);
      }
      return {};
    });
    await step("certificate", async () => {
      for (const [file, other] of told.certificate) await rename(other, file);
      await logged("reloaded", RELOADS + 1);
      return {};
    });
    await step("drain", async () => {
      process.kill(told.pid, "SIGTERM");
      await logged("draining", 1);
      return evaluate("tryAnew");
    });
    await step("draining", async () => ({}));
    await page.evaluate(() => window.hangUp());
    // The peers give their allocations back before the page is gone.
    await within(logged("stopped", 1));
    console.log(JSON.stringify({ name: "end" }));
  } finally {
    await lab.close();
  }
  return failures === 0 ? 0 : 1;
}

main().then(
  (code) => { process.exitCode = code; },
  (error) => { console.error(`operator: ${error.message}`); process.exitCode = 2; },
);
