// The rows: a few dozen elements that show whichever jobs are in sight.
//
// An element keeps its place modulo their number, so that scrolling fills only the new ones. The
// rule here: nothing moves under a pointer or a reading eye; while the pointer is over the rows, or
// a key was pressed a moment ago, the order holds, and a note says how much has changed.

import { button, coarse, count, duration, el, set, sign, write } from "./dom.js";
import { capital } from "./head.js";
import { deedFor, FITS, PROCESSING } from "./rows.js";

const CELLS = ["state", "job", "command", "attempt", "elapsed", "line", "deed"];
const HEADS = { line: "last line", deed: "" };
const SPARE = 4;
const ROWS_MAX = 12;
const ROWS_MIN = 3;
const KEY_HOLD_MS = 3000;
const SLOW = 1.5;

const makeColumn = (key) =>
  el(`span.c-${key}`, { role: "columnheader", textContent: HEADS[key] ?? key });

function makeRow(table) {
  const parts = {
    state: [sign("i.qsign"), el("span.qword"), el("span.qcause")],
    job: [el("b"), el("span.qname")],
    elapsed: [
      el("span.qtook"),
      el("span.qfar", {}, el("b"), el("span.qleft")),
      el("i.qfill", {}, el("i")),
    ],
    deed: [button("qdeed", "", () => table.deedOn(node.n), { tabIndex: -1 })],
  };
  const cells = CELLS.map((key) => el(`span.c-${key}`, { role: "gridcell" }, ...(parts[key] ?? [])));
  const node = el("div.qrow", { role: "row", id: `q${Math.random()}` }, ...cells);
  node.cell = Object.fromEntries(CELLS.map((key, k) => [key, cells[k]]));
  node.parts = parts;
  node.onclick = ({ target }) => {
    if (target === node.cell.line) table.openLog(node.n);
    else if (target.tagName !== "BUTTON") table.activate(node.n);
  };
  node.ondblclick = () => table.openLog(node.n);
  // A double-click marks no word. (To return false here would take the focus from every click.)
  node.onmousedown = (event) => {
    if (event.detail > 1) event.preventDefault();
  };
  return node;
}

// How long it runs, how far it is or should be, how long it will take; when it is due.
function drawTime({ cell, parts }, { rows }, n, now) {
  const state = rows.state[n];
  const runs = state === PROCESSING;
  const ran = rows.started[n] ? (runs ? now : rows.finished[n]) - rows.started[n] : 0;
  const usual = runs && rows.typical(n);
  const done = runs ? rows.progress[n] : null;
  const known = done !== null;
  const part = Math.min(1, known ? done : usual && ran / usual);
  const slow = !known && part && ran > SLOW * usual;
  const left = runs && rows.rest(n, now);
  const due = rows.due[n] - now;

  let told = ran ? duration(ran, runs) : "";
  if (!runs && FITS.cancel(state))
    told = due > 0 ? `due in ${coarse(due)}` : rows.due[n] ? "due now" : "";
  const [took, far, fill] = parts.elapsed;
  const [percent, rest] = far.children;
  write(took, told);
  const pace = slow ? `×${(ran / usual).toFixed(1)}` : "";
  write(percent, known ? `${Math.round(100 * done)}%` : pace);
  write(rest, left ? `~${coarse(left)} left` : "");
  set(fill, { hidden: !part, className: `qfill${known ? "" : slow ? " slow" : " guess"}` });
  set(fill.firstChild.style, { width: `${(100 * part).toFixed(0)}%` });
  set(cell.elapsed, { title: told + (usual ? ` · typical: ${duration(usual)}` : "") });
}

