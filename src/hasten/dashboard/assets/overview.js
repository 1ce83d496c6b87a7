// The first screen: is it fast, where does the time go, is it worth it, is it healthy, and which requests were these?
import { STAGES, stageName, swatch } from "./anatomy.js";
import { Chart, showTables } from "./charts.js";
import { $, count, el, facts, fetchJSON, figure, key, make, money, ms, percent, plural, seconds, share, sum, watch } from "./hasten.js";
import { choose, exemplars, lookAtRequests, window_ } from "./requests.js";

const EVERY = 2000;  // milliseconds
const SPANS = { "1m": "the last minute", "5m": "the last 5 minutes", "1h": "the last hour" };
const SECONDS = { "1m": 60, "5m": 300, "1h": 3600 };
const MEASURES = { ttft: ["TTFT", "Time to first token"], tpot: ["TPOT", "Time per output token"], e2e: ["E2E", "Whole request"] };
const BURNS = { "1m": "5m", "5m": "5m", "1h": "1h" };  // there is no burn rate of a minute
const PERCENTILES = ["p50", "p90", "p95", "p99"];
const LINES = [
  { name: "p50", colour: "--p50", width: 1.5, fill: true },
  { name: "p95", colour: "--p95", width: 2 },
  { name: "p99", colour: "--p99", width: 1 },
];
const OUTCOMES = { exact: "exact", semantic: "other wording", coalesced: "shared a call", miss: "miss", bypass: "bypass" };
const HITS = ["exact", "semantic"];
const STATES = { ok: "good", resting: "warn", circuit_half_open: "warn" };
let told = null;  // what the gateway last said

// -- what is written only when it has changed, so that nothing flickers and a selection stays

const drawn = new Map();
function write(node, text) { if (node.textContent !== text) node.textContent = text; }
function fill(node, from, draw) {
  const now = JSON.stringify(from);
  if (drawn.get(node) === now) return;
  drawn.set(node, now);
  node.replaceChildren(...draw());
}
function say(id, text, cls = "") {
  write($(id), text);
  $(id).className = cls;
}

/** One sentence of several parts. */
function sentence(parts) {
  const said = parts.join("; ");
  return said ? `${said[0].toUpperCase()}${said.slice(1)}.` : "";
}

// -- is it fast?

const tiles = {};
function buildTiles() {
  for (const [measure, [short, long]] of Object.entries(MEASURES)) {
    const big = el("div", "big"), verdicts = el("div", "verdicts"), chart = el("figure", "chart");
    const buttons = Object.fromEntries(PERCENTILES.map(p => {
      const value = el("b"), button = make("button", { type: "button", class: "percentile" }, el("span", `key ${p}`, el("span", "unseen", `${short} `), p), " ", value);
      button.addEventListener("click", () => exemplars(measure, p));
      return [p, { button, value }];
    }));
    const head = el("div", "tile-head", el("h3", "", long, " ", el("span", "soft", short)), verdicts);
    $("tiles").append(el("div", "card tile", head, big, el("div", "percentiles", ...PERCENTILES.map(p => buttons[p].button)), chart));
    const none = measure === "e2e" ? "no requests in this time" : "no streamed requests in this time";
    tiles[measure] = { big, verdicts, buttons, chart: new Chart(chart, { name: long, series: LINES, format: x => seconds(x / 1e3), tell: ms, none }) };
  }
}

/** The limits of a measure: `[percentile, milliseconds]`, of the general objectives. */
const limitsOf = (limits, measure) => Object.entries(limits ?? {}).flatMap(([name, value]) => {
  const found = name.match(/^(\w+)_(p\d+)_ms$/);
  return found && found[1] === measure && value !== null ? [[found[2], value]] : [];
});

function drawFast(d, w) {
  const missed = [], limited = [];
  for (const [measure, tile] of Object.entries(tiles)) {
    const [short] = MEASURES[measure], at = w[measure], limits = limitsOf(d.slo?.limits, measure);
    fill(tile.big, at?.p95_ms ?? null, () => at?.p95_ms == null ? ["–"] : figures(ms(at.p95_ms), "p95"));
    for (const p of PERCENTILES) {
      const { button, value } = tile.buttons[p], text = ms(at?.[`${p}_ms`]);
      write(value, text);
      button.disabled = !at;
      button.title = `Show the requests whose ${short} is near this ${p}`;
    }
    const judged = limits.map(([p, limit]) => [p, limit, at?.[`${p}_ms`] == null ? null : at[`${p}_ms`] <= limit]);
    limited.push(...judged);
    missed.push(...judged.filter(([, , met]) => met === false).map(([p, limit]) => `${short} ${p} is ${ms(at[`${p}_ms`])}, over its limit of ${seconds(limit / 1e3)}`));
    fill(tile.verdicts, judged, () => judged.map(([p, limit, met]) => met === null ? el("span", "tag", `${p} limit ${seconds(limit / 1e3)}`)
      : el("span", `tag ${met ? "good" : "bad"}`, `${met ? "✓" : "×"} ${p} ${met ? "within" : "over"} ${seconds(limit / 1e3)}`)));
    const history = d.history, line = limits.find(([p]) => p === "p95") ?? limits[0];
    tile.chart.update(history.t, LINES.map(({ name }) => history[measure][name]), { limit: line ? line[1] : null, window: SECONDS[window_()] });
  }
  sayFast(d, w, limited.length > 0, missed);
}

