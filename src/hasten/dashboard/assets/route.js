import { $, el, count, share, sum, facts, show, figure, seconds, fetchJSON, watch } from "./hasten.js";

const EVERY = 3000;  // milliseconds
const HELD = { strong_share: ["share of the strongest tier", share], quality: ["answers as good as the strongest tier's", share], cost: ["mean cost of a request", figure],
  ttft_ms: ["mean time to first token", ms => seconds(ms / 1e3)], e2e_ms: ["mean time to the end", ms => seconds(ms / 1e3)] };
const MEASURES = { cost: ["Cost a request", figure, -1, "in the currency of the prices"], e2e_seconds: ["Time to the end", seconds, -1, "E2E, from the decision"],
  ttft_seconds: ["Time to the first event", seconds, -1, "of streams, from the decision"], feedback: ["Clients' score", x => figure(x), 1, "0 to 1, of answers that were judged"] };
let drawn = "";

function drawTiers(m) {
  const of = m.tiers.map(tier => sum(m.requests[tier] || {})), all = of.reduce((a, b) => a + b, 0);
  const bar = el("div", "bar"), legend = el("div", "legend"), last = m.tiers.length - 1;
  bar.setAttribute("aria-hidden", "true");
  m.tiers.forEach((tier, i) => {
    const part = el("i", `tier${Math.min(3, i)}`);
    part.style.width = all ? `${100 * of[i] / all}%` : "0";
    bar.append(part);
    legend.append(el("span", "", el("i", `tier${Math.min(3, i)}`), `${tier} ${count(of[i])}`));
  });
  const parts = [el("h2", "", "Requests by tier, the weakest first"),
    el("div", "big", all ? share(1 - of[last] / all) : "–", el("small", "", all ? `  without the strongest tier, of ${count(all)}` : "  nothing was routed yet")), bar, legend];
  m.tiers.forEach((tier, i) => {
    const reasons = Object.entries(m.requests[tier] || {}).sort((a, b) => b[1] - a[1]);
    if (reasons.length) parts.push(el("p", "soft", `${tier}: ${reasons.map(([why, n]) => `${why} ${count(n)}`).join(" · ")}`));
  });
  return el("section", "card first", ...parts);
}

function drawHeld(m) {
  const [[key, aim]] = Object.entries(m.hold), [label, shown] = HELD[key];
  return el("section", "card", el("h2", "", "What is held"), el("div", "big", shown(aim)), el("span", "soft", label),
    facts([["strongest tier, held", share(m.held_share)], ["strongest tier, realised", m.realised_share === null ? "–" : share(m.realised_share)],
      ["threshold of the score", m.threshold.toFixed(3)], ["share routed (dial)", share(m.share)], ["holdback", share(m.holdback)]]));
}

function drawLearning(m) {
  const l = m.learning, parts = [el("h2", "", "Learning from feedback")];
  const judged = Object.entries(m.feedback);
  if (!l) parts.push("It is off.", el("p", "soft", "models.NAME.route.learn.share turns it on."));
  else {
    const [cls, said] = l.turned_off ? ["bad", "turned itself off"] : l.examples ? ["good", "on"] : ["warn", "on, nothing learnt yet"];
    const loss = x => x === null ? "–" : x.toFixed(4);
    parts.push(el("div", `big ${cls}`, said), el("span", "soft", l.turned_off ? "The frozen score did better; a reset turns it on again." : `corrected score = sigmoid(${l.a.toFixed(2)} logit ${l.b < 0 ? "−" : "+"} ${Math.abs(l.b).toFixed(2)})`),
      facts([["a", l.a.toFixed(3)], ["b", l.b.toFixed(3)], ["share applied (dial)", share(l.share)], ["examples", count(l.examples)],
        [`log loss of the last ${count(l.log_loss.of_last)}, frozen`, loss(l.log_loss.frozen)], ["log loss, corrected", loss(l.log_loss.corrected)],
        ["evidence against it", share(Math.min(1, l.evidence_against))]]));
  }
  if (judged.length) parts.push(el("p", "soft", `Judged: ${judged.map(([tier, by]) => `${tier} ${Object.entries(by).map(([v, n]) => `${count(n)} ${v}`).join(", ")}`).join(" · ")}`));
  return el("section", "card", ...parts);
}

function row(m, measure) {
  const [label, shown, better, note] = MEASURES[measure], of = m.measured[measure] || {}, e = m.effect[measure];
  const cell = side => of[side] ? el("td", side, shown(of[side].mean), el("small", "", `${count(of[side].n)} measured`)) : el("td", side, "–");
  const said = el("td", "said");
  if (!e) said.append(m.holdback ? "Too few measured on one of the two sides." : "The holdback is 0, so there is nothing to compare with.");
  else {
    const low = better * e.lower, high = better * e.upper;
    const [cls, word] = Math.min(low, high) > 0 ? ["good", "better"] : Math.max(low, high) < 0 ? ["bad", "worse"] : ["warn", "no difference is sure yet"];
    const end = 1.15 * Math.max(Math.abs(e.lower), Math.abs(e.upper)) || 1, scale = el("div", "scale"), band = el("i", "band");
    band.style.left = `${50 + 50 * e.lower / end}%`;
    band.style.width = `${50 * (e.upper - e.lower) / end}%`;
    scale.append(band, el("i", "zero"));
    scale.setAttribute("aria-hidden", "true");
    const total = measure === "cost" || measure === "e2e_seconds" ? `; ${shown(Math.abs(e.saved))} ${e.saved >= 0 ? "saved" : "lost"} in all` : "";
    said.append(el("span", cls, word), `: ${e.estimate > 0 ? "+" : ""}${shown(e.estimate)}`, scale, el("small", "", `95\u00a0% interval ${shown(e.lower)} to ${shown(e.upper)}${total}`));
  }
  const head = el("th", "", label, el("br"), el("span", "soft", note));
  head.scope = "row";
  return el("tr", "", head, cell("act"), cell("holdback"), said);
}

function drawEffect(m) {
  const head = el("tr");
  for (const title of ["", "Routed", "Held back", "Routed less held back"]) { const th = el("th", "", title); th.scope = "col"; head.append(th); }
  const table = el("table", "", el("caption", "", "What it saves: routed requests against those of the holdback, which all go to the strongest tier"),
    el("thead", "", head), el("tbody", "", ...Object.keys(MEASURES).map(measure => row(m, measure))));
  return el("section", "card wide", table);
}

function draw(d) {
  const now = JSON.stringify(d.models);
  if (now === drawn && !$("names").hidden) return;  // so that a selection of text stays
  drawn = now;
  show("names", ...Object.entries(d.models).flatMap(([name, m]) => [el("h1", "name wide", name), drawTiers(m), drawHeld(m), drawLearning(m), drawEffect(m)]));
}

function only(id, ...inside) {  // instead of everything else
  for (const card of ["names", "notice"]) $(card).hidden = card !== id;
  if (inside.length) show(id, ...inside);
}

async function look() {
  try {
    draw(await fetchJSON("/admin/route"));
    $("notice").hidden = true;
  } catch (error) {
    if (error.status !== 404) throw error;
    only("notice", el("h2", "", "Nothing is routed"), "No model of the settings has tiers to choose from (models.NAME.tiers). Give one some and reload the gateway; this page will follow.");
  }
}

watch(look, EVERY);
