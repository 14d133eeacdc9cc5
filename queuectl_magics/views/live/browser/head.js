// The head of the table: how the queue stands, filters, search, and deeds on all that is shown.
//
// The rule here: a deed on many jobs is asked for twice, and says how many.

import { button, coarse, count, el, set, sign, write } from "./dom.js";
import { CANCELLED, COMPLETED, DEAD, FAILED, FITS, ORDER, PENDING, PROCESSING } from "./rows.js";

const SEGMENTS = [COMPLETED, CANCELLED, DEAD, FAILED, PROCESSING, PENDING];
const STATUS = { silent: "No answer", restarted: "Not live" };
const SURE_MS = 4000;
const RATE_MS = 120000;
const RATE_FROM_MS = 10000;

export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);

function makeSearch(table) {
  const oninput = () => {
    table.view.query = input.value;
    table.tell("find", table.view);
    table.rearrange();
  };
  const input = el("input", {
    type: "search",
    placeholder: "Search name, command, output",
    ariaLabel: "Search command, name or output",
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
  const node = button("", "", () => {
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
      className: timer ? "sure" : "",
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
  const told = perMinute < 10 ? perMinute.toFixed(1) : count(Math.round(perMinute));
  const left = queue.workers && !queue.paused && timeLeft(rows, now, each);
  return `${told}/min` + (left ? ` · ~${coarse(left)} left` : "");
}

// How long all that is left takes, if one in `each` is over: no less than is known of any job, and
// nothing where no job is known to end and none can start.
function timeLeft(rows, now, each) {
  const waits = each * (rows.live - rows.over());
  let left = 0;
  let known = false;
  for (let n = 0; n < rows.loaded; n++) {
    if (!FITS.cancel(rows.state[n])) continue;
    const runs = rows.state[n] === PROCESSING;
    const due = rows.due[n] - now;
    const rest = runs ? rows.rest(n, now) : Math.max(due, waits);
    known ||= runs ? rest : due <= 0;
    left = Math.max(left, rest);
  }
  return known && left;
}

const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

// "3 of 10 over", and what keeps the others from starting.
function summary({ rows, queue: { workers, slots } }) {
  if (rows.loaded < rows.expected || !rows.live) return "";
  const over = `${count(rows.over())} of ${count(rows.live)} over`;
  if (rows.live === rows.over()) return over;
  if (!workers) return `${over} · no worker is running`;
  const busy = Math.min(rows.counts[PROCESSING], slots);
  return `${over} · ${busy} of ${counted(slots, "slot")} busy · ${counted(workers, "worker")}`;
}

function makeChip(table, state) {
  const [word, symbol] = table.looks[state] ?? ["all"];
  const number = el("b");
  const chip = button(`qchip.s${state}`, "", ({ shiftKey }) => table.toggle(state, shiftKey));
  if (symbol) chip.append(sign("i", symbol));
  chip.append(word, number);
  chip.draw = ({ rows, view }) => {
    const jobs = symbol ? rows.counts[state] : rows.live;
    write(number, count(jobs));
    set(chip, { ariaPressed: symbol ? view.states.has(state) : !view.states.size });
    chip.classList.toggle("none", !jobs);
  };
  return chip;
}

export function makeHead(table) {
  const status = el("span.qstatus", { role: "status" });
  const told = el("span.qtold");
  const pace = el("span.qtold.qpace");
  const search = makeSearch(table);
  const pause = button("qpause", "", table.pause);
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
    write(told, summary(table));
    write(pace, table.status === "live" ? rate(table, now) : "");
    set(pause, {
      textContent: queue.paused ? "Resume" : "Pause",
      disabled: table.status === "restarted",
    });
    set(bar, { ariaValueMax: rows.live, ariaValueNow: rows.over() });
    segments.forEach((node, k) => set(node.style, { flexGrow: rows.counts[SEGMENTS[k]] }));
    chips.forEach((chip) => chip.draw(table));
    set(bulk, { hidden: !(view.states.size || view.query) });
    if (!bulk.hidden) deeds.forEach((deed) => deed.draw());
  };
  return head;
}