/** `limited`: whether there are limits of all requests; `missed`: what these miss of them. */
function sayFast(d, w, limited, missed) {
  const scopes = d.slo?.scopes ?? [], span = SPANS[window_()], own = ownMissed(scopes);
  const together = `all requests together meet every limit over ${span}`;
  if (!w.e2e) say("fast-said", `Nothing was asked in ${span}.`);
  else if (missed.length) say("fast-said", sentence([...missed, ...own]), "bad");
  else if (own.length) say("fast-said", sentence(limited ? [`${together}, but ${own[0]}`, ...own.slice(1)] : own), "bad");
  else if (scopes.some(({ dimension }) => dimension === "all") && scopes.some(limitsTime)) say("fast-said", `Yes: every limit is met over ${span}.`, "good");
  else if (limited) say("fast-said", `Yes: ${together}.`, "good");  // to who sees one tenant's only
  else say("fast-said", `Half of the requests took at most ${ms(w.e2e.p50_ms)}. No limits are set (slo in the settings).`);
}

const isTime = objective => objective !== "errors";
const limitsTime = ({ objectives }) => Object.keys(objectives).some(isTime);

/** Which models and tenants miss what was promised to them: their limits may be stricter than those of all requests. */
function ownMissed(scopes) {
  const over = BURNS[window_()], when = over === window_() ? "" : ` over ${SPANS[over]}`;
  return scopes.filter(({ dimension }) => dimension !== "all").flatMap(scope => {
    const names = Object.keys(scope.objectives).filter(name => isTime(name) && scope.objectives[name].burn[over] > 1).map(name => {
      const [measure, percentile] = name.split("_");
      return `${MEASURES[measure][0]} ${percentile}`;
    });
    return names.length ? [`${whose(scope)} misses its ${names.join(" and ")}${when}`] : [];
  });
}

/** A number with its unit set smaller, and what it is. */
function figures(text, what = "") {
  const [, number, unit] = text.match(/^(.*?)(?:\u00a0(\D+))?$/);
  return [number, ...(unit ? [el("small", "unit", unit)] : []), ...(what ? [el("small", "", what)] : [])];
}

// -- where does the time go?

const anatomy = new Chart($("anatomy-chart"), { name: "Mean time a request, by stage", series: [], format: x => seconds(x / 1e3), tell: ms, stacked: true, height: 316, none: "no requests yet" });

function drawAnatomy(d, w) {
  const order = Object.keys(STAGES), columns = d.history.parts ?? {};
  const there = order.filter(stage => stage in columns || stage in w.parts_ms);
  const seen = there.filter(stage => stage in columns);
  anatomy.update(d.history.t, seen.map(stage => columns[stage]), { series: seen.map(stage => ({ name: stageName(stage), colour: `--s-${stage}` })), window: SECONDS[window_()] });
  const total = sum(w.parts_ms);
  fill($("anatomy").tBodies[0], [there, w.parts_ms], () => there.map(stage => {
    const mean = w.parts_ms[stage];
    const bar = el("i", `s-${stage}`);
    bar.style.width = mean === undefined || !total ? "0" : `${100 * mean / total}%`;
    const name = make("th", { scope: "row", title: STAGES[stage] }, swatch(stage), stageName(stage));
    return el("tr", "", name, el("td", "number", mean === undefined ? "–" : ms(mean)), el("td", "number part", mean === undefined || !total ? "–" : percent(mean / total), el("span", "track", bar)));
  }));
  const largest = Object.entries(w.parts_ms).sort((a, b) => b[1] - a[1]).slice(0, 2).filter(([, mean]) => mean > 0.02 * total);
  if (!total) return say("where-said", "");
  say("where-said", sentence([`${largest.map(([stage, mean]) => `${stageName(stage)} ${percent(mean / total)}`).join(" and ")} of the mean ${ms(total)} a request`]));
}

