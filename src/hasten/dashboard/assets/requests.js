// The table of requests, and one request's details with its waterfall.
import { STAGES, stageName, strip, swatch, waterfall } from "./anatomy.js";
import { $, clock, count, el, facts, fetchJSON, make, money, ms, plural } from "./hasten.js";

const LIMIT = 15;
const MEASURES = { e2e: "E2E", ttft: "TTFT", tpot: "TPOT" };
const NEARS = { slowest: "Slowest", p99: "p99", p95: "p95", p90: "p90", p50: "p50", errors: "Errors" };
const SPANS = { "1m": "1 min", "5m": "5 min", "1h": "1 h" };
const choice = { window: "5m", measure: "e2e", near: "slowest" };
let drawn = "", asked = 0;

/** The window that all figures are of: `1m`, `5m` or `1h`. */
export const window_ = () => choice.window;

function press(id, value) {
  for (const button of $(id).children) button.setAttribute("aria-pressed", String(button.dataset.value === value));
}

function buttons(id, names, name, changed) {
  for (const [value, label] of Object.entries(names)) {
    const button = make("button", { type: "button", "data-value": value }, label);
    button.addEventListener("click", () => {
      choice[name] = value;
      press(id, value);
      changed();
      lookAtRequests(true);
    });
    $(id).append(button);
  }
  press(id, choice[name]);
}

/** Let people choose window, measure and nearness. `changed`: called when the window is another one. */
export function choose(windows, changed) {
  buttons("windows", Object.fromEntries(windows.map(name => [name, SPANS[name]])), "window", changed);
  buttons("measures", MEASURES, "measure", () => {});
  buttons("nears", NEARS, "near", () => {});
}

/** Show the requests nearest to a percentile. */
export async function exemplars(measure, near) {
  Object.assign(choice, { measure, near });
  press("measures", measure);
  press("nears", near);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("requests-title").focus({ preventScroll: true });
  $("requests-title").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  await lookAtRequests(true);
}

/** Ask for the requests and show them; not while somebody points at one of them, unless `now`. */
export async function lookAtRequests(now = false) {
  const held = !now && ($("request").open || $("requests").matches(":focus-within, :hover"));
  $("held").hidden = !held;
  if (held) return;
  const turn = ++asked;
  const told = await fetchJSON(`/admin/requests?${new URLSearchParams({ ...choice, limit: LIMIT })}`);
  if (turn !== asked) return;  // somebody has chosen something else meanwhile
  const { value_ms: value, requests } = told;
  tellKept(told);
  const said = !requests.length ? "" : choice.near === "slowest" ? `The slowest of the last ${SPANS[choice.window]} by ${MEASURES[choice.measure]}.`
    : choice.near === "errors" ? "The last that did not come out well."
    : value === null ? "" : `Those whose ${MEASURES[choice.measure]} is nearest to the ${choice.near} of ${ms(value)}.`;
  $("requests-said").textContent = said;
  $("requests-none").hidden = requests.length > 0;
  $("requests-none").textContent = requests.length ? "" : choice.near === "errors" ? "All came out well." : `No request was kept of the last ${SPANS[choice.window]}${choice.measure === "e2e" ? "" : "; only streamed ones have a TTFT and a TPOT"}.`;
  const fresh = JSON.stringify(requests);
  if (fresh === drawn) return;
  drawn = fresh;
  $("requests").hidden = !requests.length;
  $("requests").tBodies[0].replaceChildren(...requests.map(row));
  const longest = Math.max(...requests.map(({ e2e_ms: e2e }) => e2e ?? 0));
  const stages = Object.keys(STAGES).filter(stage => requests.some(({ segments }) => segments.some(([name, , lasted]) => name === stage && lasted > 0.01 * longest)));
  $("strip-legend").replaceChildren(...stages.map(stage => el("span", "", swatch(stage), stageName(stage))));
}