function drawRow(node, table, place, now) {
  const { rows } = table;
  const n = table.order[place];
  const state = rows.state[n];
  const { cell, parts } = node;
  const [word, symbol] = table.looks[state] ?? ["gone", "·"];
  const chosen = n === table.active;
  const tried = rows.number[n];
  const cause = rows.stopping[n] && state === PROCESSING ? "being stopped" : rows.cause[n] ?? "";
  node.n = n;
  set(node.style, { transform: `translateY(${place * table.rowHeight}px)` });
  set(node, {
    className: `qrow s${state}${chosen ? " active" : ""}`,
    ariaRowIndex: place + 2,
    ariaSelected: chosen,
    hidden: false,
  });
  const texts = [symbol, word, ` ${cause.startsWith(word) ? cause.slice(word.length) : cause}`];
  parts.state.forEach((part, k) => write(part, texts[k]));
  set(cell.state, { title: cause });
  write(parts.job[0], rows.id[n]);
  write(parts.job[1], ` ${rows.name[n]}`);
  set(cell.job, { title: rows.name[n] });
  set(cell.command, { textContent: rows.command[n], title: rows.command[n] });
  set(cell.attempt, {
    textContent: tried ? `${tried}/${rows.allowed[n]}` : "",
    className: `c-attempt${tried > 1 ? " hot" : ""}`,
  });
  const line = [table.narrow && cause, rows.line[n] ?? "…"].filter(Boolean).join(" · ");
  set(cell.line, { textContent: line, title: `${line}\nClick to see the log` });
  drawTime(node, table, n, now);
  const op = deedFor(state);
  set(parts.deed[0], {
    textContent: table.asked.has(n) ? "…" : capital(op),
    ariaLabel: `${op} job ${rows.id[n]}`,
    hidden: !op || table.status === "restarted",
    disabled: !table.may(n),
  });
}

export function makeGrid(table) {
  const heads = el("div.qrow.qheads", { role: "row" }, ...CELLS.map(makeColumn));
  const space = el("div.qspace");
  const empty = el("div.qempty");
  const port = el("div.qport", { role: "rowgroup", onscroll: () => table.paintSoon() }, space, empty);
  const held = (table.held = button("qheld", "", () => grid.release()));
  const values = { tabIndex: 0, role: "grid", ariaLabel: "Jobs" };
  const grid = el("div.qgrid", values, heads, port);
  const pool = [];
  let over = false;
  let keyAt = -KEY_HOLD_MS;
  let tallest = ROWS_MIN;

  grid.port = port;
  grid.noteKey = () => (keyAt = performance.now());
  grid.holds = () => over || performance.now() - keyAt < KEY_HOLD_MS;
  grid.pageRows = () => Math.max(1, Math.floor(port.clientHeight / table.rowHeight) - 1);
  grid.release = () => {
    over = false;
    keyAt = -KEY_HOLD_MS;
    table.rearrange();
  };
  port.onpointerenter = () => (over = true);
  port.onpointerleave = grid.release;

  grid.reveal = (place) => {
    const top = place * table.rowHeight;
    const lowest = Math.max(port.scrollTop, top + table.rowHeight - port.clientHeight);
    port.scrollTop = Math.min(top, lowest);
  };

  // Tall enough for the jobs there have ever been, within limits: a page must not jump.
  grid.layOut = () => {
    const { order, rowHeight, rows } = table;
    tallest = Math.max(tallest, Math.min(ROWS_MAX, rows.live));
    if (grid.tall !== tallest * rowHeight) port.style.height = `${(grid.tall = tallest * rowHeight)}px`;
    set(space.style, { height: `${order.length * rowHeight}px` });
    set(grid, { ariaRowCount: order.length + 1 });
    const why = rows.live ? "No job is like this" : "No jobs yet: %enqueue one";
    write(empty, order.length || rows.loaded < rows.expected ? "" : why);
  };

  grid.inSight = () => {
    const first = Math.floor(port.scrollTop / table.rowHeight) - SPARE;
    const last = Math.ceil((port.scrollTop + port.clientHeight) / table.rowHeight) + SPARE;
    return [Math.max(0, first), Math.min(table.order.length, last)];
  };

  grid.draw = (now) => {
    const [first, end] = grid.inSight();
    while (pool.length < end - first) pool.push(space.appendChild(makeRow(table)));
    const spare = new Set(pool);
    for (let place = first; place < end; place++) {
      const row = pool[place % pool.length];
      spare.delete(row);
      drawRow(row, table, place, now);
      if (row.n === table.active) grid.setAttribute("aria-activedescendant", row.id);
    }
    spare.forEach((row) => set(row, { hidden: true }));
    write(held, `order held · ${count(table.moved)} changed · update`);
    set(held, { hidden: !table.moved || !table.order[1] });
  };
  return grid;
}