// -- is it worth it?

const hitsChart = new Chart($("hits-chart"), { name: "Share answered by the cache", series: [{ name: "hits", colour: "--exact", width: 1.75, fill: true }], format: x => share(x, 2), height: 110 });

function drawWorth(d, w) {
  const all = sum(w.outcomes), seen = all - (w.outcomes.bypass ?? 0), hits = HITS.reduce((n, name) => n + (w.outcomes[name] ?? 0), 0);
  const shown = seen ? share(hits / seen) : "–";
  fill($("hits").querySelector(".big"), shown, () => d.cache ? figures(shown) : ["off"]);
  fill($("hits").querySelector(".bar"), w.outcomes, () => Object.keys(OUTCOMES).map(name => {
    const part = el("i", name);
    part.style.width = all ? `${100 * (w.outcomes[name] ?? 0) / all}%` : "0";
    return part;
  }));
  fill($("hits").querySelector(".legend"), w.outcomes, () => Object.entries(OUTCOMES).filter(([name]) => w.outcomes[name]).map(([name, label]) => el("span", "", el("i", name), `${label} ${count(w.outcomes[name])}`)));
  hitsChart.update(d.history.t, [d.history.hits], { window: SECONDS[window_()] });
  drawModels(w);
  drawTokens(w);
  drawSaved(d);
  const parts = [];
  if (seen && d.cache) parts.push(`the cache answered ${shown} of what it saw`);
  if (d.cost?.baseline > 0) parts.push(`${share(Math.abs(d.cost.saved.total) / d.cost.baseline, 2)} of the cost was ${d.cost.saved.total < 0 ? "added" : "saved"}`);
  say("worth-said", sentence(parts));
}

function bars(rows) {
  const most = Math.max(...rows.map(([, n]) => n), 1e-9);
  return rows.map(([name, n, cls, text]) => {
    const bar = el("i", cls);
    bar.style.width = `${100 * n / most}%`;
    return el("div", "row", el("span", "name", name), el("span", "value", text), el("span", "track", bar));
  });
}

function drawModels(w) {
  const rows = Object.entries(w.models).sort((a, b) => b[1] - a[1]), all = sum(w.models);
  fill($("models").querySelector(".bars"), rows, () => rows.length
    ? bars(rows.slice(0, 6).map(([name, n]) => [name || "none", n, "plain", `${count(n)} · ${percent(n / all)}`])).concat(rows.length > 6 ? [el("p", "soft", `and ${rows.length - 6} more`)] : [])
    : [el("p", "soft", `No model answered in ${SPANS[window_()]}.`)]);
}

function drawTokens(w) {
  const { input = 0, output = 0, cached = 0 } = w.tokens;
  fill($("models").querySelector(".inside"), w.tokens, () => [facts([["input tokens", count(input)], ["of them in the engines' prompt caches", input ? percent(cached / input) : "–"], ["output tokens", count(output)]])]);
}

function drawSaved(d) {
  const { cost, cache } = d, inside = $("saved").querySelector(".inside");
  const time = cache?.saved_seconds ?? 0;
  if (cost && cost.baseline > 0) {
    const unit = cost.currency;
    fill($("saved").querySelector(".big"), [cost.saved.total, unit], () => figures(money(cost.saved.total, unit), `${share(Math.abs(cost.saved.total) / cost.baseline, 2)} ${cost.saved.total < 0 ? "more" : "less"} than without`));
    fill(inside, [cost, time], () => [
      el("div", "bars", ...bars([["without Hasten", cost.baseline, "quiet", money(cost.baseline, unit)], ["spent", cost.spent, "plain", money(cost.spent, unit)]])),
      facts([["saved by the cache", money(cost.saved.cache, unit)], ["saved by routing", money(cost.saved.routing, unit)], ["waiting saved by the cache", seconds(time)], ...unpriced(cost)]),
    ]);
  } else {
    fill($("saved").querySelector(".big"), time, () => figures(seconds(time), "of waiting, by the cache"));
    const tokens = cache?.saved_tokens ?? {};
    fill(inside, [tokens, cost], () => [
      facts([["input tokens", count(tokens.input ?? 0)], ["output tokens", count(tokens.output ?? 0)]]),
      el("p", "soft", cost && sum(cost.unpriced) ? "The models that were asked have no price in the settings." : "Money is shown for models that have a price in the settings."),
    ]);
  }
}

const unpriced = cost => sum(cost.unpriced) ? [["requests without a price", count(sum(cost.unpriced))]] : [];

