// The page of a room that is full; a tab that was in it a moment ago finds its own seat still taken, and asks again.

import { $ } from "./page.js";
import { t, translatePage } from "./i18n.js";
import { justLeft } from "./rooms.js";

const AGAIN_MS = 400;

translatePage();
if (justLeft(location.pathname.split("/").pop())) {
  $("heading").textContent = t("rejoining");
  $("words").hidden = true;
  setTimeout(() => location.reload(), AGAIN_MS);
}
$("again").addEventListener("click", (event) => {
  event.preventDefault();
  location.reload();
});
