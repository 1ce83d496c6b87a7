// Read a streamed chat completion in a browser (or in Node.js 18 and later). It needs nothing else: copy it.
//
//   const stop = new AbortController();
//   for await (const chunk of streamChat({ model, messages }, { key, signal: stop.signal })) show(textOf(chunk));
//
// What it takes care of, and EventSource does not: POST and headers, errors in the stream, waiting where told to.

/** The server refused, or the stream broke. `status`: of HTTP, 0 after a broken stream; `retryAfter`: seconds, if told. */
export class ChatError extends Error {
  constructor(message, { status = 0, type = "", code = "", retryAfter = null, requestId = "" } = {}) {
    super(message);
    Object.assign(this, { name: "ChatError", status, type, code, retryAfter, requestId });
  }
}

/**
 * Cuts server-sent events out of text, whose pieces may end anywhere (WHATWG HTML, "Interpreting an event stream"):
 * lines end with LF, CRLF or CR, several `data` lines make one text, a line that begins with a colon is a comment.
 */
export class EventParser {
  #line = "";          // as far as it came
  #data = [];          // of the event that is not complete yet
  #type = "";
  #afterReturn = false;  // the last piece ended in CR: an LF that begins the next one belongs to it

  /** Returns the events that `text` completes, `{ type, data }` each. */
  push(text) {
    const found = [];
    if (!text) return found;
    if (this.#afterReturn && text.startsWith("\n")) text = text.slice(1);
    this.#afterReturn = text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    for (const line of lines) {
      if (line) this.#field(line);
      else {
        if (this.#data.length) found.push({ type: this.#type || "message", data: this.#data.join("\n") });
        this.#data = [];
        this.#type = "";
      }
    }
    return found;
  }

  #field(line) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;  // `id` and `retry` are for reconnecting: an answer is not resumed
  }
}

/** Yields the events of a response's body. One event cut off at the end is dropped, as the standard wants it. */
export async function* events(body) {
  // A character's bytes may be cut in two by the network: with `stream`, the decoder keeps the first half.
  const decoder = new TextDecoder(), parser = new EventParser(), reader = body.getReader();
  try {
    // The next piece is read when the caller has dealt with the last one. If it is slow, the socket's buffer fills, and
    // the server holds the engine: backpressure needs no more than not to read ahead.
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      yield* parser.push(decoder.decode(piece.value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});  // who leaves the loop early closes the connection, so that the engine stops
  }
}

/**
 * Asks for a chat completion and yields its chunks, decoded. Throws `ChatError`, and what `signal` was aborted with.
 *
 * `fields`: the request's body. `headers`: further ones. `onHead(response)`: its headers are here, no text yet.
 * `onWait(seconds, error)`: it was refused with 429 or 503 and is sent again after so long, `tries` times in all.
 */
export async function* streamChat(fields, { url = "/v1/chat/completions", key, headers, signal, tries = 4, onHead, onWait } = {}) {
  const response = await ask(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }), ...headers },
    body: JSON.stringify({ stream_options: { include_usage: true }, ...fields, stream: true }),
    signal,  // and no `cache`: "no-store" makes the browser send "cache-control: no-cache", which asks for a fresh answer
  }, tries, onWait);
  onHead?.(response);
  const kind = response.headers.get("content-type") ?? "";
  if (!kind.startsWith("text/event-stream")) {
    response.body?.cancel();
    throw new ChatError(`expected an event stream, got ${kind || "something without a type"}`);
  }
  let complete = false;
  try {
    for await (const { data } of events(response.body)) {
      // After [DONE] the body is read to its end all the same: else the connection could not be used again.
      if (data === "[DONE]") complete = true;
      if (complete) continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ChatError(chunk.error.message, chunk.error);  // status 200 was sent long ago
      yield chunk;
    }
  } catch (error) {
    if (signal?.aborted || error instanceof ChatError) throw error;
    throw new ChatError(error instanceof SyntaxError ? "the stream holds something that is not JSON" : "the connection broke in mid-answer");
  }
  if (!complete) throw new ChatError("the answer ended early");  // without this a cut-off answer looks like a short one
}

/** Returns the new text in a chunk, "" if it has none. */
export const textOf = chunk => chunk.choices?.[0]?.delta?.content ?? "";

const LONGEST_WAIT = 60;  // seconds; who has to wait longer is told so

async function ask(url, request, tries, onWait) {
  for (let tried = 1; ; tried++) {
    const response = await fetch(url, request).catch(error => {
      if (request.signal?.aborted) throw error;
      throw new ChatError("the server does not answer");
    });
    if (response.ok) return response;
    const error = await refusal(response);
    // Without an order the wait is drawn from a range that doubles, so that many clients do not come back at once
    // (AWS Architecture Blog, "Exponential Backoff and Jitter"). Only these two say that nothing was done yet.
    const wait = error.retryAfter ?? Math.random() * Math.min(8, 2 ** (tried - 1));
    if ((response.status !== 429 && response.status !== 503) || tried >= tries || wait > LONGEST_WAIT) throw error;
    onWait?.(wait, error);
    await pause(wait, request.signal);
  }
}

/** Returns what a refused request was told: OpenAI's envelope, or the bare status where a proxy answered. */
async function refusal(response) {
  const told = (await response.json().catch(() => null))?.error;
  const after = response.headers.get("retry-after");  // seconds, or a date (RFC 9110, 10.2.3)
  const seconds = after === null ? NaN : /^\d+$/.test(after) ? Number(after) : (Date.parse(after) - Date.now()) / 1e3;
  return new ChatError(told?.message ?? `the server answered with status ${response.status}`, {
    ...told, status: response.status, retryAfter: Number.isNaN(seconds) ? null : Math.max(0, seconds),
    requestId: response.headers.get("x-request-id") ?? "",
  });
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => { clearTimeout(timer); reject(signal.reason); };
    const timer = setTimeout(() => { signal?.removeEventListener("abort", stop); resolve(); }, 1e3 * seconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
