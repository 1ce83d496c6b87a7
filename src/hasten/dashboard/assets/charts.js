// Charts over time, drawn by uPlot: lines or a stack, a limit, the window that the figures are of, and all of it as a table.
import { clock, colour, el, make, onTheme } from "./hasten.js";

const all = new Set();
const ROWS = 12;  // of a chart shown as a table
let asTables = false;

/** Show all charts as tables, or as charts again. */
export function showTables(wanted) {
  asTables = wanted;
  for (const chart of all) chart.draw();
}

onTheme(() => { for (const chart of all) chart.rebuild(); });

/**
 * One chart. `series`: `{name, colour, width, dash, fill}`, colours as names of the style sheet's; `format`: of a value, `tell`: in texts and tables;
 * `stacked`: the values add up, the first one at the bottom; `height`: pixels; `none`: said while there is no value.
 */
export class Chart {
  constructor(figure, { name, series, format, tell = format, stacked = false, height = 150, none = "nothing yet", top = null }) {
    Object.assign(this, { figure, name, series, format, tell, stacked, height, none, top });
    this.t = [];
    this.columns = [];
    this.limit = null;
    this.window = 0;
    this.plot = el("div", "plot");
    this.plot.setAttribute("role", "img");
    this.table = el("div", "numbers");
    this.readout = el("figcaption", "readout");
    figure.replaceChildren(this.readout, this.plot, this.table);
    this.u = null;
    new ResizeObserver(() => this.resize()).observe(figure);
    all.add(this);
  }

  /** Show other values. `columns`: one a series; `limit`: a value not to be passed; `window`: seconds of the figures beside it. */
  update(t, columns, { limit = null, window = 0, series = this.series } = {}) {
    const last = `${t[0]} ${t.at(-1)} ${t.length} ${limit} ${window} ${series.map(s => s.name)}`;
    if (last === this.drawn) return;
    this.drawn = last;
    const same = this.u && series.map(s => s.name).join() === this.series.map(s => s.name).join();
    Object.assign(this, { t, columns, limit, window, series });
    if (same) this.draw();
    else this.rebuild();
  }

  /** The columns as they are drawn: of a stack the sums, the highest first, as each is painted over the one before. */
  data() {
    if (!this.stacked) return [this.t, ...this.columns];
    const sums = [];
    let below = this.t.map(() => 0);
    for (const column of this.columns) {
      below = column.map((value, i) => value === null || below[i] === null ? null : below[i] + value);
      sums.unshift(below);
    }
    return [this.t, ...sums];
  }

  rebuild() {
    this.u?.destroy();
    this.u = null;
    this.draw();
  }

  draw() {
    const empty = !this.columns.some(column => column.some(value => value !== null));
    this.plot.hidden = asTables && !empty;
    this.table.hidden = !asTables || empty;
    this.readout.hidden = asTables;
    this.plot.classList.toggle("empty", empty);
    this.plot.dataset.none = empty ? this.none : "";
    this.plot.setAttribute("aria-label", this.summary(empty));
    if (asTables && !empty) this.drawTable();
    else if (empty) {
      this.u?.destroy();
      this.u = null;
    } else if (this.u) this.u.setData(this.data());
    else if (this.figure.clientWidth) {
      this.u = new uPlot(this.options(), this.data(), this.plot);
    }
    this.say(null);
  }

  resize() {
    const width = this.figure.clientWidth;
    if (!this.u) this.draw();
    else if (width && width !== this.u.width) this.u.setSize({ width, height: this.height });
  }

