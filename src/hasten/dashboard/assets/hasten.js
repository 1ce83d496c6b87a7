// What all pages share: elements, numbers, the key, asking the gateway, the theme.
// All text goes through text nodes: what is shown was written by strangers.

// -- elements

export const $ = id => document.getElementById(id);

/** Make an element. `cls`: its class; `inside`: nodes and texts. */
export const el = (tag, cls, ...inside) => {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  made.append(...inside);
  return made;
};

/** Make an element with attributes; `undefined`, `null` and `false` leave one out. */
export const make = (tag, attributes, ...inside) => {
  const made = el(tag, "", ...inside);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  return made;
};

/** Put nodes into the element of this id, and show it. */
export const show = (id, ...inside) => { $(id).replaceChildren(...inside); $(id).hidden = false; };

/** A list of facts: pairs of name and value. */
export const facts = pairs => {
  const list = el("dl");
  for (const [name, value] of pairs) list.append(el("dt", "", name), el("dd", "", value));
  return list;
};

// -- numbers

export const count = n => Math.round(n).toLocaleString("en");
export const figure = (x, digits = 3) => x && Math.abs(x) < 1e-3 ? x.toExponential(digits - 1) : String(+x.toPrecision(digits));
export const share = (x, digits = 3) => `${+(100 * x).toPrecision(digits)}\u00a0%`;
export const sum = counts => Object.values(counts).reduce((a, b) => a + b, 0);
export const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;
export const size = n => {
  let unit = 0;
  while (n >= 1024 && unit < 4) { n /= 1024; unit++; }
  return `${+n.toPrecision(3)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
};

/** A time of `s` seconds, with its unit. */
export const seconds = s => {
  const by = Math.abs(s);
  if (by < 1) return `${figure(1e3 * s)}\u00a0ms`;
  if (by < 120) return `${figure(s)}\u00a0s`;
  if (by < 7200) return `${figure(s / 60)}\u00a0min`;
  return `${figure(s / 3600)}\u00a0h`;
};

/** A time of `x` milliseconds, always of three figures, for columns of them; `null`: a dash. */
export const ms = x => {
  if (x === null || x === undefined) return "–";
  if (x < 0.01) return x ? "<0.01\u00a0ms" : "0\u00a0ms";
  if (x < 999.5) return `${x < 1 ? x.toFixed(2) : x.toPrecision(3)}\u00a0ms`;
  return x < 99_950 ? `${(x / 1e3).toPrecision(3)}\u00a0s` : seconds(x / 1e3);
};

/** A share for columns of them: one digit after the point below 10 %. */
export const percent = x => x > 0 && x < 0.001 ? "<0.1\u00a0%" : `${(100 * x).toFixed(x < 0.0995 && x > 0 ? 1 : 0)}\u00a0%`;

/** A sum of money, in the currency of the prices (which may have no name). */
export const money = (x, currency = "") => {
  const by = Math.abs(x), digits = by >= 1000 ? 0 : by >= 1 || !by ? 2 : 4;
  const shown = by && by < 0.01 ? { maximumSignificantDigits: 2 } : { minimumFractionDigits: Math.min(2, digits), maximumFractionDigits: digits };
  return `${x.toLocaleString("en", shown)}${currency ? `\u00a0${currency}` : ""}`;
};

export const clock = at => new Date(at).toLocaleTimeString("en-GB");

// -- asking the gateway

const KEY = "hasten-key";
let opened = null;  // the promise of a key, while the door is shown

/** What went wrong, in plain words. `status`: of the answer, 0 if there was none. `code`: of the error's body. */
export class Problem extends Error {
  constructor(message, status = 0, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const key = () => sessionStorage.getItem(KEY);

/** Show the door until a key is given. */
function askForKey(why) {
  opened ??= new Promise(resolve => {
    document.body.classList.add("locked");
    $("door").hidden = false;
    $("key").focus();
    $("door").querySelector("form").onsubmit = event => {
      event.preventDefault();
      const given = $("key").value.trim();
      if (!given) return;
      sessionStorage.setItem(KEY, given);
      $("key").value = "";
      opened = null;
      resolve();
    };
  });
  $("door-why").textContent = why;
  state("no access", false);
  return opened;
}

function unlock() {
  document.body.classList.remove("locked");
  $("door").hidden = true;
  $("forget").hidden = !key();
}

async function problemOf(answer) {
  const text = await answer.text();
  try {
    const { error } = JSON.parse(text);
    return new Problem(error.message, answer.status, error.code ?? "");
  } catch {
    return new Problem(`the gateway answered with status ${answer.status}`, answer.status);
  }
}

/**
 * Fetch from this gateway, with the key if there is one, and return the response.
 * Where the gateway wants a key, or another one, the page asks for it and the request is made again.
 * Throws a Problem for every other status from 400 on, and when there is no answer.
 */
export async function call(path, { headers = {}, ...rest } = {}) {
  for (;;) {
    const sent = key();
    let answer;
    try {
      answer = await fetch(path, { cache: "no-store", ...rest, headers: { ...headers, ...(sent && { authorization: `Bearer ${sent}` }) } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("the gateway does not answer");
    }
    if (answer.ok) {
      unlock();
      return answer;
    }
    const problem = await problemOf(answer);
    if (answer.status !== 401 && answer.status !== 403) {  // these are the gateway's own: an engine's come as a 502
      unlock();
      throw problem;
    }
    await askForKey(sent ? `The gateway refused the key: ${problem.message}.` : "This gateway shows this to holders of a key only.");
  }
}

/** Fetch JSON. See `call`. */
export async function fetchJSON(path, options) {
  const answer = await call(path, options);
  try {
    return await answer.json();
  } catch {
    throw new Problem("the gateway's answer was cut off", answer.status);
  }
}

// -- the state, and looking again

/** Say in the head of the page how things are; red where they are not `ok`. */
export function state(text, ok = true) {
  const shown = $("state");
  if (shown.textContent !== text) shown.textContent = text;
  shown.classList.toggle("off", !ok);
}

/**
 * Call `look` now and every `every` milliseconds while the page is seen, more seldom while it fails.
 * Returns a function that looks at once.
 */
export function watch(look, every) {
  let timer = 0, failures = 0, running = false, again = false;
  async function turn() {
    if (running) {
      again = true;
      return;
    }
    clearTimeout(timer);
    running = true;
    try {
      await look();
      failures = 0;
      document.body.classList.remove("stale");
      state("live");
      $("state").title = `updated ${clock(Date.now())}`;
    } catch (error) {
      failures++;
      document.body.classList.add("stale");
      state(error instanceof Problem && error.status === 0 ? "no answer from the gateway: trying again" : `not updated: ${error.message}`, false);
      if (!(error instanceof Problem)) console.error(error);
    }
    running = false;
    if (again) {
      again = false;
      turn();
    } else if (!document.hidden) timer = setTimeout(turn, every * Math.max(1, Math.min(5, failures)));
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else turn();
  });
  turn();
  return turn;
}

// -- the theme

const THEMES = ["auto", "light", "dark"];
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** A colour of the style sheet as it is now, for what is drawn by hand: `colour("--line")`. */
export function colour(name) {
  const probe = $("theme");
  probe.style.outlineColor = `var(${name})`;
  const found = getComputedStyle(probe).outlineColor;
  probe.style.outlineColor = "";
  return found;
}

/** Call `redraw` when the theme changes. */
export function onTheme(redraw) {
  root.addEventListener("hasten-theme", redraw);
  dark.addEventListener("change", redraw);
}

function setTheme(name) {
  if (name === "auto") delete root.dataset.theme;
  else root.dataset.theme = name;
  try {
    if (name === "auto") localStorage.removeItem("hasten-theme");
    else localStorage.setItem("hasten-theme", name);
  } catch { /* it holds for this page only */ }
  nameTheme();
  root.dispatchEvent(new Event("hasten-theme"));
}

function nameTheme() {
  const now = root.dataset.theme ?? "auto";
  $("theme").textContent = `Theme: ${now}`;
}

$("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length]));
$("forget").addEventListener("click", () => { sessionStorage.removeItem(KEY); location.reload(); });
$("forget").hidden = !key();
nameTheme();