// -- is it healthy?

const RATE = [{ name: "failed", colour: "--bad" }, { name: "answered", colour: "--rate", fill: true }];
const load = new Chart($("load-chart"), { name: "Requests a second", series: RATE, format: x => figure(x), stacked: true, height: 130 });

function drawHealth(d, w) {
  const history = d.history, both = f => history.t.map((_, i) => history.per_second[i] === null ? null : f(history.per_second[i], history.errors[i] ?? 0));
  load.update(history.t, [both((n, bad) => n * bad), both((n, bad) => n * (1 - bad))], { window: SECONDS[window_()] });
  const failed = w.requests ? w.errors / w.requests : 0, flying = d.engines.reduce((n, engine) => n + engine.in_flight, 0);
  fill($("load").querySelector(".big"), [w.per_second, flying], () => [w.requests ? figure(w.per_second) : "0", el("small", "", `${count(flying)} in flight`)]);
  fill($("codes"), [w.errors, w.requests, w.error_codes], () => [
    w.errors ? el("p", "bad", `${plural(w.errors, "request")} of ${count(w.requests)} failed (${share(failed, 2)})`) : el("p", "soft", w.requests ? `None of ${plural(w.requests, "request")} failed.` : ""),
    ...(sum(w.error_codes) ? [facts(Object.entries(w.error_codes).sort((a, b) => b[1] - a[1]).map(([code, n]) => [code.replaceAll("_", " "), count(n)]))] : []),
  ]);
  const alerts = drawObjectives(d.slo);
  const away = d.engines.filter(engine => engine.state !== "ok");
  drawEngines(d.engines);
  const dropped = Object.entries(d.dropped ?? {}).filter(([, n]) => n);
  say("dropped", dropped.length ? `Lost, as the sink was slow or failed: ${dropped.map(([name, n]) => `${name.replaceAll("_", " ")} ${count(n)}`).join(", ")}.` : "", "soft");
  const wrong = [
    ...alerts,
    ...(away.length ? [`${away.length} of ${plural(d.engines.length, "engine")} ${away.length === 1 ? "is" : "are"} not ready: ${away.map(engine => engine.name).join(", ")}`] : []),
    ...(failed > 0.01 ? [`${share(failed, 2)} of the requests fail`] : []),
  ];
  if (wrong.length) say("healthy-said", sentence(wrong), "bad");
  else say("healthy-said", `Yes: ${d.engines.length === 1 ? "the engine is" : `all ${d.engines.length} engines are`} ready${w.requests ? `, ${w.errors ? `${share(failed, 2)} of the requests fail` : "no request failed"}` : ""}.`, "good");
}

function drawObjectives(slo) {
  const inside = $("objectives").querySelector(".inside"), scopes = slo?.scopes ?? [];
  const rows = scopes.flatMap(scope => Object.entries(scope.objectives).map(([name, state]) => ({ scope, name, state })));
  const good = scopes.find(scope => scope.dimension === "all")?.goodput[window_()];
  fill($("objectives").querySelector(".big"), [good, window_()], () => good ? figures(share(good.share), "met all their objectives") : []);
  const firing = { page: [], ticket: [] };  // of an objective for which a page fires the page alone
  for (const { scope, name, state } of rows) firing[Object.keys(firing).find(severity => state.alerts[severity])]?.push(`${name.replace("_", " ")}${scope.value ? ` of ${whose(scope)}` : ""}`);
  fill(inside, scopes, () => {
    if (!rows.length) return [el("p", "soft", scopes.length ? "" : "No objectives are set. With limits in the section slo of the settings, budgets and burn rates stand here.")];
    const head = el("tr", "", ...[["Objective", ""], ["Burn, 1 h", "number"], ["6 h", "number"], ["Budget left, 3 d", "number budget"], ["Alert", "number"]].map(([name, cls]) => make("th", { scope: "col", class: cls }, name)));
    return [el("table", "", el("caption", "unseen", "Objectives: burn rates, budgets and alerts"), el("thead", "", head), el("tbody", "", ...rows.map(objective)))];
  });
  return Object.entries(firing).filter(([, alerts]) => alerts.length).map(([severity, alerts]) => `${alerts.length > 1 ? `${severity}s fire` : `a ${severity} fires`} for ${alerts.join(", ")}`);
}

const whose = ({ dimension, value }) => `${dimension} ${value}`;

