import { $, el, count, share, sum, facts, show, plural, size, seconds, fetchJSON, watch } from "./hasten.js";

const EVERY = 3000;  // milliseconds
const CARDS = ["requests", "saved", "store", "semantic", "looks"];
const OUTCOMES = { exact: "exact", semantic: "other wording", coalesced: "shared a call", miss: "miss", bypass: "bypass" };
const FILTERS = { all: "All", hit: "Hits", near: "Near misses" };
const VERDICTS = { hit: "✓ hit", held: "◦ held", refused: "× refused" };
let filter = "all", drawn = "", looks = [];

function drawRequests(t) {
  const all = sum(t.requests), looked = all - (t.requests.bypass || 0);
  const hits = looked - (t.requests.miss || 0);
  const bar = el("div", "bar"), legend = el("div", "legend");
  bar.setAttribute("aria-hidden", "true");
  for (const [name, label] of Object.entries(OUTCOMES)) {
    const n = t.requests[name] || 0;
    const part = el("i", name);
    part.style.width = all ? `${100 * n / all}%` : "0";
    bar.append(part);
    legend.append(el("span", "", el("i", name), `${label} ${count(n)}`));
  }
  const parts = [el("h2", "", "Requests"), el("div", "big", looked ? share(hits / looked) : "–", el("small", "", looked ? `  hits among ${plural(looked, "looked up", "looked up")}` : "  no request was looked up yet")), bar, legend];
  const list = reasons => Object.entries(reasons).sort((a, b) => b[1] - a[1]).map(([why, n]) => `${why} ${count(n)}`).join(" · ");
  if (sum(t.bypassed)) parts.push(el("p", "soft", `Bypassed, by reason: ${list(t.bypassed)}`));
  if (sum(t.unstored)) parts.push(el("p", "soft", `Answers not kept, by reason: ${list(t.unstored)}`));
  show("requests", ...parts);
}

function drawSaved(t) {
  show("saved", el("h2", "", "Saved"), el("div", "big", seconds(t.saved_seconds)), el("span", "soft", "of waiting for engines"),
    facts([["input tokens", count(t.saved_tokens.input || 0)], ["output tokens", count(t.saved_tokens.output || 0)]]));
}

function drawStore(d) {
  const parts = [el("h2", "", `Store: ${d.store}`)];
  if (d.entries === undefined) parts.push(el("span", "soft", "What it holds is shown to an admin only."));
  else {
    parts.push(el("div", "big", d.entries === null ? "–" : count(d.entries), el("small", "", d.entries === 1 ? "  entry" : "  entries")));
    if (d.max_bytes && d.bytes !== null) {
      const bar = el("div", "bar"), part = el("i", "exact");
      part.style.width = `${Math.min(100, 100 * d.bytes / d.max_bytes)}%`;
      bar.append(part);
      parts.push(bar, el("span", "soft", `${size(d.bytes)} of ${size(d.max_bytes)}`));
    } else if (d.bytes !== null) parts.push(el("span", "soft", size(d.bytes)));
    parts.push(facts([["evictions", count(d.evictions)], ...(d.totals.workers > 1 ? [["workers", count(d.totals.workers)]] : [])]));
  }
  show("store", ...parts);
}

function drawSemantic(d) {
  const s = d.semantic, t = d.totals;
  const title = el("h2", "", "Answers to other wordings (semantic cache)");
  if (!s) return show("semantic", title, el("span", "soft", "It is off: by the settings (cache.semantic), or because its packages or models are not installed; the log of the start says which."));
  const state = el("span", s.state === "ready" ? "good" : s.state === "loading" ? "warn" : "bad", s.state);
  const left = facts([["state", state], ["limit on the score", s.limit !== null ? s.limit.toFixed(2) : s.state === "ready" ? "none keeps the bound" : "–"], ["bound on false hits", share(s.false_hit_bound)],
    ["share served (dial)", share(t.share)], ["holdback", share(s.holdback)]]);
  const right = el("div"), rate = t.false_hit_rate, compared = (t.compared.same || 0) + (t.compared.different || 0);
  if (!compared) {
    right.append("No false-hit rate yet.", el("p", "soft", s.holdback ? `${share(s.holdback)} of the eligible requests go to the model even if another wording's answer is there (the holdback). Their fresh answers are compared with the stored ones; the rate shows up with the first of them.` : "The holdback is 0, so nothing is compared and the rate stays unknown."));
  } else {
    // Few comparisons make a wide interval: it may run out of the scale, so that the bound stays in sight.
    const end = Math.min(1, 1.15 * Math.max(Math.min(rate.upper, 8 * s.false_hit_bound), rate.estimate, 2 * s.false_hit_bound));
    const at = x => `${100 * Math.min(1, x / end)}%`;
    const scale = el("div", "scale"), band = el("div", "band"), tick = el("div", "tick"), bound = el("div", "bound", el("span", "", `bound ${share(s.false_hit_bound)}`));
    band.style.left = at(rate.lower);
    band.style.width = `${100 * (Math.min(end, rate.upper) - rate.lower) / end}%`;
    tick.style.left = at(rate.estimate);
    bound.style.left = at(s.false_hit_bound);
    if (s.false_hit_bound < 0.2 * end) bound.classList.add("early");
    if (rate.upper > end) band.classList.add("open");
    const low = el("span", "end", "0\u00a0%"), high = el("span", "end", share(end, 2));
    high.style.right = "0";
    scale.append(band, tick, bound, low, high);
    const [cls, said] = rate.upper <= s.false_hit_bound ? ["good", "within the bound"] : rate.lower > s.false_hit_bound ? ["bad", "over the bound"] : ["warn", "too few comparisons to be sure"];
    right.append(el("span", "", `False hits measured: ${share(rate.estimate, 2)}, `, el("span", cls, said)), scale,
      el("span", "soft", `${plural(t.compared.different || 0, "different answer")} among ${count(compared)} compared; 95\u00a0% interval ${share(rate.lower, 2)} to ${share(rate.upper, 2)}` + (t.compared.unclear ? `; ${count(t.compared.unclear)} unclear` : "")));
  }
  show("semantic", title, left, right);
}

