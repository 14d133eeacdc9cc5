// The head of the table: how the queue stands, filters, search, and deeds on all that is shown.
//
// The rule here: a deed on many jobs is asked for twice, and says how many.

import { button, coarse, count, el, set, sign } from "./dom.js";
import { CANCELLED, COMPLETED, DEAD, FAILED, FITS, ORDER, PENDING, PROCESSING } from "./rows.js";

const SEGMENTS = [COMPLETED, CANCELLED, DEAD, FAILED, PROCESSING, PENDING];
const STATUS = { silent: "No answer", restarted: "Not live" };
const SURE_MS = 4000;
const RATE_MS = 120000;
const RATE_FROM_MS = 10000;
const NO_WORKER = "no worker is running";

export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);

function makeSearch(table) {
  const oninput = () => {
    table.view.query = input.value;
    table.tell("find", table.view);
    table.rearrange();
  };
  const input = el("input", {
    type: "search",
    placeholder: "Search ( / )",
    title: "Words of command, name or output, or #id",
    oninput,
  });
  input.clear = () => {
    input.value = "";
    oninput();
  };
  return input;
}

// A button that is asked twice: the first click arms it for a few seconds.
function makeSure(table, op) {
  let timer = 0;
  let jobs = [];
  const calm = () => {
    clearTimeout(timer);
    timer = 0;
    table.paintSoon();
  };
  const node = button("qbutton", "", () => {
    if (timer) table.act(op, jobs);
    if (timer) return calm();
    timer = setTimeout(calm, SURE_MS);
    table.paintSoon();
  });
  node.draw = () => {
    if (!timer) jobs = table.order.filter((n) => FITS[op](table.rows.state[n]));
    const what = `${capital(op)} ${count(jobs.length)}`;
    set(node, {
      textContent: timer ? `${what}: sure?` : what,
      hidden: !jobs.length,
      className: `qbutton${timer ? " sure" : ""}`,
    });
  };
  return node;
}

// "12/min · 3 min left": by the jobs that ended in the last two minutes.
function rate({ rows, queue }, now) {
  const ends = rows.ends.filter((end) => now - end < RATE_MS);
  if (ends.length < 2) return "";
  const each = Math.max(RATE_FROM_MS, now - Math.min(...ends)) / ends.length;
  const perMinute = 60000 / each;
  const left = queue.workers && !queue.paused && rows.live - rows.over();
  const told = perMinute < 10 ? perMinute.toFixed(1) : count(Math.round(perMinute));
  return `${told}/min` + (left ? ` · ~${coarse(left * each)} left` : "");
}

// "3 of 10 over", or what keeps everything from starting.
function summary({ rows, queue }) {
  if (rows.loaded < rows.expected || !rows.live) return "";
  const over = `${count(rows.over())} of ${count(rows.live)} over`;
  return rows.live > rows.over() && queue.workers === 0 ? `${over} · ${NO_WORKER}` : over;
}

function makeChip(table, state) {
  const [word, symbol] = table.looks[state] ?? ["all"];
  const number = el("b");
  const chip = button(`qchip.s${state}`, "", ({ shiftKey }) => table.toggle(state, shiftKey));
  if (symbol) chip.append(sign("i", symbol));
  chip.append(word, number);
  chip.draw = ({ rows, view }) => {
    const jobs = symbol ? rows.counts[state] : rows.live;
    set(number, { textContent: count(jobs) });
    set(chip, { ariaPressed: String(symbol ? view.states.has(state) : !view.states.size) });
    chip.classList.toggle("none", !jobs);
  };
  return chip;
}

export function makeHead(table) {
  const status = el("span.qstatus", { role: "status" });
  const told = el("span.qtold");
  const pace = el("span.qtold.qpace");
  const search = makeSearch(table);
  const pause = button("qbutton", "", table.pause);
  const segments = SEGMENTS.map((state) => el(`i.s${state}`));
  const bar = el("div.qbar", { role: "progressbar", ariaLabel: "Jobs that are over" }, ...segments);
  const chips = ["all", ...ORDER].map((state) => makeChip(table, state));
  const deeds = Object.keys(FITS).map((op) => makeSure(table, op));
  const bulk = el("span.qbulk", {}, ...deeds);
  const head = el(
    "div.qhead", {},
    el("div.qtop", {}, status, el("b.qtitle", { textContent: table.title }), told, pace,
      el("label.qsearch", {}, search), pause),
    bar,
    el("div.qchips", { role: "group", ariaLabel: "Show only jobs in these states" }, ...chips, bulk));
  head.search = search;
  head.draw = (now) => {
    const { queue, rows, view } = table;
    const shown = table.status === "live" && queue.paused ? "paused" : table.status;
    set(status, { className: `qstatus is-${shown}`, textContent: STATUS[shown] ?? capital(shown) });
    set(told, { textContent: summary(table) });
    set(pace, { textContent: table.status === "live" ? rate(table, now) : "" });
    set(pause, {
      textContent: queue.paused ? "Resume" : "Pause",
      disabled: table.status === "restarted",
    });
    set(bar, { ariaValueMax: String(rows.live), ariaValueNow: String(rows.over()) });
    segments.forEach((node, k) => set(node.style, { flexGrow: String(rows.counts[SEGMENTS[k]]) }));
    chips.forEach((chip) => chip.draw(table));
    set(bulk, { hidden: !(view.states.size || view.query) });
    if (!bulk.hidden) deeds.forEach((deed) => deed.draw());
  };
  return head;
}
