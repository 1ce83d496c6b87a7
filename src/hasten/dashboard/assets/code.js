// The request that the playground makes, as curl and as JavaScript.

import { el } from "./hasten.js";

const quoted = text => `'${text.replaceAll("'", "'\\''")}'`;  // for a POSIX shell

/** Returns a headed code block for each of the two. */
export function snippets({ fields, headers }, origin) {
  const { messages, ...rest } = fields, body = { ...rest, stream: true, stream_options: { include_usage: true }, messages };
  const curl = [
    `curl -N ${origin}/v1/chat/completions`,
    `-H 'content-type: application/json' -H "authorization: Bearer $HASTEN_KEY"`,
    ...Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`),
    `-d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join(" \\\n  ");
  const script = [
    `import { streamChat, textOf } from "./stream.js";  // ${origin}/dashboard/assets/stream.js`,
    "",
    "const stop = new AbortController();",
    `const fields = ${JSON.stringify(fields, null, 2)};`,
    `const options = { key, signal: stop.signal${Object.keys(headers).length ? `, headers: ${JSON.stringify(headers)}` : ""} };`,
    "for await (const chunk of streamChat(fields, options)) answer.append(textOf(chunk));",
  ].join("\n");
  return [block("curl", curl), block("JavaScript", script)];
}

function block(title, text) {
  const copy = el("button", "", "Copy"), code = el("pre", "", el("code", "", text));
  copy.type = "button";
  copy.setAttribute("aria-label", `Copy ${title}`);
  copy.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(text);  // absent where the page came over plain HTTP from another machine
    copy.textContent = navigator.clipboard ? "Copied" : "Select it";
  });
  code.tabIndex = 0;
  code.setAttribute("role", "region");
  code.setAttribute("aria-label", title);
  return el("div", "snippet", el("h2", "", title), copy, code);
}
