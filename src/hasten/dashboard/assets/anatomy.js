// Where a request's time went: the stages' names and colours, and one request drawn as a waterfall.
import { el, make, ms } from "./hasten.js";

/** The stages in the order of a request's way, and what each one is. Green is the gateway's own work, blue the
 *  engine's, orange is waiting, red and purple are work done twice. */
export const STAGES = {
  accept: "reading and checking the request, the client's time to send it included",
  queue: "waiting in the gateway for a free engine",
  named: "finding a named route",
  cache: "looking up the cache; of hits also the reply",
  route: "scoring the prompt and choosing a model",
  compress: "shortening the prompt",
  cascade: "a weaker model's answer that was heard",
  retry: "engines that failed and were passed over",
  connect: "a new connection to the engine",
  engine_queue: "waiting at the engine",
  prefill: "the engine reads the prompt, up to the first token",
  decode: "the engine writes the answer",
  generate: "prefill and decode, of an engine that does not tell them apart",
  client: "held because the client read slowly",
  gateway: "the gateway's own time between the stages",
};

export const stageName = stage => stage.replaceAll("_", " ");

/** The colour of a stage as a little square. */
export const swatch = stage => el("i", `swatch s-${stage in STAGES ? stage : "gateway"}`);

/** One line with the stages of a request side by side. `total`: its length in milliseconds. */
export function strip(segments, total) {
  const line = el("span", "strip");
  line.setAttribute("aria-hidden", "true");
  for (const [stage, start, lasted] of segments) {
    const part = el("i", `s-${stage}`);
    part.style.left = `${100 * start / total}%`;
    part.style.width = `${100 * lasted / total}%`;
    line.append(part);
  }
  return line;
}

/** A waterfall of `[[stage, start_ms, duration_ms], ...]`: a table with a row a segment, in the order of time. */
export function waterfall(segments) {
  const total = Math.max(...segments.map(([, start, lasted]) => start + lasted), 1e-6);
  const head = el("tr");
  for (const [name, cls] of [["Stage", ""], ["When", "when"], ["Start", "number"], ["Took", "number"]]) head.append(make("th", { scope: "col", class: cls }, name));
  const rows = segments.map(([stage, start, lasted]) => {
    const bar = el("i", `s-${stage}`), lane = el("span", "lane", bar);
    bar.style.left = `${100 * start / total}%`;
    bar.style.width = `${100 * lasted / total}%`;
    lane.setAttribute("aria-hidden", "true");
    const name = make("th", { scope: "row", title: STAGES[stage] }, swatch(stage), stageName(stage));
    const took = el("td", "number", ms(lasted));
    took.dataset.ms = lasted;
    return el("tr", "", name, el("td", "when", lane), el("td", "number soft", ms(start)), took);
  });
  const all = segments.reduce((t, [, , lasted]) => t + lasted, 0);
  const foot = el("tr", "", make("th", { scope: "row" }, "total"), el("td", "when"), el("td"), el("td", "number total", ms(all)));
  return el("table", "waterfall", el("thead", "", head), el("tbody", "", ...rows), el("tfoot", "", foot));
}
