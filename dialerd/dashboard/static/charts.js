// Lines over time, by uPlot. A chart repeats in a picture what the tables beside it say in numbers.

import uPlot from "/dashboard/vendor/uplot/uPlot.esm.js";
import { element, fill, heading } from "/dashboard/dom.js";
import { clock } from "/dashboard/format.js";

const HEIGHT = 220;
const COLOURS = 6;
const LEAST_SECONDS = 60; // of the axis: its labels tell whole seconds
const at = (seconds) => clock(seconds * 1000);
const DARK = matchMedia("(prefers-color-scheme: dark)");

// unit: a value in words. show(series, times, columns): names, seconds, and a column of values per name.
export class Chart {
  constructor(title, unit, signal) {
    this.unit = unit;
    this.canvas = element("div", { role: "img", "aria-label": title });
    this.title = title;
    this.place = element("div", { class: "chart" }, heading(title, 3), this.canvas);
    this.plot = null;
    this.names = "";
    this.resized = new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height: HEIGHT }));
    this.resized.observe(this.canvas);
    DARK.addEventListener("change", () => this.remake(), { signal });
    signal.addEventListener("abort", () => { this.resized.disconnect(); this.plot?.destroy(); this.plot = null; });
  }

  width() {
    return Math.max(this.canvas.clientWidth, 160);
  }

  show(series, times, columns) {
    this.last = [series, times, columns];
    const names = JSON.stringify(series);
    if (this.plot === null || names !== this.names) this.make(series);
    this.names = names;
    this.plot.setData([times, ...columns]);
    this.tellLast();
    // A plot that was made just now takes its data a moment later.
    queueMicrotask(() => this.tellLast());
    const now = series.map((name, index) => `${name} ${this.unit(columns[index].at(-1) ?? null)}`);
    this.canvas.setAttribute("aria-label", `${this.title}, now: ${now.join(", ")}`);
  }

  // Where nobody points at a moment, the legend tells the last one.
  tellLast() {
    if (this.plot !== null && !(this.plot.cursor.left >= 0)) this.plot.setLegend({ idx: this.last[1].length - 1 }, false);
  }

  remake() {
    if (this.plot === null) return;
    this.names = "";
    this.show(...this.last);
  }

  make(series) {
    this.plot?.destroy();
    fill(this.canvas);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
    this.plot = new uPlot({
      width: this.width(),
      height: HEIGHT,
      cursor: { drag: { x: false, y: false } },
      scales: {
        x: { range: (_plot, low, high) => (high === null || high === undefined ? [0, LEAST_SECONDS] : [Math.min(low, high - LEAST_SECONDS), high]) },
        y: { range: (_plot, _low, high) => [0, Math.max(high ?? 0, 0) * 1.1 || 1] },
      },
      axes: [{ ...axis, space: 80, values: (_plot, ticks) => ticks.map(at) }, { ...axis, size: 56, values: (_plot, ticks) => ticks.map(this.unit) }],
      series: [
        { label: "Time", value: (_plot, value) => (value === null || value === undefined ? "–" : at(value)) },
        ...series.map((label, index) => ({
          label,
          stroke: colour(`series-${(index % COLOURS) + 1}`),
          width: 2,
          dash: index >= COLOURS ? [6, 4] : undefined,
          value: (_plot, value) => (value === null || value === undefined ? "–" : this.unit(value)),
        })),
      ],
    }, [[], ...series.map(() => [])], this.canvas);
  }
}
