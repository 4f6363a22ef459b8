// The call page: from the preview through the call to the last word.

import { $, copyText, told } from "./page.js";
import { Chat } from "./chat.js";
import { Controls } from "./controls.js";
import { Devices } from "./devices.js";
import { Statistics } from "./statistics.js";
import { Loopback } from "./loopback.js";
import { Media } from "./media.js";
import { Session } from "./session.js";
import { RoomFull } from "./signalling.js";
import { clearNotices, notice, passing, status } from "./say.js";
import { isRandomName, noteSeat, rememberRoom } from "./rooms.js";
import { t, translatePage } from "./i18n.js";

const COPIED_MS = 2_000;

const params = told();
const room = params.room_id ?? decodeURIComponent(location.pathname.split("/").pop());
const isLoopback = new URLSearchParams(location.search).get("debug") === "loopback";

const state = () => document.body.dataset.state;
let session;
let awake;

const media = new Media(() => mediaChanged());
const chat = new Chat((far) => showFar(far));
const statistics = new Statistics(() => session?.watched ?? session?.peer, versionRow());
const devices = new Devices(media);
const controls = new Controls({
  media,
  state,
  on: {
    hangUp: () => leave(),
    statistics: (open) => { statistics.toggle(open); if (statistics.isOpen) chat.toggle(false); },
    chat: (open) => { chat.toggle(open); if (chat.isOpen) statistics.toggle(false); },
    devices: () => devices.open(),
    screenFailed: (error) => notice(t("screen_failed", { why: error.message })),
  },
});

/** lobby → joining → waiting ⇄ call → left. */
function enterState(next) {
  document.body.dataset.state = next;
  controls.wake();
}

function versionRow() {
  try {
    const version = JSON.parse(params.version_info ?? "null");
    return version ? [["stat_version", version.version ?? version.gitHash ?? ""]] : [];
  } catch {
    return [];
  }
}

// What is seen of this side and of the other.

function mediaChanged() {
  const shown = media.videoTrack;
  const local = $("local");
  if (local.srcObject?.getVideoTracks()[0] !== shown) local.srcObject = shown ? new MediaStream([shown]) : null;
  const facing = media.cameraTrack?.getSettings?.().facingMode;
  $("near").classList.toggle("mirrored", !media.screen && facing !== "environment");
  $("near").classList.toggle("shared", Boolean(media.screen));
  $("near-off").hidden = Boolean(media.screen) || (Boolean(media.cameraTrack) && media.cameraOn);
  controls.refresh();
  session?.refreshTracks();
  chat.tell({ mic: media.micOn && Boolean(media.audioTrack), camera: Boolean(media.screen) || (media.cameraOn && Boolean(media.cameraTrack)) });
}

let far = { mic: true, camera: true };

function showFar(told = far) {
  far = told;
  const picture = $("remote").srcObject?.getVideoTracks().some((track) => !track.muted);
  $("far-off").hidden = state() !== "call" || (Boolean(picture) && far.camera);
  $("far-muted").hidden = state() !== "call" || far.mic;
}

function showTrack(stream) {
  const remote = $("remote");
  if (remote.srcObject !== stream) {
    remote.srcObject = stream;
    remote.play().catch((error) => {
      if (error.name === "NotAllowedError") notice(t("sound_blocked"), { label: t("sound_on"), run: () => remote.play() });
    });
  }
  showFar();
}

// The stay in the room.

const events = {
  waiting(afterCall) {
    enterState("waiting");
    $("waiting-text").textContent = t("waiting_title");
    $("remote").srcObject = null;
    far = { mic: true, camera: true };
    showFar();
    chat.use(undefined);
    status("");
    if (afterCall) passing(t("remote_left"));
  },
  connecting() { status(t("connecting")); },
  state(connection) {
    if (connection === "connected") {
      enterState("call");
      status(isLoopback ? t("loopback_runs") : "");
      if (!isLoopback) passing(t("connected"));
      showFar();
      keepAwake();
    } else if (connection === "connecting" && state() !== "call") {
      status(t("connecting"));
    } else if (connection === "disconnected" || connection === "failed") {
      status(t("media_lost"));
    }
  },
  track: showTrack,
  channel: (channel) => chat.use(channel),
  notice(key, values) {
    if (key === "rejoining") status(t(key));
    else notice(t(key, values));
  },
  socket(isOpen) {
    if (isOpen) {
      status("");
      passing(t("socket_back"));
    } else {
      status(t("socket_lost"));
    }
  },
  failed(error) { ended(t("failed_title"), error); },
};

