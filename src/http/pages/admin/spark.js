// Sparklines: a line of the last values, drawn as one SVG path that takes its colour from the page.

import { setAttribute, svg } from "./dom.js";

/** The last values of one number, oldest first; null where nothing was heard. */
export class Series {
  /** Keeps `length` values; a drawing of them begins with room for `span` and grows. */
  constructor(length, span = length) {
    this.length = length;
    this.minimum = span;
    this.values = [];
  }

  /** Adds the newest value. */
  push(value) {
    this.values.push(Number.isFinite(value) ? value : null);
    if (this.values.length > this.length) this.values.shift();
  }

  /** How many values a drawing has room for. */
  get span() {
    return Math.max(this.minimum, this.values.length);
  }

  /** The largest value kept, at least 0. */
  peak() {
    return this.values.reduce((most, value) => Math.max(most, value ?? 0), 0);
  }

  /** The mean of the newest `span` values. */
  mean(span) {
    const known = this.values.slice(-span).filter((value) => value !== null);
    return known.length === 0 ? 0 : known.reduce((sum, value) => sum + value, 0) / known.length;
  }
}

/** A sparkline of `width` by `height` units; the page stretches it. */
export class Spark {
  constructor(width, height, kind = "") {
    this.width = width;
    this.height = height;
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line", "vector-effect": "non-scaling-stroke" });
    this.node = svg("svg", {
      class: `spark ${kind}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true",
    }, this.area, this.line);
  }

  /** Draws a series on a scale from 0 to `top`, or to its own peak; the newest value is at the right edge. */
  draw(series, top = series.peak()) {
    const { line, area } = outline(series.values, series.span, this.width, this.height, top);
    setAttribute(this.line, "d", line);
    setAttribute(this.area, "d", area);
  }
}

/** The paths of a line and of what lies below it. */
export function outline(values, span, width, height, top) {
  const step = width / Math.max(1, span - 1);
  const offset = span - values.length;
  // One unit of air above and below keeps the stroke inside the picture.
  const y = (value) => (height - 1 - (top > 0 ? value / top : 0) * (height - 2)).toFixed(1);
  let line = "";
  let area = "";
  let from = null;
  for (let place = 0; place <= values.length; place += 1) {
    const value = values[place] ?? null;
    const x = ((place + offset) * step).toFixed(1);
    if (value === null) {
      if (from !== null) area += `L${((place + offset - 1) * step).toFixed(1)} ${height}L${from} ${height}Z`;
      from = null;
    } else {
      const pen = from === null ? "M" : "L";
      from ??= x;
      line += `${pen}${x} ${y(value)}`;
      area += `${pen}${x} ${y(value)}`;
    }
  }
  return { line, area };
}
