// One answer: asks for it, shows it as it comes, and measures it.

import { strip } from "./anatomy.js";
import { call, count, el, fetchJSON, figure, key, make, ms, Problem } from "./hasten.js";
import { ChatError, streamChat } from "./stream.js";
import { write } from "./text.js";
import { stagesOf, timeline, waterfall } from "./timeline.js";

const VERDICTS = { exact: "cache hit", semantic: "hit, other wording", coalesced: "shared a call", miss: "cache miss", bypass: "no cache" };

export class Answer {
  text = "";
  reasoning = "";
  state = "waiting";  // then running, and at the end done, stopped or failed
  usage = null;
  headers = new Headers();
  at = { start: 0, asked: 0, head: null, first: null, end: null };  // performance.now(), milliseconds
  #pieces = 0;
  #finish = "";
  #id = "";
  #retry = null;  // when it is sent again, and why not yet
  #parts;

  /** `label`: A or B, empty alone. `request`: fields and headers. `changed(answer)`: call `draw` in the next frame. */
  constructor(label, request, changed) {
    Object.assign(this, { label, request, changed });
    this.#parts = {
      state: el("span", "tag", "waiting"), text: el("div", "text"), reasoning: el("pre"), problem: el("p", "problem"),
      figures: el("dl", "figures"), served: el("p", "served soft"), time: el("details", "time"), judge: el("div", "judge"),
    };
    const { state, text, reasoning, problem, figures, served, time, judge } = this.#parts;
    const cache = request.headers["x-hasten-cache"];
    const who = el("header", "", ...(label ? [el("span", "label", label)] : []), el("strong", "", request.fields.model), el("span", "soft", cache ? ` cache: ${cache}` : ""), state);
    this.thought = el("details", "thought", el("summary", "", "Reasoning"), reasoning);
    for (const part of [this.thought, problem, figures, served, time, judge]) part.hidden = true;
    this.node = el("article", "answer", who, this.thought, text, problem, figures, served, time, judge);
    this.node.setAttribute("aria-label", `Answer ${label} of ${request.fields.model}`.replace("  ", " "));
  }

  get ttft() { return this.at.first === null ? null : this.at.first - this.at.start; }
  get total() { return (this.at.end ?? performance.now()) - this.at.start; }
  get tokens() { return this.usage?.completion_tokens ?? this.#pieces; }
  get hit() { return ["exact", "semantic"].includes(this.headers.get("x-hasten-cache")); }

  /** Time per output token after the first, milliseconds: (E2E - TTFT) / (tokens - 1). A hit's tokens come all at once. */
  get tpot() {
    return this.ttft === null || this.tokens < 2 || this.hit ? null : (this.total - this.ttft) / (this.tokens - 1);
  }

  /** Asks, and returns when the answer has ended, in whatever way. */
  async run(signal) {
    this.at.start = this.at.asked = performance.now();
    this.node.setAttribute("aria-busy", "true");
    const ticking = setInterval(() => this.changed(this), 200);
    try {
      await this.#read(signal);
      this.state = "done";
    } catch (error) {
      this.state = signal.aborted ? "stopped" : "failed";
      if (this.state === "failed") this.problem = inWords(error);
      this.#id ||= error.requestId ?? "";
    }
    clearInterval(ticking);
    this.at.end ??= performance.now();
    this.#retry = null;
    this.node.setAttribute("aria-busy", "false");
    this.changed(this);
  }

  async #read(signal) {
    const { fields, headers } = this.request;
    for (;;) {
      try {
        const options = {
          key: key(), headers, signal,
          onHead: response => this.#begin(response),
          onWait: (seconds, error) => {
            this.at.asked = performance.now() + 1e3 * seconds;
            this.#retry = sentence(error.message);
          },
        };
        for await (const chunk of streamChat(fields, options)) this.#take(chunk);
        return;
      } catch (error) {
        if (error.status !== 401 || this.at.head !== null) throw error;
        await fetchJSON("/v1/models");  // which asks for a key, until one is right
        this.at.start = this.at.asked = performance.now();
      }
    }
  }

  #begin(response) {
    this.at.head = performance.now();
    this.headers = response.headers;
    this.#id = response.headers.get("x-request-id") ?? "";
    this.state = "running";
    this.#retry = null;
    this.changed(this);
  }

  #take(chunk) {
    const [choice] = chunk.choices ?? [], delta = choice?.delta ?? {};
    const text = delta.content ?? delta.refusal ?? "", reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
    if (text || reasoning) {
      this.at.first ??= performance.now();
      this.#pieces++;
      this.text += text;
      this.reasoning += reasoning;
    }
    this.#finish = choice?.finish_reason ?? this.#finish;
    this.usage = chunk.usage ?? this.usage;
    this.changed(this);
  }

  /** Shows what there is. Called once a frame at most, so a fast answer costs no more than a slow one. */
  draw() {
    const { state, text, reasoning, problem } = this.#parts, over = this.at.end !== null;
    state.textContent = this.state === "running" && this.at.first === null ? "waiting" : this.state === "running" ? "answering" : this.state;
    state.hidden = this.state === "done";
    state.className = `tag ${{ failed: "bad", stopped: "warn" }[this.state] ?? ""}`;
    write(text, this.text);
    if (this.reasoning) {
      reasoning.textContent = this.reasoning;
      this.thought.hidden = false;
    }
    const told = this.#retry ? `${this.#retry} Sending again in ${Math.max(0, Math.ceil((this.at.asked - performance.now()) / 1e3))} s.` : this.problem;
    problem.textContent = told ?? (over && this.#finish === "length" ? "Cut off at the limit of tokens." : "");
    problem.className = `problem ${this.problem ? "bad" : "warn"}`;
    problem.hidden = !problem.textContent;
    this.#drawFigures(over);
  }

  #drawFigures(over) {
    const { figures } = this.#parts, about = this.usage ? "" : "~", pairs = [];  // without usage, events are counted
    pairs.push(["TTFT", this.ttft === null ? "–" : ms(this.ttft)], ["total", over ? ms(this.total) : `${(this.total / 1e3).toFixed(1)}\u00a0s`]);
    if (this.tpot) pairs.push(["tokens/s", `${about}${figure(1e3 / this.tpot)}`]);
    if (this.tpot && over) pairs.push(["TPOT", `${about}${ms(this.tpot)}`]);
    if (this.tokens) pairs.push([this.usage ? "tokens in, out" : "tokens", `${this.usage ? `${count(this.usage.prompt_tokens)}, ` : about}${count(this.tokens)}`]);
    figures.replaceChildren(...listed(pairs));
    figures.hidden = false;
  }

  /** Shows what is known at the end. `scale`: milliseconds of the waterfall's width, the same for answers side by side. */
  close(scale = this.total) {
    const { served, time } = this.#parts, told = name => this.headers.get(`x-hasten-${name}`) ?? "";
    const verdict = told("cache"), segments = timeline(stagesOf(this.headers.get("server-timing")), this.at);
    const why = told("cache-why"), cached = this.usage?.prompt_tokens_details?.cached_tokens;
    served.replaceChildren(el("span", "tag cached", el("i", verdict), VERDICTS[verdict] ?? verdict), ...[
      ["", why], ["engine", told("engine")], ["model", told("model") === this.request.fields.model ? "" : told("model")], ["route", told("route")],
    ].filter(([, value]) => value).map(([name, value]) => el("span", "", name && `${name} `, name ? el("b", "", value) : value)));
    served.hidden = !verdict;
    const known = [
      ["complexity", told("complexity")], ["tokens cached by the engine", cached ? count(cached) : ""], ["finish reason", this.#finish],
      ["request id", this.#id && linked(this.#id)],
    ].filter(([, value]) => value);
    const open = time.open;
    time.replaceChildren(el("summary", "", "Where the time went", strip(segments, scale)), waterfall(segments, scale), el("dl", "known", ...listed(known)));
    time.open = open;
    time.hidden = false;
    if (told("complexity") && this.state === "done" && this.#parts.judge.hidden) this.#offer(this.#id);
  }

  /** Routing learns from judgements: offer to give one. */
  #offer(id) {
    const { judge } = this.#parts, said = el("span", "soft");
    said.setAttribute("role", "status");
    const buttons = ["good", "bad"].map(label => {
      const button = el("button", "", label === "good" ? "Good answer" : "Bad answer");
      button.type = "button";
      button.addEventListener("click", async () => {
        try {
          await call("/v1/feedback", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ id, label }) });
          for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
          said.textContent = "Noted.";
        } catch (error) {
          if (error.status === 404 && error.code !== "unknown_request") judge.hidden = true;
          else said.textContent = inWords(error);
        }
      });
      return button;
    });
    judge.replaceChildren(...buttons, said);
    judge.hidden = false;
  }
}

const listed = pairs => pairs.map(([name, value]) => el("div", "", el("dt", "", name), el("dd", "", value)));

/** The id; for who may see that, it leads to the request as the gateway saw it, in a tab of its own that knows the key. */
function linked(id) {
  const shown = el("span", "", id);
  mayLook().then(may => { if (may) shown.replaceChildren(make("a", { href: `/dashboard#request=${encodeURIComponent(id)}`, target: "_blank", rel: "opener" }, id)); });
  return shown;
}

let looked = {};  // of which key it is known

/** Whether the key may see requests on the dashboard: where there are admin keys, only these may. */
function mayLook() {
  const own = key();
  if (looked.key !== own) {
    const headers = own ? { authorization: `Bearer ${own}` } : {};
    const may = fetch("/admin/requests?limit=1", { method: "HEAD", cache: "no-store", headers }).then(({ ok }) => ok, () => { looked = {}; return false; });
    looked = { key: own, may };
  }
  return looked.may;
}

function inWords(error) {
  if (!(error instanceof ChatError || error instanceof Problem)) console.error(error);
  return `${sentence(error.message)}${error.retryAfter ? ` Try again in ${Math.ceil(error.retryAfter)} s.` : ""}`;
}

const sentence = text => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
