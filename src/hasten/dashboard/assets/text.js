// An answer's text as elements: paragraphs and fenced code. Whoever wrote it is a stranger, so all of it goes through
// text nodes; there is no markup that it could bring.

import { el } from "./hasten.js";

/** Cuts text into paragraphs and fenced code (CommonMark, 4.5), `{ code, text, language }` each. A fence may still be open. */
export function blocks(text) {
  const found = [];
  let lines = [], fence = "", language = "";
  const close = code => {
    if (lines.length || code) found.push({ code, text: lines.join("\n"), language });
    lines = [];
  };
  for (const line of text.replaceAll("\r\n", "\n").split("\n")) {
    const [, mark, rest] = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/.exec(line) ?? [];
    if (fence) {
      if (mark?.startsWith(fence) && !rest.trim()) {
        close(true);
        fence = "";
      } else lines.push(line);
    } else if (mark) {
      close(false);
      fence = mark;
      language = rest.trim().split(/\s/)[0];
    } else if (line.trim()) lines.push(line);
    else close(false);
  }
  close(fence !== "");
  return found;
}

/** Shows `text` in `place`. What is there already and did not change is left alone, so that a selection stays. */
export function write(place, text) {
  const now = blocks(text);
  now.forEach((block, i) => {
    const there = place.children[i], tag = block.code ? "PRE" : "P";
    if (there?.tagName === tag) {
      const inner = block.code ? there.lastChild : there;
      if (inner.textContent !== block.text) inner.textContent = block.text;
    } else {
      const fresh = block.code ? el("pre", "", el("code", "", block.text)) : el("p", "", block.text);
      if (block.code) {
        fresh.tabIndex = 0;  // wide code is scrolled by keyboard too
        fresh.setAttribute("aria-label", `code ${block.language}`.trim());
        fresh.setAttribute("role", "region");
      }
      if (there) there.replaceWith(fresh);
      else place.append(fresh);
    }
  });
  while (place.children.length > now.length) place.lastChild.remove();
}
