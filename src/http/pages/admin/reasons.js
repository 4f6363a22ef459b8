// Why the server said no, kept silent or ended something, in words. A reason that is not here is shown by its name.

import { language } from "./words.js";

/** By error code. The second text says when to worry. */
const ANSWERS = {
  en: {
    success: ["answered", ""],
    other: ["another error", ""],
    300: ["sent to another server", ""],
    400: ["malformed request", "a broken client, or a scan"],
    401: ["credentials asked for, or refused", "usual once a client; the feed tells of wrong ones"],
    403: ["peer forbidden by the rules", "see relay.deny_peers and relay.allow_peers"],
    420: ["unknown attribute", "a client asked for a feature that is not here"],
    437: ["no allocation there, or one already", "a client that outlived its session"],
    438: ["nonce too old, client tries again", "usual every few minutes"],
    440: ["address family not served", "no relay address of that family"],
    441: ["not the user of this allocation", "two users share one port, or a theft is tried"],
    442: ["transport not served", ""],
    486: ["user is at the quota", "see limits.allocations_per_user"],
    508: ["no port or capacity left", "see relay.ports and limits"],
  },
  zh: {
    success: ["成功", ""],
    other: ["其他错误", ""],
    300: ["转到其他服务器", ""],
    400: ["请求格式错误", "客户端有误或被扫描"],
    401: ["要求凭据或凭据被拒", "每个新客户端一次属正常;错误凭据见动态"],
    403: ["规则禁止的对端", "见 relay.deny_peers 与 relay.allow_peers"],
    420: ["未知属性", "客户端请求了不支持的功能"],
    437: ["没有分配,或已有分配", "会话结束后客户端仍在发送"],
    438: ["nonce 过期,客户端会重试", "每隔几分钟出现属正常"],
    440: ["不支持的地址族", "没有该地址族的中继地址"],
    441: ["不是该分配的用户", "两个用户共用一个端口,或有人冒用"],
    442: ["不支持的传输", ""],
    486: ["用户达到配额", "见 limits.allocations_per_user"],
    508: ["没有可用端口或容量", "见 relay.ports 与 limits"],
  },
};

const DROPS = {
  en: {
    malformed: "neither STUN nor channel data", fingerprint: "wrong fingerprint", unexpected: "nothing a client sends to a server",
    source: "sender that cannot be answered", no_allocation: "sender without a session", no_channel: "channel that is not bound",
    no_permission: "peer without permission", peer_denied: "peer forbidden by the rules", self_port_refused: "this server's own address as a peer",
    bad_indication: "incomplete Send indication", bandwidth: "over the session's byte rate", bandwidth_total: "over the server's byte rate",
    unverified: "too many unproved requests from one source", icmp_rate: "too many ICMP errors", overflow: "answer too long",
    truncated: "longer than the receive buffer", send_failed: "refused by the kernel on sending", backpressure: "receiver too slow, output full",
    client_gone: "client's connection gone", credential_used_up: "bytes of the credential used up", oversize: "too long for its frame",
  },
  zh: {
    malformed: "既非 STUN 也非信道数据", fingerprint: "指纹错误", unexpected: "不应发给服务器的消息",
    source: "无法应答的来源", no_allocation: "来源没有会话", no_channel: "信道未绑定",
    no_permission: "对端没有许可", peer_denied: "规则禁止的对端", self_port_refused: "以本服务器地址为对端",
    bad_indication: "Send 指示不完整", bandwidth: "超过会话字节速率", bandwidth_total: "超过服务器字节速率",
    unverified: "同一来源未验证请求过多", icmp_rate: "ICMP 错误过多", overflow: "应答过长",
    truncated: "超过接收缓冲区", send_failed: "内核拒绝发送", backpressure: "接收方过慢,输出已满",
    client_gone: "客户端连接已断", credential_used_up: "凭据的流量已用完", oversize: "超过帧长",
  },
};

const ENDS = {
  en: { expired: "not refreshed in time", deleted: "closed by the client", disconnected: "client's connection gone", closed: "closed by the operator or the server", revoked: "user revoked", quota: "bytes of the credential used up" },
  zh: { expired: "未按时刷新", deleted: "客户端关闭", disconnected: "客户端连接已断", closed: "操作员或服务器关闭", revoked: "用户已被吊销", quota: "凭据的流量已用完" },
};

/** The server tells what happened in English; these are its turns of phrase. */
const PHRASES = [
  [/^created over (\S+): (.*)$/, "经 $1 建立:$2"],
  [/^ended: (.*) after (.*), (.*) to peers, (.*) to the client$/, "$1,历时 $2,发往对端 $3,发往客户端 $4"],
  [/^credential expired (.*) ago$/, "凭据已过期 $1"],
  [/^unknown user$/, "未知用户"], [/^wrong password$/, "密码错误"], [/^expiry too far ahead$/, "凭据有效期过长"],
  [/^no credential$/, "没有凭据"], [/^malformed request$/, "请求格式错误"], [/^client denied by policy$/, "规则禁止的客户端"],
  [/^peer denied by policy$/, "规则禁止的对端"], [/^unknown attribute$/, "未知属性"],
  [/^there is an allocation already$/, "已有分配"], [/^there is no allocation$/, "没有分配"], [/^stale nonce$/, "nonce 过期"],
  [/^no relay address of this family$/, "没有该地址族的中继地址"], [/^the allocation is another user's$/, "该分配属于其他用户"],
  [/^transport to peers not supported$/, "不支持的传输"],
  [/^the peer is of another family than the relayed address$/, "对端与中继地址的地址族不同"],
  [/^quota reached$/, "达到配额"], [/^no port left, or a limit reached, or draining$/, "没有可用端口、达到上限或正在排空"],
  [/^draining$/, "正在排空"], [/^a limit reached$/, "达到上限"],
  [/^expired$/, "未按时刷新"], [/^deleted by the client$/, "客户端关闭"], [/^client disconnected$/, "客户端断开"],
  [/^closed by the server$/, "服务器关闭"], [/^its user was revoked$/, "用户已被吊销"],
  [/^the bytes of its credential are used up$/, "凭据的流量已用完"], [/^user revoked$/, "用户已被吊销"],
  [/^sent to another server, draining$/, "正在排空,已转到其他服务器"],
];

/** What a notice says, without the kind that stands before it anyway; in Chinese as far as the phrases are known. */
export function noticeWords(text) {
  if (language !== "zh") return text.replace(/^(ended: |created )/, "");
  const phrase = (part) => {
    const found = PHRASES.find(([pattern]) => pattern.test(part));
    return found ? part.replace(...found) : part;
  };
  const refusal = text.match(/^(\d{3}): (.*) \((\w+)\)$/);
  if (refusal) {
    // The rule that decided stands in brackets, in the words of the configuration.
    const [, why, rule = ""] = refusal[2].match(/^(.*?)( \[.*\])?$/);
    return `${refusal[1]}:${phrase(why)}${rule}(${refusal[3]})`;
  }
  const ending = text.match(/^ended: (.*?)( after .*)$/);
  return phrase(ending ? `ended: ${phrase(ending[1])}${ending[2]}` : text);
}

/** What an error code means: its words, and a hint or "". */
export const answerWords = (code) => ANSWERS[language][code] ?? [String(code), ""];

/** Why packets were dropped. */
export const dropWords = (reason) => DROPS[language][reason] ?? reason;

/** Why a session ended. */
export const endWords = (reason) => ENDS[language][reason] ?? reason;

/** Every table, for the test that both languages say the same things. */
export const TABLES = { ANSWERS, DROPS, ENDS };
