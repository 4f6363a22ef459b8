// The landing page: a name for the room, and the rooms of before.

import { $, element, told } from "./page.js";
import { localized, t, translatePage } from "./i18n.js";
import { isGoodName, randomName, recentRooms } from "./rooms.js";

const roomUrl = (name) => localized(`/r/${encodeURIComponent(name)}`);

/** Says at every key whether the name will do. */
function judge() {
  const good = isGoodName($("room").value);
  $("go").disabled = !good;
  $("room").setAttribute("aria-invalid", String(!good));
  $("room-hint").textContent = good ? "" : t("room_hint");
  $("room-hint").classList.toggle("bad", !good && $("room").value !== "");
}

function propose() {
  $("room").value = randomName();
  judge();
}

function showRecent() {
  const names = recentRooms();
  $("recent").hidden = names.length === 0;
  for (const name of names) {
    const link = element("a", "", name);
    link.href = roomUrl(name);
    const item = element("li");
    item.append(link);
    $("recent-list").append(item);
  }
}

translatePage();
if (told().rooms === false) {
  $("rooms-off").hidden = false;
  $("join").hidden = true;
} else {
  propose();
  showRecent();
  $("room").addEventListener("input", judge);
  $("random").addEventListener("click", propose);
  $("join").addEventListener("submit", (event) => {
    event.preventDefault();
    if (isGoodName($("room").value)) location.assign(roomUrl($("room").value));
  });
}