// The words of two texts, each with whether the other one lacks it (longest common subsequence).
function differing(a, b) {
  const words = text => text.split(/\s+/).filter(Boolean).slice(0, 400);
  const plain = word => word.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "") || word;
  const x = words(a), y = words(b), px = x.map(plain), py = y.map(plain);
  const length = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
  for (let i = x.length - 1; i >= 0; i--) for (let j = y.length - 1; j >= 0; j--)
    length[i][j] = px[i] === py[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
  const left = x.map(word => [word, true]), right = y.map(word => [word, true]);
  for (let i = 0, j = 0; i < x.length && j < y.length;) {
    if (px[i] === py[j]) { left[i++][1] = false; right[j++][1] = false; }
    else if (length[i + 1][j] >= length[i][j + 1]) i++; else j++;
  }
  return [left, right];
}
const marked = (cls, words) => el("td", cls, ...words.flatMap(([word, differs]) => [differs ? el("mark", "", word) : word, " "]));

function drawLooks() {
  const shown = looks.filter(look => filter === "all" || (look.verdict === "hit") === (filter === "hit"));
  const now = filter + JSON.stringify(shown);
  if (now === drawn) return;  // so that a selection of text stays
  drawn = now;
  for (const button of document.querySelectorAll(".filters button")) {
    const name = button.dataset.filter;
    const n = looks.filter(look => name === "all" || (look.verdict === "hit") === (name === "hit")).length;
    button.textContent = `${FILTERS[name]} ${n}`;
    button.setAttribute("aria-pressed", String(name === filter));
  }
  const table = document.querySelector("#looks table");
  table.hidden = !shown.length;
  table.tBodies[0].replaceChildren(...shown.map(look => {
    const [asked, stored] = differing(look.asked, look.stored), at = new Date(1000 * look.at);
    const time = el("td", "time", at.toLocaleTimeString("en-GB"));
    time.title = at.toLocaleString();
    const tag = el("span", "tag", VERDICTS[look.verdict] || look.verdict);
    if (look.verdict in VERDICTS) tag.classList.add(look.verdict);
    return el("tr", "", time, el("td", "verdict", tag), marked("asked", asked), marked("stored", stored), el("td", "score", look.score === null ? "–" : look.score.toFixed(2)), el("td", "why", look.why));
  }));
  $("looks-none").textContent = shown.length ? "" : looks.length ? "None of this kind among the last look-ups." :
    "Nothing yet. Each question that comes near a stored one in another wording appears here, with what was decided and why.";
}

function draw(d) {
  drawRequests(d.totals);
  drawSaved(d.totals);
  drawStore(d);
  drawSemantic(d);
  looks = d.looks;
  $("looks-of").textContent = d.totals.workers > 1 ? "of the worker that answered" : "";
  $("looks").hidden = !d.semantic;
  drawLooks();
}

function only(id, ...inside) {  // instead of everything else
  for (const card of [...CARDS, "notice"]) $(card).hidden = card !== id;
  if (inside.length) show(id, ...inside);
}

async function look() {
  try {
    draw(await fetchJSON("/admin/cache"));
    $("notice").hidden = true;
  } catch (error) {
    if (error.status !== 404) throw error;
    only("notice", el("h2", "", "The cache is off"), "All parts of it are switched off in the settings (cache.exact, cache.semantic, cache.coalesce). Switch one on and reload the gateway; this page will follow.");
  }
}

for (const name of Object.keys(FILTERS)) {
  const button = el("button");
  button.type = "button";
  button.dataset.filter = name;
  button.addEventListener("click", () => { filter = name; drawLooks(); });
  document.querySelector(".filters").append(button);
}
watch(look, EVERY);
