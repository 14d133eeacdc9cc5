// Which jobs are shown, and in which order.
//
// The kernel knows nothing of this. The rule here: the default order needs no sorting, one pass
// over all jobs puts each into the box of its state; so it may follow every change.

import { CANCELLED, COMPLETED, DEAD, GONE, ORDER } from "./rows.js";

const NEWEST_FIRST = [DEAD, CANCELLED, COMPLETED];

function matches(rows, n, words) {
  const texts = ["id", "name", "command", "line", "found"];
  const text = words[0] && texts.map((name) => rows[name][n]).join("\n").toLowerCase();
  return words.every((word) =>
    word[0] === "#" ? rows.id[n] === word.slice(1) : text.includes(word));
}

// Return the numbers of the rows to show.
export function arrange(rows, { states, query }) {
  const boxes = [[], [], [], [], [], [], []];
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  for (let n = 0; n < rows.loaded; n++) {
    const state = rows.state[n];
    if (states.size ? !states.has(state) : state === GONE) continue;
    if (matches(rows, n, words)) boxes[state].push(n);
  }
  for (const state of NEWEST_FIRST) boxes[state].reverse();
  return ORDER.flatMap((state) => boxes[state]);
}
