// What the console says, in English and Chinese. `?lang=en` or `?lang=zh` overrides the browser.

const EN = {
  skip: "Skip to the sessions",
  serving: "serving", draining: "draining",
  version: "Version", uptime: "Up", workers: "Workers", memory: "Memory", cpu: "CPU", files: "Open files", listening: "Listening",
  drain: "Drain", resume: "Resume", reload: "Reload configuration", cancel: "Cancel",
  connecting: "connecting…", live: "live", locked: "token needed",
  lost: "disconnected since {time}, trying again in {s} s", retrying: "disconnected since {time}, trying again…",
  banner_lost: "What you see is from {time}: the server does not answer.", banner_refused: "The server says: {reason}",
  banner_draining: "Draining: new allocations are refused; {n} still live.",
  banner_draining_until: "Draining: new allocations are refused; {n} still live, ends in {left} at the latest.",
  totals: "Totals",
  allocations: "Allocations", to_peers: "To peers", to_clients: "To clients", packets: "Packets", dropped: "Dropped",
  tile_allocations: "{permissions} permissions · {channels} channels",
  tile_ports: "{n} ports free", connections: "TCP connections", of_begun: "of {n} begun",
  tile_total: "{n} in all", tile_peak: "peak {n}", tile_process: "{memory} memory · {files} files",
  sessions: "Sessions", tally_of: "{shown} of {total}", tally_rooms: "{rooms} · {clients} in them",
  filter: "Filter by user, address, id", filter_transport: "Transport", every_transport: "every transport",
  note_busiest: "The {n} busiest of {total}. A whole user name or address finds any of them.",
  note_searched: "At most {n} are shown of {total}: search more closely.",
  note_partial: "A worker did not answer in time: the list is not complete.",
  empty_sessions: "No session now.", empty_filtered: "No session fits the filter.",
  user: "User", via: "Via", transport: "Transport", client: "Client", relayed: "Relayed", age: "Age", left: "Left",
  permits: "Perm. / chan.", rate: "Last minute", carried: "Carried", action: "Action",
  kick: "Kick", kick_user: "Kick {user}", open_user: "Details of {user}",
  feed: "Happening now", feed_kinds: "Kinds shown", feed_empty: "Nothing yet.",
  feed_lost: "{n} notices were lost in a flood; every event is counted, not every one is told.",
  created: "began", ended_kind: "ended", refused: "refused",
  answers: "Answers", drops: "Dropped packets", ended: "Ended sessions",
  none_answers: "No request yet.", none_drops: "No packet was dropped.", none_ended: "None has ended yet.",
  certificate: "Certificate", certificate_none: "No TLS listener has a certificate.",
  certificate_left: "{n} days left", certificate_one: "less than a day left", certificate_over: "expired {time} ago",
  certificate_until: "until {day}", issued_by: "issued by {issuer}",
  rooms: "Rooms", rooms_empty: "No room is open.", rooms_off: "Rooms cannot be shown: {reason}",
  room_clients: "{n} clients", room_client: "1 client", room_since: "since {time}", room_queued: "{n} messages wait", initiator: "initiator", unregistered: "no socket",
  settings: "Configuration in force", settings_filter: "Search keys and values", settings_changed: "Only what was set",
  settings_fault: "The configuration cannot be shown: {reason}", settings_empty: "Nothing fits.",
  origin_default: "default",
  detail: "Session", close: "Close", id: "Id", username: "Username", server: "Server", expires: "Ends in",
  permissions: "Permissions", channels: "Channels", peer: "Peer", number: "Number", none: "none",
  traffic: "Traffic", gone: "This session has ended.", detail_fault: "The session cannot be shown: {reason}", copy: "Copy id", copied: "Copied.",
  ask_kick: "End this session?", ask_kick_text: "{user} at {client} loses the relay at once. A client that still has good credentials can come back.",
  kick_all: "Kick all of this user", ask_kick_all: "End every session of this user?",
  ask_kick_all_text: "All of {user} lose the relay at once. Clients that still have good credentials can come back.",
  revoke: "Revoke user", ask_revoke: "Revoke this user?",
  ask_revoke_text: "Every session of {user} ends at once, and none of this user's credentials is taken or given any more. `turnpike revoke --undo` takes it back.",
  ask_drain: "Stop taking new allocations?", ask_drain_text: "Sessions that live go on, new allocations are refused, readiness checks fail, and the server ends with the last session. Until then you can resume.",
  ask_resume: "Take new allocations again?", ask_resume_text: "Clients may allocate again at once.",
  ask_reload: "Read the configuration again?", ask_reload_text: "What can change while running is put in force; sessions go on. If the file has a fault, nothing changes.",
  did_kick: "Ended the session of {user}.", did_gone: "That session had ended already.", did_kick_all: "Sessions of {user} ended: {n}.",
  did_revoke: "{user} is revoked; sessions ended: {n}.", did_revoke_memory: "{user} is revoked until the server ends; sessions ended: {n}.",
  did_drain: "Draining: new allocations are refused.", did_resume: "New allocations are taken again.",
  did_reload: "In force now: {keys}.", did_reload_none: "Read; nothing has changed.", did_restart: "Needs a restart: {keys}.",
  failed: "Not done: {reason}", unreachable: "the server does not answer",
  enter_title: "This console needs the admin token", token: "Token", enter: "Enter",
  enter_text: "It is in the file that http.admin_token_file names. It stays in this tab until you close it.",
};

