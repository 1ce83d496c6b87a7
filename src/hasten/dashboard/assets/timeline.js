// Where an answer's time went: what the gateway says (the header `server-timing`) and what the browser saw, on one line.

import { STAGES } from "./anatomy.js";
import { el, make } from "./hasten.js";

const MEANING = {
  ...STAGES,
  waiting: "refused, and sent again later",
  network: "the way there and back, and the browser's own time",
  upstream: "the engine, up to its first event",
  first: "from the first event to the first token",
  tokens: "from the first token to the end",
};

/** Reads `server-timing` (W3C, Server Timing): stages with milliseconds, without those that are a part of another one. */
export function stagesOf(header) {
  const found = [];
  for (const [, name, rest] of (header ?? "").matchAll(/([\w-]+)((?:\s*;\s*[\w-]+=(?:"[^"]*"|[^;,"]*))*)/g)) {
    const took = /;\s*dur=([\d.]+)/.exec(rest);
    if (took && !/;\s*desc="of /.test(rest)) found.push([name, Number(took[1])]);
  }
  return found;
}

/**
 * Lays the time out from the click to the end, without gaps: `[name, start, took]` each, milliseconds.
 *
 * `at`: when the browser asked (`start`, and `asked` for the last time), had the headers, the first token and the end.
 * The gateway's stages lie before the headers; what they do not explain of that time is the network's and the browser's.
 */
export function timeline(stages, at) {
  const found = [];
  let now = 0;
  const until = (name, end) => {
    if (end > now) found.push([name, now, end - now]);
    now = Math.max(now, end);
  };
  const [asked, head, first, end] = [at.asked, at.head, at.first, at.end].map(moment => moment === null ? null : moment - at.start);
  until("waiting", Math.min(asked, end));  // it may have been stopped while it waited
  if (head === null) until("network", end);
  else {
    const told = stages.reduce((all, [, took]) => all + took, 0);
    until("network", head - told);
    for (const [name, took] of stages) until(name, Math.min(head, now + took));
    until("first", first ?? end);
    until("tokens", end);
  }
  return found;
}

const exact = x => x < 10 ? `${x.toFixed(2)}\u00a0ms` : x < 100 ? `${x.toFixed(1)}\u00a0ms` : x < 1e3 ? `${x.toFixed(0)}\u00a0ms` : `${(x / 1e3).toFixed(2)}\u00a0s`;

/** The waterfall: a row a segment. `scale`: milliseconds of its whole width. */
export function waterfall(segments, scale) {
  const rows = segments.map(([name, start, took]) => {
    const bar = el("i", `s-${name}`), lane = make("span", { class: "lane", "aria-hidden": "true" }, bar);
    bar.style.left = `${100 * start / scale}%`;
    bar.style.width = `${100 * took / scale}%`;
    const head = make("th", { scope: "row", title: MEANING[name] }, name === "first" ? "first token" : name.replaceAll("_", " "));
    return el("tr", "", head, el("td", "when", lane), el("td", "number", exact(took)), el("td", "soft meaning", MEANING[name] ?? ""));
  });
  return make("table", { class: "waterfall", "aria-label": "Where the time went" }, el("tbody", "", ...rows));
}
