// The playground: a conversation, with one answer to each message or two side by side. What streams is in stream.js.

import { Answer } from "./answer.js";
import { snippets } from "./code.js";
import { $, el, fetchJSON, figure, ms, state } from "./hasten.js";

const IDEAS = ["What is the capital of France?", "Explain in two sentences why the sky is blue.", "Write a Python function that reverses a string."];
let turns = [];      // { text, node, answers, verdict }
let running = null;  // the AbortController of the answers that are on their way

// -- what the options say

const number = id => $(id).value.trim() === "" ? undefined : Number($(id).value);
const sides = () => $("compare").checked ? ["A", "B"] : [""];

/** The request that `text` would make on side `index`, after what was said on this side. */
function requestOf(index, text) {
  const side = index ? "b" : "a", messages = [];
  if ($("system").value.trim()) messages.push({ role: "system", content: $("system").value.trim() });
  for (const turn of turns) {
    const said = (turn.answers[index] ?? turn.answers[0]).text;
    if (said) messages.push({ role: "user", content: turn.text }, { role: "assistant", content: said });
  }
  messages.push({ role: "user", content: text });
  const fields = { model: index && $("model-b").value || $("model-a").value }, cache = $(`cache-${side}`).value;
  for (const [name, value] of [["temperature", number("temperature")], ["max_tokens", number("max-tokens")]]) {
    if (value !== undefined) fields[name] = value;
  }
  fields.messages = messages;
  return { fields, headers: cache ? { "x-hasten-cache": cache } : {} };
}

// -- drawing: once a frame, however many tokens came; the end at once, as a tab in the background has no frames

const changed = new Set();
let frame = 0;

function later(answer) {
  changed.add(answer);
  if (answer.at.end !== null) draw();
  else frame ||= requestAnimationFrame(draw);
}

function draw() {
  cancelAnimationFrame(frame);
  frame = 0;
  const following = atBottom();
  for (const answer of changed) answer.draw();
  changed.clear();
  if (following) toBottom();
}

const page = document.documentElement;
const atBottom = () => page.scrollHeight - page.clientHeight - page.scrollTop < 60;  // who scrolled up reads: leave them there
const toBottom = () => page.scrollTo({ top: page.scrollHeight });

// -- a turn

async function send(text) {
  if (running || !text) return;
  if (!$("options").reportValidity()) {
    $("settings").open = true;
    return;
  }
  const stop = running = new AbortController();
  const answers = sides().map((label, index) => new Answer(label, requestOf(index, text), later));
  const verdict = el("p", "verdict soft"), pair = el("div", answers.length > 1 ? "pair" : "", ...answers.map(answer => answer.node));
  const node = el("section", "turn", el("p", "asked", text), pair, verdict);
  node.setAttribute("aria-label", `Turn ${turns.length + 1}`);
  verdict.hidden = true;
  turns.push({ text, answers });
  $("empty").hidden = true;
  $("turns").append(node);
  $("prompt").value = "";
  busy(true);
  toBottom();
  const runs = [];
  for (const answer of answers) {
    runs.push(answer.run(stop.signal));
    if ($("in-turn").checked) await runs.at(-1);
  }
  await Promise.all(runs);
  if (running !== stop) return;  // a new chat was begun meanwhile
  running = null;
  const following = atBottom(), scale = Math.max(...answers.map(answer => answer.total));
  for (const answer of answers) answer.close(scale);
  if (answers.length > 1) {
    verdict.replaceChildren(...comparison(...answers).flatMap(line => [line, el("br")]).slice(0, -1));
    verdict.hidden = false;
  }
  busy(false);
  if (following) toBottom();
  announce(answers, verdict.textContent);
}

/** Says by how much one answer was faster. */
function comparison(a, b) {
  if (a.state !== "done" || b.state !== "done") return ["Nothing to compare: not both answers are complete."];
  const line = (what, x, y, more) => {
    const [first, slow, fast] = x <= y ? ["A", y, x] : ["B", x, y];
    if (slow < 1.05 * fast) return `${what}: no difference worth the name (${ms(x)} and ${ms(y)}${more}).`;
    return `${what}: ${first} was ${ms(slow - fast)} sooner, ${figure(slow / fast)} times as fast (A ${ms(x)}, B ${ms(y)}${more}).`;
  };
  const lines = [line("Total", a.total, b.total, a.tokens === b.tokens ? "" : `; A ${a.tokens} tokens, B ${b.tokens}`)];
  if (a.ttft !== null && b.ttft !== null) lines.unshift(line("First token", a.ttft, b.ttft, ""));
  return lines;
}

/** Tells who does not see it, once and at the end: token by token it could not be followed. */
function announce(answers, verdict) {
  const of = a => `${a.label ? `Answer ${a.label}` : "Answer"} ${a.state}: ${a.text} ${a.problem ?? ""}`;
  $("said").textContent = [...answers.map(of), verdict].join(" ");
}

function busy(is) {
  $("stop").hidden = !is;
  $("send").disabled = is;
  state(is ? "answering" : "ready");
  if (matchMedia("(pointer: fine)").matches) $("prompt").focus({ preventScroll: true });
  showCode();
}

function restart() {
  running?.abort();
  running = null;
  turns = [];
  for (const node of document.querySelectorAll(".turn")) node.remove();
  $("empty").hidden = false;
  $("said").textContent = "";
  busy(false);
}

// -- the same from code

function showCode() {
  if ($("code").hidden) return;
  $("code").replaceChildren(...snippets(requestOf(0, $("prompt").value.trim() || "…"), location.origin));
}

function toggleCode() {
  const open = $("code").hidden;
  $("code").hidden = !open;
  $("show-code").setAttribute("aria-expanded", String(open));
  $("show-code").textContent = open ? "Hide code" : "Show code";
  showCode();
}

// -- the page

function optionsChanged() {
  const two = $("compare").checked;
  $("second").hidden = !two;
  $("legend-a").textContent = two ? "Answer A" : "Answer";
  $("chosen").textContent = two ? `${$("model-a").value} and ${$("model-b").value || $("model-a").value}` : $("model-a").value;
  showCode();
}

$("composer").addEventListener("submit", event => {
  event.preventDefault();
  send($("prompt").value.trim());
});
$("prompt").addEventListener("keydown", event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;  // composing: Enter ends a word, as in Japanese
  event.preventDefault();
  send($("prompt").value.trim());
});
document.addEventListener("keydown", event => { if (event.key === "Escape") running?.abort(); });
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", restart);
$("show-code").addEventListener("click", toggleCode);
$("prompt").addEventListener("input", showCode);
$("options").addEventListener("input", optionsChanged);
$("options").addEventListener("submit", event => event.preventDefault());
for (const idea of IDEAS) {
  const button = el("button", "", idea);
  button.type = "button";
  button.addEventListener("click", () => send(idea));
  $("ideas").append(button);
}
if (matchMedia("(max-width: 900px)").matches) $("settings").open = false;

async function begin() {
  $("send").disabled = true;
  try {
    const { data } = await fetchJSON("/v1/models");
    const option = id => { const made = el("option", "", id); made.value = id; return made; };
    const same = option("");
    same.textContent = "the same";
    $("model-a").replaceChildren(...data.map(({ id }) => option(id)));
    $("model-b").replaceChildren(same, ...data.map(({ id }) => option(id)));
    optionsChanged();
    busy(false);
  } catch (error) {
    state(error.message, false);
    setTimeout(begin, 3000);
  }
}
begin();
