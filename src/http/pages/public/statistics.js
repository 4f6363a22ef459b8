// The drawer of live statistics: once a second while it is open.

import { $, element, showDrawer } from "./page.js";
import { describe } from "./stats.js";
import { t } from "./i18n.js";

const PERIOD_MS = 1_000;

export class Statistics {
  /** `peer()` gives the connection in use, if there is one; `extra` are rows of the page's own. */
  constructor(peer, extra = []) {
    Object.assign(this, { peer, extra });
    this.before = undefined;
  }

  get isOpen() { return !$("statistics").hidden; }

  toggle(open = !this.isOpen) {
    showDrawer($("statistics"), $("statistics-open"), open);
    clearInterval(this.timer);
    if (!open) return;
    this.timer = setInterval(() => this.#show(), PERIOD_MS);
    this.#show();
  }

  async #show() {
    const peer = this.peer();
    const report = peer && (await peer.pc.getStats().catch(() => undefined));
    if (!this.isOpen) return;
    const sections = report ? describe(report, this.before, peer, performance.now()) : [[t("stat_connection"), [["stat_state", t("stat_none")]]]];
    if (this.extra.length > 0) sections[0][1].push(...this.extra);
    this.before = report;
    this.#fill(sections);
  }

  /** Rows stay where they are while only values change, so that a reader's place is kept. */
  #fill(sections) {
    const shape = JSON.stringify(sections.map(([title, rows]) => [title, rows.map(([label]) => label)]));
    if (shape !== this.shape) {
      this.shape = shape;
      this.values = [];
      $("statistics-body").replaceChildren(...sections.flatMap(([title, rows]) => [element("h3", "", title), this.#list(rows)]));
    }
    sections.flatMap(([, rows]) => rows).forEach(([, value], at) => {
      if (this.values[at].textContent !== String(value)) this.values[at].textContent = value;
    });
  }

  #list(rows) {
    const list = element("dl");
    for (const [label] of rows) {
      const value = element("dd");
      this.values.push(value);
      list.append(element("dt", "", t(label)), value);
    }
    return list;
  }
}
