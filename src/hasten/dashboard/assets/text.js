// An answer's text as elements: paragraphs, fenced code, and in lines code and bold words. Whoever wrote it is a stranger, so all of it goes through
// text nodes; there is no markup that it could bring.

import { el, make } from "./hasten.js";

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

const shown = new WeakMap();  // element: the text it was made of

/** Shows `text` in `place`. What is there already and did not change is left alone, so that a selection stays. */
export function write(place, text) {
  const now = blocks(text);
  now.forEach((block, i) => {
    const there = place.children[i], same = there?.tagName === (block.code ? "PRE" : "P");
    if (same && shown.get(there) === block.text) return;
    const node = same ? there : block.code ? codeBlock(block.language) : el("p");
    if (block.code) node.firstChild.textContent = block.text;
    else node.replaceChildren(...inline(block.text));
    shown.set(node, block.text);
    if (!there) place.append(node);
    else if (!same) there.replaceWith(node);
  });
  while (place.children.length > now.length) place.lastChild.remove();
}

function codeBlock(language) {
  const label = `code ${language}`.trim();
  return make("pre", { tabindex: 0, role: "region", "aria-label": label }, el("code"));  // wide code is scrolled by keyboard too
}

const inline = text => text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part, i) =>
  i % 2 === 0 ? part : part[0] === "`" ? el("code", "", part.slice(1, -1)) : el("strong", "", part.slice(2, -2)));