  options() {
    const soft = colour("--soft"), line = colour("--line"), card = colour("--card");
    const shown = this.stacked ? [...this.series].reverse() : this.series;
    const series = shown.map(({ colour: name, width = 1.5, dash, fill }) => this.stacked
      ? { stroke: colour(name), width: fill ? 1.5 : 0, fill: fill ? `color-mix(in srgb, ${colour(name)} 30%, ${card})` : colour(name), points: { show: false } }
      : { stroke: colour(name), width, dash, fill: fill ? `color-mix(in srgb, ${colour(name)} 16%, transparent)` : undefined, points: { show: false } });
    const axis = { stroke: soft, font: '11px system-ui, sans-serif', ticks: { show: false }, border: { show: false } };
    return {
      width: this.figure.clientWidth, height: this.height, padding: [10, 18, 0, 0], legend: { show: false },
      cursor: { y: false, sync: { key: "hasten" }, drag: { x: false, y: false }, points: this.stacked ? { show: false } : { size: 7 } },
      scales: {
        x: { range: (u, low, high) => [Math.min(low, high - 60), high] },
        y: { range: (u, low, high) => [0, this.high(high)] },
      },
      series: [{}, ...series],
      axes: [
        { ...axis, size: 24, space: (u, which, low, high) => high - low < 300 ? 72 : 46, grid: { show: false }, values: (u, at, which, space, step) => at.map(t => clock(1e3 * t).slice(0, step < 60 ? 8 : 5)) },
        { ...axis, size: 54, gap: 6, space: 34, grid: { stroke: line, width: 1 }, values: (u, at) => at.map(value => this.format(value)) },
      ],
      hooks: {
        drawClear: [u => this.shade(u)],
        draw: [u => this.drawLimit(u)],
        setCursor: [u => this.say(u.cursor.idx ?? null)],
      },
    };
  }

  high(highest) {
    if (this.top !== null) return this.top;
    const near = this.limit !== null && this.limit < 4 * highest ? this.limit : 0;
    return (Math.max(highest ?? 0, near) || 0.01) * 1.12;  // of nothing but zeros: a scale that can be read
  }

  /** Mark the window that the figures are of. */
  shade(u) {
    const end = this.t.at(-1), start = Math.max(end - this.window, u.scales.x.min);
    if (!this.window || start <= u.scales.x.min) return;
    const left = u.valToPos(start, "x", true), right = u.valToPos(end, "x", true);
    u.ctx.fillStyle = colour("--shade");
    u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
  }

  drawLimit(u) {
    if (this.limit === null || this.limit > u.scales.y.max) return;
    const { ctx, bbox } = u, at = Math.round(u.valToPos(this.limit, "y", true)), px = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = colour("--bad");
    ctx.lineWidth = px;
    ctx.setLineDash([4 * px, 4 * px]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, at);
    ctx.lineTo(bbox.left + bbox.width, at);
    ctx.stroke();
    ctx.restore();
  }

  /** Say the values under the pointer, or of what time the chart is. */
  say(at) {
    if (at === null || this.t[at] === undefined) {
      const span = this.t.length ? this.t.at(-1) - this.t[0] : 0;
      this.readout.textContent = span < 60 ? "" : `last ${Math.round(span / 60)} min`;
      if (this.limit !== null) this.readout.prepend(el("span", "limit", `limit ${this.format(this.limit)}`));
      return;
    }
    const parts = this.series.map(({ name }, i) => [name, this.columns[i][at]]).filter(([, value]) => value !== null && value !== undefined);
    const said = this.stacked ? parts.reverse().sort((a, b) => b[1] - a[1]).slice(0, 4) : parts;
    this.readout.textContent = `${clock(1e3 * this.t[at])} · ${said.map(([name, value]) => `${name} ${this.tell(value)}`).join(" · ")}`;
  }

  summary(empty) {
    if (empty) return `${this.name}: ${this.none}`;
    const said = this.series.map(({ name }, i) => {
      const values = this.columns[i].filter(value => value !== null);
      if (!values.length) return "";
      return `${name} ${this.tell(values.at(-1))}, between ${this.tell(Math.min(...values))} and ${this.tell(Math.max(...values))}`;
    }).filter(Boolean);
    return `${this.name} from ${clock(1e3 * this.t[0])} to ${clock(1e3 * this.t.at(-1))}. ${said.join("; ")}.${this.limit === null ? "" : ` The limit is ${this.format(this.limit)}.`}`;
  }

  drawTable() {
    const step = Math.max(1, Math.floor(this.t.length / ROWS)), rows = [];
    for (let i = this.t.length - 1; i >= 0 && rows.length < ROWS; i -= step) {
      const values = this.columns.map(column => el("td", "number", column[i] === null ? "–" : this.tell(column[i])));
      rows.push(el("tr", "", make("th", { scope: "row" }, clock(1e3 * this.t[i])), ...values));
    }
    const head = el("tr", "", make("th", { scope: "col" }, "Time"), ...this.series.map(({ name }) => make("th", { scope: "col", class: "number" }, name)));
    this.table.replaceChildren(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": this.name }, el("table", "", el("caption", "unseen", this.name), el("thead", "", head), el("tbody", "", ...rows))));
  }
}