async function enter() {
  if (session) return;
  enterState("joining");
  status(t("joining"));
  $("enter").disabled = true;
  const Stay = isLoopback ? Loopback : Session;
  session = new Stay({ room, search: location.search, params, media, on: events });
  try {
    await session.start();
    if (!isLoopback) rememberRoom(room);
  } catch (error) {
    events.failed(error);
  }
}

function ended(title, error) {
  session?.leaveAtOnce();
  session = undefined;
  if (error instanceof RoomFull) {
    // The server says it with the page for full rooms.
    location.reload();
    return;
  }
  status("");
  statistics.toggle(false);
  chat.toggle(false);
  $("ended-title").textContent = title;
  $("ended-lead").textContent = error ? t("join_failed", { why: error.message }) : "";
  $("ended-lead").hidden = !error;
  $("remote").srcObject = null;
  enterState("left");
  $("far-off").hidden = true;
  $("rejoin").focus();
  awake?.release().catch(() => undefined);
}

async function leave() {
  const leaving = session;
  session = undefined;
  // A browser in full screen would keep the last word from the address bar.
  if (document.fullscreenElement) document.exitFullscreen();
  media.close();
  ended(t("left_title"));
  await leaving?.leave();
}

/** The screen of a phone stays on during a call. */
async function keepAwake() {
  try {
    awake = await navigator.wakeLock?.request("screen");
  } catch {
    // A browser that saves power keeps its right to.
  }
}

/** The address of this room without what is only this person's. */
function shareLink() {
  const url = new URL(location.href);
  url.searchParams.delete("lang");
  return url.href;
}

async function copyLink() {
  $("link").select();
  if (!(await copyText($("link").value))) return;
  $("copy").textContent = t("copied");
  passing(t("copied"));
  setTimeout(() => { $("copy").textContent = t("copy"); }, COPIED_MS);
}

function wanted(kind) {
  try {
    return JSON.parse(params.media_constraints ?? "{}")[kind] ?? true;
  } catch {
    return true;
  }
}

async function begin() {
  translatePage();
  document.title = t("call_title", { room });
  const plain = isRandomName(room) ? t("ready") : t("ready_room", { room });
  $("lobby-title").textContent = isLoopback ? t("ready_loopback") : plain;
  $("lobby-lead").textContent = t("lobby_asking");
  $("link").value = shareLink();
  $("copy").addEventListener("click", copyLink);
  $("link").addEventListener("focus", () => $("link").select());
  $("enter").addEventListener("click", () => {
    // Whoever goes in has read what was said before.
    clearNotices();
    enter();
  });
  $("rejoin").addEventListener("click", () => location.reload());
  window.addEventListener("pagehide", () => {
    if (!session) return;
    session.leaveAtOnce();
    noteSeat(room);
  });
  window.addEventListener("pageshow", ({ persisted }) => { if (persisted) location.reload(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && state() === "call") keepAwake(); });
  if (params.header_message) notice(params.header_message);
  for (const text of [...(params.error_messages ?? []), ...(params.warning_messages ?? [])]) notice(text);

  // The button works at once: nobody has to answer the browser's question first.
  $("enter").disabled = false;
  $("enter").focus();
  mediaChanged();
  const missing = await media.open({ audio: wanted("audio"), video: wanted("video") });
  if (missing) notice(t(missing));
  const nothing = !media.audioTrack && !media.videoTrack;
  $("lobby-lead").textContent = t(isLoopback ? "loopback_lead" : nothing ? "lobby_none" : "lobby_lead");
  await devices.applySpeaker();
  if (params.bypass_join_confirmation === "true") enter();
}

begin();
