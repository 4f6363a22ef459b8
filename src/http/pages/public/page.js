// Small things every page needs.

/** The element of that id. */
export const $ = (id) => document.getElementById(id);

/** What the server told this page. */
export function told() {
  return JSON.parse($("loading-params").textContent) ?? {};
}

/** An element with a class and text; text from elsewhere is never markup. */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** An icon of the sprite. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `/assets/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** An address as URLs have it: some browsers put IPv6 into brackets themselves, some do not. */
export const hostOf = (address) => (address.includes(":") && !address.startsWith("[") ? `[${address}]` : address);

/** Copies text; plain HTTP pages have no clipboard API, so those go through a selection. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea");
    area.value = text;
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

/** Opens or closes a drawer; a focus that would be lost in it goes back to its button. */
export function showDrawer(drawer, opener, open) {
  if (!open && drawer.contains(document.activeElement)) opener.focus();
  drawer.hidden = !open;
  opener.setAttribute("aria-expanded", String(open));
}

/** Resolves after that long. */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The words of an answer that is not 200: the server's own where it gave some. */
export async function refusal(answer) {
  const problem = await answer.json().catch(() => undefined);
  return problem?.detail ?? `${answer.status} ${answer.statusText}`.trim();
}
