// What the measurements mean, in words. Pure.

import { t } from "./i18n.js";

/** More than this share lost is heard and seen. */
export const LOSS_WEAK = 0.03;

const CODES = [401, 403, 486, 508];

/** Why no candidate came, from the browser's own errors; the server's refusals say more than its silence. */
export function whyNot(row, errors) {
  const refused = errors.find(({ code }) => code !== 701);
  if (refused) {
    if (CODES.includes(refused.code)) return t(`why_${refused.code}`);
    return t("why_code", { code: refused.code, text: refused.text });
  }
  if (row.family === 6) return t("why_ipv6");
  return t(row.kind === "stun" ? "why_udp" : `why_${row.kind}`);
}

/** The name of a row: its protocol, and the family where the address shows it. */
export function nameOf({ kind, family }) {
  return family ? `${t(`row_${kind}`)}, ${t(`row_family${family}`)}` : t(`row_${kind}`);
}

/** The rows of a server: STUN and TURN for each URI it names, and those it does not offer. */
export function rowsOf(servers) {
  const rows = [];
  for (const { uri, transport, family } of servers) {
    if (transport !== "udp") continue;
    const host = uri.replace(/^turns?:/, "").split("?")[0];
    rows.push({ kind: "stun", family, uri: `stun:${host}` });
  }
  for (const kind of ["udp", "tcp", "tls"]) {
    const offered = servers.filter(({ transport }) => transport === kind);
    rows.push(...offered.map(({ uri, family }) => ({ kind, family, uri })));
    if (offered.length === 0) rows.push({ kind, absent: true });
  }
  const hasNames = servers.some(({ family }) => !family);
  if (!hasNames && !servers.some(({ family }) => family === 6)) rows.push({ kind: "ipv6", absent: true });
  return rows;
}

/** What it all means: `good`, `fair` or `bad`, a heading and a sentence. */
export function verdictOf(rows) {
  const relays = rows.filter(({ kind, absent }) => !absent && kind !== "stun");
  const working = relays.filter(({ state }) => state === "pass" || state === "weak");
  if (working.length === 0) return { grade: "bad", title: t("verdict_bad"), text: t("verdict_bad_text") };
  const order = (row) => row.rtt_ms + (row.kind === "udp" ? 0 : 1_000);
  const [best] = [...working].sort((a, b) => order(a) - order(b));
  const values = { best: nameOf(best), failed: relays.filter(({ state }) => state === "fail").map(nameOf).join("; ") };
  const offersUdp = relays.some(({ kind }) => kind === "udp");
  if (offersUdp && best.kind !== "udp") return { grade: "fair", title: t("verdict_fair"), text: t("verdict_fair_text", values) };
  if (best.state === "weak") return { grade: "fair", title: t("verdict_fair"), text: t("verdict_lossy_text", values) };
  const all = values.failed === "";
  return { grade: "good", title: t("verdict_good"), text: t(all ? "verdict_good_text" : "verdict_some_text", values) };
}
