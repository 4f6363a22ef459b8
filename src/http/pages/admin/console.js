// The console: one stream of events, handed to what shows it.

import { hasToken, whenLocked } from "./api.js";
import { Counters, Rooms } from "./counters.js";
import { byId, setText } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Feed } from "./feed.js";
import { Sessions } from "./sessions.js";
import { Settings } from "./settings.js";
import { askToken, drain, kick, kickAll, reload, revoke, toast, wireDialogs } from "./steer.js";
import { Stream } from "./stream.js";
import { Link, Totals } from "./totals.js";
import { say, sayPage } from "./words.js";

sayPage(document);
wireDialogs();

const totals = new Totals();
const link = new Link();
const counters = new Counters();
const rooms = new Rooms();
const settings = new Settings();
const sessions = new Sessions((session) => drawer.open(session), kick);
const drawer = new Drawer((id) => sessions.history(id), { kick, kickAll, revoke, toast });
const feed = new Feed((user) => sessions.filter(user));

let draining = false;
let wasLive = false;
let version = null;

const takers = {
  status(now, visible) {
    // Another version of the server has another version of this page.
    version ??= now.version;
    if (version !== now.version) location.reload();
    totals.take(now, visible);
    draining = now.draining;
    if (!visible) return;
    setText(byId("drain"), say(draining ? "resume" : "drain"));
    // A server that was told to end by a signal does not come back.
    byId("drain").disabled = now.drain?.final === true;
    counters.take(now);
    rooms.take(now);
    feed.lost(now.notices_lost);
  },
  sessions(live, visible) {
    sessions.take(live, visible);
    drawer.take(live.sessions);
  },
  notice: (notice) => feed.take(notice),
};

const stream = new Stream(
  "events",
  (name, document_) => takers[name]?.(document_, !document.hidden),
  (state) => {
    link.take(state);
    const live = state.link === "live";
    if (live && !wasLive) feed.restart();
    wasLive = live;
  },
);

whenLocked((fault) => askToken(hasToken() ? fault.message : "", () => stream.start()));
byId("drain").addEventListener("click", () => drain(draining));
byId("reload").addEventListener("click", async () => (await reload()) && settings.refresh());
stream.start();