/** Says how many are kept, of how many, as what is shown is chosen among these. */
function tellKept({ kept, of, requests }) {
  const from = of === null ? "" : ` of ${plural(of, "request")} ${choice.measure === "e2e" ? "" : `with a ${MEASURES[choice.measure]} `}that came out well`;
  const which = choice.near === "errors" ? "the last 50 that did not come out well" : "the slowest, and some at random";
  $("requests-kept").textContent = kept ? `${count(kept)} kept${from}: ${which}.${kept > requests.length ? ` The first ${requests.length} are shown.` : ""}` : "";
}

function row(request, i, all) {
  const longest = Math.max(...all.map(({ e2e_ms: e2e }) => e2e ?? 0), 1e-6);
  const open = make("button", { type: "button", class: "open", "aria-haspopup": "dialog", "aria-label": `Request at ${clock(request.time)}, ${ms(request.e2e_ms)}: details` }, clock(request.time));
  const cell = (cls, label, ...inside) => { const made = el("td", cls, ...inside); made.dataset.label = label; return made; };
  const made = el("tr", "", el("td", "time", open),
    cell("model", "model", [...new Set([request.model, request.served_model].filter(Boolean))].join(" → ") || "–", ...(request.error ? [" ", el("span", "tag bad", request.error.replaceAll("_", " "))] : [])),
    cell("cache", "cache", request.cache || "–"), cell("number tokens", "tokens", request.output_tokens == null ? "–" : `${request.input_tokens == null ? "?" : count(request.input_tokens)} → ${count(request.output_tokens)}`),
    cell("number ttft", "TTFT", ms(request.ttft_ms)), cell("number e2e", "E2E", ms(request.e2e_ms)), cell("way", "", strip(request.segments, longest)));
  made.addEventListener("click", () => { if (!getSelection().toString()) details(request, open); });
  return made;
}

function details(request, from) {
  const r = request, text = value => value == null || value === "" ? null : String(value);
  const tokens = r.output_tokens == null ? null : `${r.input_tokens == null ? "? in" : `${count(r.input_tokens)} in`}${r.cached_tokens ? ` (${count(r.cached_tokens)} cached)` : ""}, ${count(r.output_tokens)} out`;
  const told = [
    ["status", r.error ? `${r.status} ${r.error}` : text(r.status)], ["model", r.served_model && r.model && r.served_model !== r.model ? `${r.served_model}, asked as ${r.model}` : text(r.served_model || r.model)],
    ["engine", text(r.engine)], ["cache", [r.cache, r.cache_why].filter(Boolean).join(": ") || null], ["route", text(r.route)], ["tokens", tokens],
    ["TTFT", r.ttft_ms == null ? null : ms(r.ttft_ms)], ["TPOT", r.tpot_ms == null ? null : ms(r.tpot_ms)], ["cost", r.cost == null ? null : money(r.cost)],
    ["attempts", r.attempts > 1 ? text(r.attempts) : null], ["tenant", text(r.tenant)], ["endpoint", `${r.endpoint ?? ""}${r.stream ? ", streamed" : ""}`], ["id", text(r.id)],
  ].filter(([, value]) => value !== null);
  $("request-title").textContent = `${ms(r.e2e_ms)} at ${clock(r.time)}`;
  const reasons = r.reasons?.length ? [el("p", "soft", `Notes: ${r.reasons.join("; ")}`)] : [];
  $("request-inside").replaceChildren(waterfall(r.segments), facts(told), ...reasons);
  $("request").returnTo = from;
  $("request").showModal();
  $("request-title").focus();
}

$("request-close").addEventListener("click", () => $("request").close());
$("request").addEventListener("click", event => { if (event.target === $("request")) $("request").close(); });
$("request").addEventListener("close", () => $("request").returnTo?.focus());

if (location.hash.startsWith("#request=")) {  // a link to one request
  fetchJSON(`/admin/requests/${encodeURIComponent(new URLSearchParams(location.hash.slice(1)).get("request"))}`).then(request => details(request, null), error => {
    $("request-title").textContent = error.status === 404 ? "This request is not kept any more" : error.message;
    $("request").showModal();
  });
}