function objective({ scope, name, state }) {
  const rate = of => state.burn[of] === undefined ? "–" : `${figure(state.burn[of], 2)}×`;
  const left = Math.max(0, Math.min(1, state.budget_left)), bar = el("i", left > 0.5 ? "fine" : left > 0.2 ? "low" : "out");
  bar.style.width = `${100 * left}%`;
  const on = Object.entries(state.alerts).filter(([, fires]) => fires).map(([severity]) => severity)[0];
  const label = make("th", { scope: "row" }, name.replace("_", " "), ...(scope.value ? [" ", el("span", "soft", whose(scope))] : []));
  return el("tr", "", label, el("td", "number", rate("1h")), el("td", "number", rate("6h")),
    el("td", "number budget", state.budget_left > 0 ? share(state.budget_left, 2) : "spent", el("span", "track", bar)), el("td", "number", el("span", `tag ${on ? "bad" : "good"}`, on ?? "quiet")));
}

function drawEngines(engines) {
  const inside = $("engines").querySelector(".inside");
  fill(inside, engines.map(({ load: l, ...rest }) => [rest, l && { ...l, age: l.age > 10 ? Math.round(l.age) : 0 }]), () => {
    const told = engines.some(engine => engine.load);  // otherwise these columns would be empty
    const columns = [["Engine", ""], ["State", ""], ["In flight", "number"], ...(told ? [["Running", "number"], ["Waiting", "number"], ["KV cache", "kv"], ["Prompt cached", "number"]] : [])];
    const head = el("tr", "", ...columns.map(([name, cls]) => make("th", { scope: "col", class: cls }, name)));
    return [el("table", "", el("caption", "unseen", "Engines"), el("thead", "", head), el("tbody", "", ...engines.map(engine => engineRow(engine, told))))];
  });
}

function engineRow({ name, provider, state, in_flight: flying, load: l }, told) {
  const number = (label, value) => { const cell = el("td", "number", value ?? "–"); cell.dataset.label = label; return cell; };
  const kv = el("td", "kv", "–");
  if (l?.kv_usage != null) {
    const bar = el("i", l.kv_usage > 0.95 ? "out" : l.kv_usage > 0.85 ? "low" : "plain");
    bar.style.width = `${100 * Math.min(1, l.kv_usage)}%`;
    kv.replaceChildren(el("span", "track", bar), el("span", "value", share(l.kv_usage, 2)));
  }
  kv.dataset.label = "KV cache";
  const old = l && l.age > 10 ? el("span", "warn soft", ` told ${seconds(Math.round(l.age))} ago`) : "";
  return el("tr", "", make("th", { scope: "row" }, name, " ", el("span", "soft", provider ?? ""), old), el("td", "state", el("span", `tag ${STATES[state] ?? "bad"}`, state === "ok" ? "ready" : state.replaceAll("_", " "))),
    number("in flight", count(flying)), ...(told ? [number("running", l?.running == null ? null : count(l.running)), number("waiting", l?.waiting == null ? null : count(l.waiting)), kv, number("prompt cached", l?.cached_share == null ? null : share(l.cached_share, 2))] : []));
}

// -- all of it

async function drawEmpty(is) {
  document.body.classList.toggle("empty", is);
  if ($("empty").hidden !== is) return;
  $("empty").hidden = !is;
  if (!is) return;
  const { data } = await fetchJSON("/v1/models");
  const body = JSON.stringify({ model: data[0]?.id ?? "MODEL", messages: [{ role: "user", content: "Hello!" }], stream: true });
  const auth = key() ? ' \\\n  -H "authorization: Bearer $KEY"' : "";
  $("curl").textContent = `curl ${location.origin}/v1/chat/completions \\\n  -H 'content-type: application/json'${auth} \\\n  -d '${body}'`;
}

function draw() {
  const d = told, w = d.windows[window_()], span = SPANS[window_()];
  drawFast(d, w);
  drawAnatomy(d, w);
  drawWorth(d, w);
  drawHealth(d, w);
  write($("said"), `${plural(w.requests, "request")} in ${span}${d.workers > 1 ? `, ${plural(d.workers, "worker")}` : ""}`);
}

async function look() {
  told = await fetchJSON("/admin/overview");
  await drawEmpty(told.windows["1h"].requests === 0 && !told.history.t.some((_, i) => told.history.per_second[i]));
  draw();
  await lookAtRequests();
}

buildTiles();
$("tables").addEventListener("click", () => {
  const wanted = $("tables").getAttribute("aria-pressed") !== "true";
  $("tables").setAttribute("aria-pressed", String(wanted));
  showTables(wanted);
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("curl").textContent);
  $("copy").textContent = "Copied";
});
choose(Object.keys(SPANS), () => { if (told) draw(); });
watch(look, EVERY);
