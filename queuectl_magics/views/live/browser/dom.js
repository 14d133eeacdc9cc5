// Elements, and the few words and numbers that all parts show.
//
// Job text is hostile, so the rule here is the whole defence: text enters the page as the text of a
// node or as a property that cannot run; there is no markup from strings.

export const count = (n) => n.toLocaleString("en-US");

// Set what differs: a table that repaints ten times a second must not touch what stands. What aria
// gives back is text.
export function set(node, values) {
  for (const key in values) if (`${node[key]}` !== `${values[key]}`) node[key] = values[key];
  return node;
}

export const write = (node, textContent) => set(node, { textContent });

// Make an element: el("button.qchip.s1", { title: "…" }, child, "text").
export function el(what, values, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = set(document.createElement(tag), { className: classes.join(" "), ...values });
  node.append(...children);
  return node;
}

export const button = (css, text, onclick, values) =>
  el(`button.${css}`, { type: "button", textContent: text, onclick, ...values });

// What only eyes need: a symbol, a key.
export const sign = (what, text) => el(what, { textContent: text, ariaHidden: "true" });

const two = (n) => String(Math.floor(n)).padStart(2, "0");

// The same words as `words.duration` in Python: a length of time in its two largest units.
export function duration(ms, whole) {
  const s = Math.max(0, ms) / 1000;
  if (s < 9.95 && !whole) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${two((s % 3600) / 60)} min`;
}

// One unit, rounded up: what is left never sounds shorter than it is.
export function coarse(ms) {
  const s = ms / 1000;
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (s >= 2 * size) return `${Math.ceil(s / size)} ${unit}`;
  return `${Math.max(1, Math.ceil(s))} s`;
}
