// Numbers and times as people read them, in the page's language.

import { language } from "./words.js";

const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const clockForm = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayForm = new Intl.DateTimeFormat(language, { year: "numeric", month: "short", day: "numeric" });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Three significant digits, and a unit of a thousandfold scale. */
function scaled(value, units) {
  let step = 0;
  while (value >= 999.5 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  const digits = step === 0 ? (value > 0 && value < 10 && !Number.isInteger(value) ? 1 : 0) : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${units[step]}`.trimEnd();
}

/** `12,345`. */
export const count = (value) => (isNumber(value) ? whole.format(value) : "–");

/** `12.3 k`: for places where a long number does not fit. */
export const brief = (value) => (isNumber(value) ? (value < 10_000 ? whole.format(value) : scaled(value, ["", "k", "M", "G", "T"])) : "–");

/** Bytes: `1.23 MB`, of a thousand each. */
export const bytes = (value) => (isNumber(value) ? scaled(value, ["B", "kB", "MB", "GB", "TB", "PB"]) : "–");

/** Bits a second from bytes a second: `1.23 Mbit/s`. */
export const bits = (bytesPerS) => (isNumber(bytesPerS) ? scaled(bytesPerS * 8, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]) : "–");

/** Something a second: `1.23 k/s`. */
export const perSecond = (value) => (isNumber(value) ? `${scaled(value, ["", "k", "M"])}/s` : "–");

/** Seconds in their two largest units: `3 h 4 m`. */
export function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  const s = Math.max(0, Math.floor(seconds));
  const parts = [[Math.floor(s / 86_400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "m"], [s % 60, "s"]];
  const first = parts.findIndex(([number]) => number > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).filter(([number], place) => place === 0 || number > 0).map(([number, unit]) => `${number} ${unit}`).join(" ");
}

/** A time of day from seconds since 1970: `17:02:11`. */
export const clock = (unixS) => (isNumber(unixS) ? clockForm.format(new Date(unixS * 1000)) : "–");

/** A day from seconds since 1970. */
export const day = (unixS) => (isNumber(unixS) ? dayForm.format(new Date(unixS * 1000)) : "–");
