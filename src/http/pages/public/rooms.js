// Names of rooms, and those this browser was in.

const RECENT_KEY = "recentRooms";
const RECENT_MAX = 10;
const RANDOM_DIGITS = 9;
const SEAT_KEY = "seat";
/** How long a seat that this tab just left may still look taken. */
const SEAT_LINGERS_MS = 5_000;
const NAME = /^[a-zA-Z0-9_-]{5,64}$/;

/** Whether a name is good for a new room: nobody shall meet a stranger in it by chance. */
export const isGoodName = (name) => NAME.test(name);

/** Nine random digits. */
export function randomName() {
  const digits = crypto.getRandomValues(new Uint32Array(RANDOM_DIGITS));
  return Array.from(digits, (digit) => digit % 10).join("");
}

/** Whether a name was made by `randomName`: saying it to a person is no use. */
export const isRandomName = (name) => /^\d{9}$/.test(name);

/** Rooms this browser was in, the last first. */
export function recentRooms() {
  try {
    const kept = JSON.parse(localStorage.getItem(RECENT_KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((name) => /^[a-zA-Z0-9_-]{1,64}$/.test(name)).slice(0, RECENT_MAX) : [];
  } catch {
    return [];
  }
}

/** Puts a room in front of the recent ones. */
export function rememberRoom(name) {
  try {
    const names = [name, ...recentRooms().filter((known) => known !== name)];
    localStorage.setItem(RECENT_KEY, JSON.stringify(names.slice(0, RECENT_MAX)));
  } catch {
    // A browser that keeps nothing has no recent rooms.
  }
}

/** Notes that this tab leaves its seat now: a page that is loaded again is asked for before it is left. */
export function noteSeat(name) {
  try {
    sessionStorage.setItem(SEAT_KEY, JSON.stringify({ name, left: Date.now() }));
  } catch {
    // Without it a page that is loaded again may say that the room is full.
  }
}

/** Whether the seat that looks taken may be the one this tab just left. */
export function justLeft(name) {
  try {
    const seat = JSON.parse(sessionStorage.getItem(SEAT_KEY) ?? "null");
    return seat?.name === name && Date.now() - seat.left < SEAT_LINGERS_MS;
  } catch {
    return false;
  }
}
