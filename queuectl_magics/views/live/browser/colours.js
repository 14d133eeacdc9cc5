// Colours of a terminal, as spans.
//
// What comes in was cleaned by the kernel: of all control sequences only those that set a colour or
// a weight are left. Eight are the theme's, so that they can be read on it; the 256 of the palette
// are brought down to these. The rules here: a background is a tint on which the theme's own text
// can be read, and that text stands on it; unknown codes are passed over, and all text is text.

import { el } from "./dom.js";

const SEQUENCE = /\x1b\[([\d;:]*)m/;
const STYLES = {
  1: ["fontWeight", "bold"], 2: ["opacity", ".75"], 3: ["fontStyle", "italic"],
  4: ["textDecoration", "underline"], 7: ["inverse", "1"], 39: ["color", ""], 49: ["ground", ""],
};

// The theme's for black, red, green, yellow, blue, magenta, cyan; its text's for white.
const themed = (n) => (n % 8 < 7 ? `var(--q${"0423151"[n % 8]})` : "");

function apply(pen, text) {
  const codes = text.split(/[;:]/).map(Number);
  while (codes.length) {
    const code = codes.shift();
    const key = (code >= 40 && code < 50) || code >= 100 ? "ground" : "color";
    if (code === 0) for (const name in pen) pen[name] = "";
    else if (code > 20 && code < 30)
      for (const off of code === 22 ? [1, 2] : [code - 20]) pen[STYLES[off]?.[0]] = "";
    else if (STYLES[code]) pen[STYLES[code][0]] = STYLES[code][1];
    else if (code === 38 || code === 48)
      pen[key] = codes.shift() === 5 ? themed(codes.shift()) : `rgb(${codes.splice(0, 3)})`;
    else if (code >= 30) pen[key] = themed(code % 10);
  }
}

function styleOf({ inverse, ground, ...style }) {
  const below = inverse ? style.color || "var(--text)" : ground;
  const tint = { color: "", background: `color-mix(in srgb, ${below} 25%, var(--ground))` };
  return below ? { ...style, ...tint } : style;
}

// Append `text` to `node`, in the colours that `pen` holds from before.
export function paintText(node, text, pen) {
  text.split(SEQUENCE).forEach((piece, k) => {
    if (k % 2) apply(pen, piece);
    else if (!Object.values(pen).some(Boolean)) node.append(piece);
    else if (piece)
      Object.assign(node.appendChild(el("span", { textContent: piece })).style, styleOf(pen));
  });
}