const ZH = {
  skip: "跳到会话列表",
  serving: "服务中", draining: "排空中",
  version: "版本", uptime: "已运行", workers: "工作线程", memory: "内存", cpu: "CPU", files: "打开的文件", listening: "监听",
  drain: "排空", resume: "恢复", reload: "重新加载配置", cancel: "取消",
  connecting: "正在连接…", live: "实时", locked: "需要令牌",
  lost: "自 {time} 起断开,{s} 秒后重试", retrying: "自 {time} 起断开,正在重试…",
  banner_lost: "所示为 {time} 的数据:服务器没有应答。", banner_refused: "服务器的回答:{reason}",
  banner_draining: "排空中:拒绝新的分配;仍有 {n} 个在用。",
  banner_draining_until: "排空中:拒绝新的分配;仍有 {n} 个在用,最迟 {left} 后退出。",
  totals: "总计",
  allocations: "分配", to_peers: "发往对端", to_clients: "发往客户端", packets: "数据包", dropped: "丢弃",
  tile_allocations: "{permissions} 个许可 · {channels} 个信道",
  tile_ports: "空闲端口 {n}", connections: "TCP 连接", of_begun: "共开始 {n} 个",
  tile_total: "共 {n}", tile_peak: "峰值 {n}", tile_process: "内存 {memory} · 文件 {files}",
  sessions: "会话", tally_of: "{shown} / {total}", tally_rooms: "{rooms} 个 · 共 {clients} 人",
  filter: "按用户、地址或编号筛选", filter_transport: "传输方式", every_transport: "所有传输方式",
  note_busiest: "显示 {total} 个中最忙的 {n} 个。输入完整的用户名或地址可查找任意一个。",
  note_searched: "{total} 个中最多显示 {n} 个:请缩小搜索范围。",
  note_partial: "有工作线程未及时应答:列表不完整。",
  empty_sessions: "当前没有会话。", empty_filtered: "没有符合筛选条件的会话。",
  user: "用户", via: "传输", transport: "传输", client: "客户端", relayed: "中继地址", age: "时长", left: "剩余",
  permits: "许可/信道", rate: "最近一分钟", carried: "流量", action: "操作",
  kick: "断开", kick_user: "断开 {user}", open_user: "{user} 的详情",
  feed: "实时动态", feed_kinds: "显示的类型", feed_empty: "暂无动态。",
  feed_lost: "高峰时有 {n} 条通知未送达;所有事件都已计数,但不逐条通知。",
  created: "开始", ended_kind: "结束", refused: "拒绝",
  answers: "应答", drops: "丢弃的数据包", ended: "已结束的会话",
  none_answers: "还没有请求。", none_drops: "没有丢弃数据包。", none_ended: "还没有会话结束。",
  certificate: "证书", certificate_none: "没有使用证书的 TLS 监听。",
  certificate_left: "还剩 {n} 天", certificate_one: "剩余不足一天", certificate_over: "已过期 {time}",
  certificate_until: "有效期至 {day}", issued_by: "颁发者 {issuer}",
  rooms: "房间", rooms_empty: "没有打开的房间。", rooms_off: "无法显示房间:{reason}",
  room_clients: "{n} 人", room_client: "1 人", room_since: "自 {time}", room_queued: "{n} 条消息等待中", initiator: "发起者", unregistered: "无连接",
  settings: "当前生效的配置", settings_filter: "搜索键和值", settings_changed: "仅显示已设置的",
  settings_fault: "无法显示配置:{reason}", settings_empty: "没有符合的项。",
  origin_default: "默认",
  detail: "会话", close: "关闭", id: "编号", username: "用户名", server: "服务器", expires: "剩余时间",
  permissions: "许可", channels: "信道", peer: "对端", number: "编号", none: "无",
  traffic: "流量", gone: "该会话已结束。", detail_fault: "无法显示该会话:{reason}", copy: "复制编号", copied: "已复制。",
  ask_kick: "结束这个会话?", ask_kick_text: "{user}({client})将立即失去中继。凭据仍有效的客户端可以重新连接。",
  kick_all: "断开该用户的全部会话", ask_kick_all: "结束该用户的所有会话?",
  ask_kick_all_text: "{user} 的所有会话将立即失去中继。凭据仍有效的客户端可以重新连接。",
  revoke: "吊销用户", ask_revoke: "吊销这个用户?",
  ask_revoke_text: "{user} 的所有会话立即结束,其凭据不再被接受,也不再签发。可用 `turnpike revoke --undo` 撤销。",
  ask_drain: "停止接受新的分配?", ask_drain_text: "现有会话继续,拒绝新的分配,就绪检查失败;最后一个会话结束时服务器退出。在此之前可以恢复。",
  ask_resume: "重新接受新的分配?", ask_resume_text: "客户端可以立即重新分配。",
  ask_reload: "重新读取配置?", ask_reload_text: "运行中可更改的项立即生效;会话继续。若文件有误,则不做任何更改。",
  did_kick: "已结束 {user} 的会话。", did_gone: "该会话此前已结束。", did_kick_all: "已结束 {user} 的 {n} 个会话。",
  did_revoke: "已吊销 {user},结束了 {n} 个会话。", did_revoke_memory: "已吊销 {user}(服务器退出前有效),结束了 {n} 个会话。",
  did_drain: "排空中:拒绝新的分配。", did_resume: "已重新接受新的分配。",
  did_reload: "已生效:{keys}。", did_reload_none: "已读取;没有变化。", did_restart: "需要重启:{keys}。",
  failed: "未执行:{reason}", unreachable: "服务器没有应答",
  enter_title: "此控制台需要管理令牌", token: "令牌", enter: "进入",
  enter_text: "令牌在 http.admin_token_file 指定的文件中。它只保留在此标签页,关闭后即清除。",
};

/** The words of each language. */
export const WORDS = { en: EN, zh: ZH };

/** `en` or `zh`. */
export const language = chooseLanguage();

function chooseLanguage() {
  const wanted = [new URLSearchParams(globalThis.location?.search ?? "").get("lang"), ...(globalThis.navigator?.languages ?? [])];
  for (const tag of wanted) {
    const known = Object.keys(WORDS).find((name) => tag?.toLowerCase().split("-")[0] === name);
    if (known) return known;
  }
  return "en";
}

/** Says something, with `{names}` filled in. */
export function say(key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** Says everything that the page's markup marks with `data-word`, `data-word-label` and `data-word-placeholder`. */
export function sayPage(page) {
  page.documentElement.lang = language;
  for (const node of page.querySelectorAll("[data-word]")) node.textContent = say(node.dataset.word);
  for (const node of page.querySelectorAll("[data-word-label]")) node.setAttribute("aria-label", say(node.dataset.wordLabel));
  for (const node of page.querySelectorAll("[data-word-placeholder]")) node.placeholder = say(node.dataset.wordPlaceholder);
}
