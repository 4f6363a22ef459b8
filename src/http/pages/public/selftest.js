// The self-test: every way to this server, tried from here.

import { $, copyText, element, hostOf, refusal, told } from "./page.js";
import { gather, through } from "./probe.js";
import { LOSS_WEAK, nameOf, rowsOf, verdictOf, whyNot } from "./verdict.js";
import { t, translatePage } from "./i18n.js";

const COPIED_MS = 2_000;

let rows = [];
let verdict;

function rate(bitsPerSecond) {
  return bitsPerSecond >= 1e6 ? `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s` : `${(bitsPerSecond / 1e3).toFixed(0)} kbit/s`;
}

/** Milliseconds, with a decimal where they are few. */
const time = (ms) => `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;

function facts(row) {
  const found = [];
  if (row.address) found.push(["fact_address", `${hostOf(row.address)}:${row.port}`]);
  if (row.gathered_ms !== undefined) found.push(["fact_time", time(row.gathered_ms)]);
  if (row.rtt_ms !== undefined) found.push(["fact_rtt", time(row.rtt_ms)]);
  if (row.bitsPerSecond !== undefined) found.push(["fact_rate", rate(row.bitsPerSecond)], ["fact_loss", `${(row.loss * 100).toFixed(1)} %`]);
  return found;
}

function draw(row) {
  const item = element("li", row.state);
  const outcome = row.state === "waiting" ? "out_waiting" : `out_${row.state}`;
  item.append(element("span", "mark"), element("h3", "", nameOf(row)), element("span", "outcome", t(outcome)));
  if (row.uri) item.append(element("span", "where", row.uri));
  if (row.words) item.append(element("span", "words", row.words));
  const known = facts(row);
  if (known.length > 0) {
    const list = element("dl");
    for (const [label, value] of known) {
      const pair = element("div");
      pair.append(element("dt", "", t(label)), element("dd", "", value));
      list.append(pair);
    }
    item.append(list);
  }
  item.dataset.kind = row.kind;
  row.item?.replaceWith(item);
  row.item = item;
  return item;
}

function update(row, change) {
  Object.assign(row, change);
  draw(row);
}

async function find(row, login) {
  update(row, { state: "running" });
  const isStun = row.kind === "stun";
  const server = isStun ? { urls: row.uri } : { urls: row.uri, ...login };
  const seen = await gather(server, isStun ? "srflx" : "relay");
  row.errors = seen.errors;
  if (seen.found) {
    update(row, { address: seen.address, port: seen.port, gathered_ms: seen.ms, ...(isStun ? { state: "pass" } : {}) });
  } else if (isStun && seen.completed && seen.errors.length === 0) {
    // A reflexive candidate equal to the host's own is not shown by browsers: the answer came all the same.
    update(row, { state: "pass", words: t("stun_direct"), gathered_ms: seen.ms });
  } else {
    update(row, { state: "fail", words: whyNot(row, seen.errors) });
  }
}

async function measure(row, login) {
  try {
    const seen = await through({ urls: row.uri, ...login });
    update(row, { ...seen, state: seen.loss > LOSS_WEAK ? "weak" : "pass" });
  } catch (error) {
    update(row, { state: "fail", words: t(error.message === "apart" ? "why_relay" : "why_data") });
  }
}

async function servers() {
  const key = told().key ?? new URLSearchParams(location.search).get("key") ?? "";
  const answer = await fetch(`/v1/test?key=${encodeURIComponent(key)}`).catch(() => undefined);
  if (!answer) throw new Error(t("unreachable"));
  if (!answer.ok) throw new Error(await refusal(answer));
  return answer.json();
}

function conclude() {
  verdict = verdictOf(rows);
  $("verdict").className = `verdict ${verdict.grade}`;
  $("verdict-title").textContent = verdict.title;
  $("verdict-text").textContent = verdict.text;
  $("verdict").hidden = false;
  $("report").hidden = false;
}

function report() {
  const shown = rows.map(({ item, ...row }) => ({ name: nameOf(row), ...row }));
  const about = { server: location.origin, at: new Date().toISOString(), browser: navigator.userAgent };
  return JSON.stringify({ ...about, verdict: verdict.grade, summary: `${verdict.title} ${verdict.text}`, rows: shown }, undefined, 2);
}

async function copyReport() {
  if (!(await copyText(report()))) return;
  $("report").textContent = t("copied");
  setTimeout(() => { $("report").textContent = t("test_copy"); }, COPIED_MS);
}

/** The addresses all at once, since silence takes long; the runs one after the other, since each wants the whole line. */
async function test() {
  $("start").disabled = true;
  $("start").textContent = t("test_running");
  for (const id of ["verdict", "report", "problem"]) $(id).hidden = true;
  document.body.dataset.state = "running";
  try {
    const { servers: offered, username, credential } = await servers();
    const login = { username, credential };
    rows = rowsOf(offered).map((row) => ({ ...row, state: row.absent ? "absent" : "waiting" }));
    $("rows").replaceChildren(...rows.map(draw));
    if (offered.length === 0) throw new Error(t("test_none"));
    const tried = rows.filter((row) => !row.absent);
    await Promise.all(tried.map((row) => find(row, login)));
    for (const row of tried.filter(({ state }) => state === "running")) await measure(row, login);
    conclude();
  } catch (error) {
    $("problem").textContent = t("test_failed", { why: error.message });
    $("problem").hidden = false;
  }
  document.body.dataset.state = "done";
  $("start").disabled = false;
  $("start").textContent = t("test_again");
}

translatePage();
$("start").addEventListener("click", test);
$("report").addEventListener("click", copyReport);
if (new URLSearchParams(location.search).has("auto")) test();
