// What changes the server: each asks first, and tells what came of it.

import { send, setToken } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { say } from "./words.js";

const TOAST_MS = 8_000;

/** Shows a line for a while, which screen readers read out. */
export function toast(text, bad = false) {
  const line = el("p", { class: bad ? "toast bad" : "toast" }, text);
  byId("toasts").append(line);
  setTimeout(() => line.remove(), TOAST_MS);
}

/** Asks with a dialog; resolves to whether the answer was yes. */
function confirmed(title, text, yes, danger) {
  const dialog = byId("ask");
  setText(byId("ask-title"), title);
  setText(byId("ask-text"), text);
  setText(byId("ask-yes"), yes);
  byId("ask-yes").classList.toggle("danger", danger);
  dialog.returnValue = "";
  dialog.showModal();
  // The harmless answer has the focus.
  byId("ask-no").focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

/** Does something, and says why when it could not be done. */
async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    toast(say("failed", { reason: error.status ? error.message : say("unreachable") }), true);
    return undefined;
  }
}

/** Ends a session. */
export async function kick(session) {
  const user = session.user || session.username || session.id;
  if (!(await confirmed(say("ask_kick"), say("ask_kick_text", { user, client: session.client }), say("kick"), true))) return;
  await attempt(async () => {
    try {
      await send("DELETE", `sessions/${encodeURIComponent(session.id)}`);
      toast(say("did_kick", { user }));
    } catch (error) {
      if (error.status !== 404) throw error;
      toast(say("did_gone"));
    }
  });
}

/** Ends every session of a user. */
export async function kickAll({ user }) {
  if (!(await confirmed(say("ask_kick_all"), say("ask_kick_all_text", { user }), say("kick_all"), true))) return;
  await attempt(async () => {
    const { closed } = await send("DELETE", `sessions?${new URLSearchParams({ user })}`);
    toast(say("did_kick_all", { user, n: closed }));
  });
}

/** Revokes a user: ends every session and takes none of the credentials any more. One without an id is revoked by name. */
export async function revoke(session) {
  const user = session.user.startsWith("ip ") ? session.username : session.user;
  if (!(await confirmed(say("ask_revoke"), say("ask_revoke_text", { user }), say("revoke"), true))) return;
  await attempt(async () => {
    const { sessions_ended: n, kept } = await send("POST", "revocations", { id: user });
    toast(say(kept === "file" ? "did_revoke" : "did_revoke_memory", { user, n }));
  });
}

/** Drains, or takes allocations again. */
export async function drain(draining) {
  const words = draining ? ["ask_resume", "ask_resume_text", "resume"] : ["ask_drain", "ask_drain_text", "drain"];
  if (!(await confirmed(...words.map((word) => say(word)), !draining))) return;
  await attempt(async () => {
    await send(draining ? "DELETE" : "POST", "drain");
    toast(say(draining ? "did_resume" : "did_drain"));
  });
}

/** Reads the configuration again; resolves to whether it was read. */
export async function reload() {
  if (!(await confirmed(say("ask_reload"), say("ask_reload_text"), say("reload"), false))) return false;
  const done = await attempt(async () => {
    const { applied = [], needs_restart: later = [] } = (await send("POST", "reload")) ?? {};
    toast(applied.length > 0 ? say("did_reload", { keys: applied.join(", ") }) : say("did_reload_none"));
    if (later.length > 0) toast(say("did_restart", { keys: later.join(", ") }), true);
    return true;
  });
  return done === true;
}

/** Asks for the token, once however many requests were refused; `entered` is called with it kept. */
export function askToken(fault, entered) {
  const dialog = byId("enter");
  setText(byId("enter-fault"), fault);
  if (dialog.open) return;
  byId("enter-token").value = "";
  byId("enter-form").onsubmit = (event) => {
    event.preventDefault();
    const token = byId("enter-token").value.trim();
    if (token === "") return;
    setToken(token);
    dialog.close();
    entered();
  };
  // There is nothing behind it to go back to.
  dialog.oncancel = (event) => event.preventDefault();
  dialog.showModal();
}

/** Wires the dialog that asks. The page's policy lets no form be sent, so the answer is taken here. */
export function wireDialogs() {
  const dialog = byId("ask");
  byId("ask-no").addEventListener("click", () => dialog.close("no"));
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close("yes");
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close("no"));
}
