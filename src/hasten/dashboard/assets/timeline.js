// Where an answer's time went: what the gateway says (the header `server-timing`) and what the browser saw, on one line.

import { el, ms } from "./hasten.js";

const MEANING = {
  waiting: "refused, and sent again later",
  network: "the way there and back, and the browser",
  accept: "reading and checking the request",
  queue: "waiting for a free engine",
  named: "finding a named route",
  cache: "key and look-ups",
  route: "score and decision",
  compress: "shortening the prompt",
  cascade: "judging the weak tier's answer",
  connect: "a new connection to the engine",
  upstream: "the engine, to its first event",
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
 * Lays the time out from the click to the end: `{ name, from, to }` each, milliseconds.
 *
 * `at`: when the browser asked (`start`, and `asked` for the last time), had the headers, the first token and the end.
 * The gateway's stages lie before the headers; what they do not explain of that time is the network's and the browser's.
 */
export function timeline(stages, at) {
  const found = [];
  let now = 0;
  const put = (name, to) => {
    if (to > now) found.push({ name, from: now, to });
    now = Math.max(now, to);
  };
  put("waiting", at.asked - at.start);
  if (at.head === null) return put("network", at.end - at.start), found;
  const head = at.head - at.start, told = stages.reduce((all, [, took]) => all + took, 0);
  put("network", head - Math.min(told, head - now));
  for (const [name, took] of stages) put(name, Math.min(head, now + took));
  if (at.first !== null) put("first", at.first - at.start);
  put(at.first === null ? "first" : "tokens", at.end - at.start);
  return found;
}

/** One bar with all segments; `scale`: milliseconds of its whole width. */
export function strip(segments, scale) {
  const bar = el("span", "strip");
  bar.setAttribute("aria-hidden", "true");
  for (const { name, from, to } of segments) {
    const part = el("i", `s-${name}`);
    part.style.width = `${100 * (to - from) / scale}%`;
    bar.append(part);
  }
  return bar;
}

/** The waterfall: a row a segment. */
export function waterfall(segments, scale) {
  const body = el("tbody");
  for (const { name, from, to } of segments) {
    const head = el("th", "", name === "first" ? "first token" : name), part = el("i", `s-${name}`), lane = el("td", "lane", part);
    head.scope = "row";
    head.title = MEANING[name] ?? "";
    part.style.marginLeft = `${100 * from / scale}%`;
    part.style.width = `${100 * (to - from) / scale}%`;
    body.append(el("tr", "", head, lane, el("td", "took", ms(to - from)), el("td", "soft meaning", MEANING[name] ?? "")));
  }
  const table = el("table", "waterfall", body);
  table.setAttribute("aria-label", "Where the time went");
  return table;
}
