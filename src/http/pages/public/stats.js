// What a connection's statistics say, in rows for people. Pure: two reports in, words out.

import { hostOf } from "./page.js";
import { t } from "./i18n.js";

const number = (value, digits = 0) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
const ms = (seconds) => (Number.isFinite(seconds) ? `${(seconds * 1000).toFixed(0)} ms` : "–");

function bits(perSecond) {
  if (!Number.isFinite(perSecond)) return "–";
  return perSecond >= 1e6 ? `${(perSecond / 1e6).toFixed(2)} Mbit/s` : `${(perSecond / 1e3).toFixed(0)} kbit/s`;
}

/** `1:02:03`, or `02:03` within the first hour. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${parts.join(":")}` : parts.join(":");
}

/** How much a counter grew a second since the last report. */
function rate(stat, before, key) {
  const old = before?.get(stat.id);
  if (!old || old[key] === undefined || stat.timestamp <= old.timestamp) return NaN;
  return ((stat[key] - old[key]) / (stat.timestamp - old.timestamp)) * 1000;
}

/** Percent lost of what was due since the last report. */
function loss(stat, before) {
  const lost = rate(stat, before, "packetsLost");
  const got = rate(stat, before, "packetsReceived");
  return lost + got > 0 ? `${((Math.max(0, lost) / (lost + got)) * 100).toFixed(1)} % (${stat.packetsLost})` : `${stat.packetsLost ?? "–"}`;
}

const place = (candidate) => {
  const host = candidate.address ? hostOf(candidate.address) : "…";
  return `${candidate.candidateType} ${host}:${candidate.port} ${candidate.protocol}`;
};

/** The candidate pair in use, with both its candidates. */
export function selectedPair(report) {
  const stats = [...report.values()];
  const chosen = stats.find((stat) => stat.type === "transport" && stat.selectedCandidatePairId)?.selectedCandidatePairId;
  const pair = report.get(chosen) ?? stats.find((stat) => stat.type === "candidate-pair" && stat.nominated && stat.state === "succeeded");
  if (!pair) return undefined;
  return { pair, local: report.get(pair.localCandidateId), remote: report.get(pair.remoteCandidateId) };
}

function candidateCounts(report, kind) {
  const counts = {};
  for (const stat of report.values()) {
    if (stat.type === kind) counts[stat.candidateType] = (counts[stat.candidateType] ?? 0) + 1;
  }
  return Object.entries(counts).map(([type, count]) => `${type} ${count}`).join(", ") || t("stat_none");
}

function connectionRows(report, peer, now_ms) {
  const rows = [
    ["stat_state", peer.pc.connectionState],
    ["stat_signaling", peer.pc.signalingState],
    ["stat_ice", peer.pc.iceConnectionState],
    ["stat_gathering", peer.pc.iceGatheringState],
    ["stat_candidates_local", candidateCounts(report, "local-candidate")],
    ["stat_candidates_remote", candidateCounts(report, "remote-candidate")],
  ];
  const selected = selectedPair(report);
  if (selected?.local && selected.remote) {
    const { pair, local, remote } = selected;
    rows.push(["stat_pair", `${local.candidateType} / ${remote.candidateType}`], ["stat_local", place(local)], ["stat_remote", place(remote)]);
    if (local.relayProtocol) rows.push(["stat_relay", local.relayProtocol.toUpperCase()]);
    rows.push(["stat_rtt", ms(pair.currentRoundTripTime)], ["stat_available", bits(pair.availableOutgoingBitrate)]);
  }
  if (peer.setupMs !== undefined) rows.push(["stat_setup_time", `${peer.setupMs} ms`]);
  if (peer.connectedAt !== undefined) rows.push(["stat_call_time", clock((now_ms - peer.connectedAt) / 1000)]);
  return rows;
}

function codecOf(report, stat) {
  const codec = report.get(stat.codecId);
  if (!codec) return "–";
  return `${codec.mimeType.split("/")[1]} (${codec.payloadType})`;
}

const size = (stat) => (stat.frameWidth ? `${stat.frameWidth} × ${stat.frameHeight}` : "–");
const feedback = (stat) => [stat.firCount, stat.pliCount, stat.nackCount].map((count) => count ?? 0).join(" / ");

function sentRows(report, before, stat) {
  const rows = [
    ["stat_codec", codecOf(report, stat)],
    ["stat_bitrate", bits(rate(stat, before, "bytesSent") * 8)],
    ["stat_packets", `${number(rate(stat, before, "packetsSent"))} /s`],
  ];
  if (stat.kind === "video") {
    rows.push(["stat_size", size(stat)], ["stat_fps", number(stat.framesPerSecond)], ["stat_feedback", feedback(stat)]);
    if (stat.qualityLimitationReason && stat.qualityLimitationReason !== "none") rows.push(["stat_limited", stat.qualityLimitationReason]);
  }
  const seen = [...report.values()].find((other) => other.type === "remote-inbound-rtp" && other.localId === stat.id);
  if (seen) rows.push(["stat_loss", `${number(seen.fractionLost * 100, 1)} % (${seen.packetsLost})`], ["stat_jitter", ms(seen.jitter)]);
  return rows;
}

function receivedRows(report, before, stat) {
  const rows = [
    ["stat_codec", codecOf(report, stat)],
    ["stat_bitrate", bits(rate(stat, before, "bytesReceived") * 8)],
    ["stat_packets", `${number(rate(stat, before, "packetsReceived"))} /s`],
    ["stat_loss", loss(stat, before)],
    ["stat_jitter", ms(stat.jitter)],
  ];
  if (stat.kind === "video") {
    rows.push(["stat_size", size(stat)], ["stat_fps", number(stat.framesPerSecond)]);
    rows.push(["stat_dropped", number(stat.framesDropped)], ["stat_feedback", feedback(stat)]);
  } else {
    rows.push(["stat_level", number(stat.audioLevel, 3)]);
  }
  return rows;
}

/** Sections of `[title, rows]`; a row is `[key of its label, value]`. */
export function describe(report, before, peer, now_ms) {
  const sections = [[t("stat_connection"), connectionRows(report, peer, now_ms)]];
  const kinds = [["inbound-rtp", "stat_received", receivedRows], ["outbound-rtp", "stat_sent", sentRows]];
  for (const [type, title, rows] of kinds) {
    for (const kind of ["video", "audio"]) {
      const stat = [...report.values()].find((found) => found.type === type && found.kind === kind);
      if (stat) sections.push([`${t(title)} · ${t(`stat_${kind}`)}`, rows(report, before, stat)]);
    }
  }
  return sections;
}
