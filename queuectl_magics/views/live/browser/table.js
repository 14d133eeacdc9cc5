// The live table: what the kernel says goes in, what a person does goes out.
//
// Messages are taken one after another, for unpacking takes a moment and order is everything. The
// rules here: a gap in their numbers is mended with a new snapshot; all painting happens in one
// place, at most once a frame and only in sight; and when the kernel is gone the table says so and
// stands still.

import { count, el, set, sign } from "./dom.js";
import { makeGrid } from "./grid.js";
import { makeHead } from "./head.js";
import { makeLog } from "./log.js";
import { arrange } from "./order.js";
import { makeRoad, random } from "./road.js";
import { deedFor, FITS, makeRows } from "./rows.js";

const BEAT_MS = 8000;
const CLOCK_MS = 1000;
const ARRANGE_MS = 400;
const COST_MAX = 10;
const MEND_MS = 300;
const LOOK_MS = 200;
const TOAST_MS = 4000;
const ASKED_MS = 10000;
const NARROW_PX = 780;
const ROW_PX = 30;
const ROW_NARROW_PX = 52;
const GONE_WORDS = /restarting|dead|terminating/;
const RESTARTED = "Kernel restarted: run the cell to go live again";
const LATE = "The kernel is busy: this happens when its cell ends";
const DONE = { cancel: "Cancelled", retry: "Retried" };
const KEYS = "↑↓ move   ⏎ log   c c cancel   r retry   / search";

async function unpack(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// --- what comes from the kernel ---------------------------------------------------------------

function makeEar(table, view, answered) {
  const { rows } = table;
  let number = 0;
  let epoch = "";
  let mending = 0;
  let queue = Promise.resolve();

  const mend = () => {
    number = 0;
    clearTimeout(mending);
    mending = setTimeout(() => table.tell("hello"), MEND_MS);
  };

  async function takeSnapshot(message, packed) {
    const columns = Object.values(await unpack(packed));
    if (!message.first) {
      table.keepPlace();
      rows.clear(message.count);
      ({ number, epoch } = message);
    } else if (message.number !== number) return;
    rows.add(columns);
    if (rows.loaded >= message.count) table.findPlace();
    table.rearrange();
  }

  async function takeDelta(message, packed) {
    const { new: added = [], changed = [], said = [], gone = [] } = await unpack(packed);
    if (!number) return;
    if (message.epoch !== epoch || message.number !== number + 1) return mend();
    number = message.number;
    let moved = added.length + gone.length;
    // First what is gone: its id may have been given to another job since.
    gone.forEach(rows.drop);
    for (const values of added) rows.add(values.map((value) => [value]));
    for (const [id, ...values] of changed) {
      const n = rows.at.get(id);
      table.asked.delete(n);
      moved += rows.put(n, values);
    }
    for (const [id, ...words] of said) {
      if (rows.at.has(id)) rows.say(rows.at.get(id), ...words);
      if (words[2]) table.rearrange();
    }
    if (moved || table.view.query) table.noteMoved(moved);
    table.paintSoon();
  }

  async function take(message, packed) {
    if (message.now) table.skew = Date.now() - message.now;
    if (message.queue) table.queue = message.queue;
    if (message.kind === "snapshot") await takeSnapshot(message, packed);
    if (message.kind === "delta") await takeDelta(message, packed);
    if (message.kind === "log" && message.view === view) table.log.hear(message);
    if (message.kind === "trouble") table.toast(`The queue cannot be read: ${message.text}`);
  }

  return (message, buffers) => {
    if (table.status !== "restarted") table.status = "live";
    if (message.kind === "answer") return answered(message);
    queue = queue.then(() => take(message, buffers?.[0])).catch((error) => {
      console.error("queuectl_magics:", error);
      mend();
    });
  };
}

// --- what a person does -----------------------------------------------------------------------

function addDeeds(table, ask) {
  const { rows } = table;

  table.tell = (op, content) =>
    ask(op, content).catch(() => {
      if (table.status === "live") table.status = "silent";
      table.paintSoon();
      return {};
    });

  table.may = (n) => !table.asked.has(n) && !rows.stopping[n] && table.status !== "restarted";

  table.act = async (op, numbers) => {
    const jobs = numbers.filter((n) => table.may(n) && FITS[op](rows.state[n]));
    if (!jobs.length) return;
    const forget = () => {
      jobs.forEach((n) => table.asked.delete(n));
      table.paintSoon();
    };
    jobs.forEach((n) => table.asked.add(n));
    setTimeout(forget, ASKED_MS);
    table.paintSoon();
    const { error, count: done } = await table.tell(op, { jobs: jobs.map((n) => rows.id[n]) });
    if (error || done === 0) forget();
    const what = done === 1 && jobs.length === 1 ? `job ${rows.id[jobs[0]]}` : `${count(done ?? 0)} jobs`;
    if (error || done !== undefined) table.toast(error ?? `${DONE[op]} ${what}`);
  };

  table.deedOn = (n) => table.act(deedFor(rows.state[n]), [n]);

  table.pause = async () => {
    const { error } = await table.tell(table.queue.paused ? "resume" : "pause");
    if (error) table.toast(error);
  };

  table.activate = (n) => {
    table.active = n;
    if (table.log.n >= 0 && table.log.n !== n) table.log.open(n);
    table.paintSoon();
  };

  table.openLog = (n) => {
    table.activate(n);
    table.log.open(n);
  };
}

function addKeys(table, root, toast) {
  const { grid, head, rows, view } = table;

  const move = (step) => {
    const { length } = table.order;
    const place = table.order.indexOf(table.active);
    const next = Math.max(0, Math.min(length - 1, place < 0 ? 0 : place + step));
    if (!length) return;
    table.activate(table.order[next]);
    grid.reveal(next);
  };
  const steps = () => ({
    ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, Home: -1e9, End: 1e9,
    PageDown: grid.pageRows(), PageUp: -grid.pageRows(),
  });
  const deeds = {
    Enter: (n) => table.openLog(n),
    c: (n) => {
      const question = `c again to cancel ${rows.id[n]}`;
      if (!toast.hidden && toast.textContent === question) table.act("cancel", [n]);
      else if (FITS.cancel(rows.state[n]) && table.may(n)) table.toast(question);
    },
    r: (n) => table.act("retry", [n]),
  };

  // Each says whether the key was meant for it.
  function inGrid(key) {
    grid.noteKey();
    const step = steps()[key];
    if (step) move(step);
    else if (key === "u") grid.release();
    else if (deeds[key] && table.active >= 0) deeds[key](table.active);
    else return false;
    return true;
  }

  function inSearch(key) {
    if (key === "Escape") head.search.clear();
    const leaves = ["Escape", "Enter", "ArrowDown"].includes(key);
    if (leaves) grid.focus({ preventScroll: true });
    return leaves;
  }

  function anywhere(key) {
    if (key === "/") head.search.focus();
    else if (key === "Escape" && table.log.n >= 0) table.log.close();
    else if (key === "Escape" && view.states.size) table.toggle("all");
    else return false;
    return true;
  }

  root.onkeydown = (event) => {
    const { key, target } = event;
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.repeat && key === "c") return;
    const meant =
      target === head.search ? inSearch(key) : anywhere(key) || (target === grid && inGrid(key));
    if (meant) event.preventDefault();
  };
}

// --- what is shown ----------------------------------------------------------------------------

function addView(table, root) {
  const { rows, view } = table;
  let dirty = true;
  let forced = true;
  let arrangedAt = 0;
  let cost = 0;
  let frame = 0;
  let later = 0;
  let looking = 0;
  let kept = {};

  table.rearrange = () => {
    dirty = forced = true;
    table.paintSoon();
  };
  table.noteMoved = (moved) => {
    dirty = true;
    table.moved += moved;
  };
  table.toggle = (state, add) => {
    const had = view.states.has(state);
    if (!add) view.states.clear();
    if (state !== "all") view.states[had ? "delete" : "add"](state);
    table.rearrange();
  };

  // A new snapshot numbers the rows anew: keep what is active and open by its id.
  table.keepPlace = () => (kept = { active: rows.id[table.active], open: rows.id[table.log.n] });
  table.findPlace = () => {
    const find = (id) => rows.at.get(id) ?? -1;
    table.asked.clear();
    table.active = find(kept.active);
    table.log.n = find(kept.open);
    if (table.log.n >= 0) table.log.open(table.log.n);
  };

  function arrangeNow() {
    const began = performance.now();
    table.order = arrange(rows, view);
    dirty = forced = false;
    table.moved = 0;
    arrangedAt = performance.now();
    cost = arrangedAt - began;
    table.grid.layOut();
  }

  // Ask for the last lines of the jobs in sight that the kernel has not read yet.
  function look() {
    const unread = table.order.slice(...table.grid.inSight()).filter((n) => rows.line[n] === null);
    if (unread.length) table.tell("look", { jobs: unread.map((n) => rows.id[n]) });
  }

  function paint() {
    frame = 0;
    const now = Date.now() - table.skew;
    const wait = Math.max(ARRANGE_MS, COST_MAX * cost) - (performance.now() - arrangedAt);
    const held = table.grid.holds() && rows.loaded >= rows.expected;
    if (!held) table.moved = 0;
    if (dirty && (forced || (!held && wait <= 0))) arrangeNow();
    clearTimeout(later);
    if (dirty) later = setTimeout(table.paintSoon, Math.max(ARRANGE_MS, wait));
    for (const part of [table.head, table.grid, table.log]) part.draw(now);
    clearTimeout(looking);
    looking = setTimeout(look, LOOK_MS);
  }

  table.paintSoon = () => {
    if (!frame && table.inView) frame = requestAnimationFrame(paint);
  };
  table.fitWidth = () => {
    const { port } = table.grid;
    table.narrow = root.classList.toggle("narrow", root.clientWidth < NARROW_PX);
    const height = table.narrow ? ROW_NARROW_PX : ROW_PX;
    root.style.setProperty("--gutter", `${port.offsetWidth - port.clientWidth}px`);
    // What grows because a log was opened keeps its order.
    if (table.rowHeight !== height) table.rearrange();
    table.rowHeight = height;
    table.paintSoon();
  };
}

function makeToast(table) {
  const toast = el("div.qtoast", { role: "status", hidden: true });
  let timer = 0;
  table.toast = (text) => {
    set(toast, { textContent: text, hidden: false });
    clearTimeout(timer);
    timer = setTimeout(() => set(toast, { hidden: true }), TOAST_MS);
  };
  return toast;
}

function makeTable(model, root) {
  const { title, states: looks } = model.get("about");
  const table = {
    title, looks, rows: makeRows(), order: [], moved: 0, skew: 0, active: -1, asked: new Set(),
    status: "connecting", queue: {}, inView: true, rowHeight: ROW_PX,
    view: { states: new Set(), query: "" },
  };
  const name = random();
  const { ask, hear } = makeRoad(model, name, (op) => DONE[op] && table.toast(LATE));
  addView(table, root);
  addDeeds(table, ask);
  const toast = makeToast(table);
  table.head = makeHead(table);
  table.grid = makeGrid(table);
  table.log = makeLog(table);
  table.note = el("div.qnote", { textContent: RESTARTED, hidden: true });
  root.append(table.head, table.note, table.grid, table.log.node, sign("div.qfoot", KEYS), table.held, toast);
  addKeys(table, root, toast);
  table.hear = makeEar(table, name, hear);
  return table;
}

function render({ model, el: place }) {
  const { title, lease_ms: lease } = model.get("about");
  const root = el("div.qlive", { role: "region", ariaLabel: `Live table of ${title}` });
  root.dataset.lmSuppressShortcuts = "true";
  place.append(root);
  const table = (root.table = makeTable(model, root));
  let heardOf = 0;

  // Say that the table is watched; after a pause, ask for all there is.
  const beat = () => {
    if (!table.inView || document.hidden || table.status === "restarted") return;
    table.tell(Date.now() - heardOf > lease ? "hello" : "beat");
    heardOf = Date.now();
  };
  const tick = () => table.status !== "restarted" && table.paintSoon();
  const onSight = new IntersectionObserver((entries) => {
    table.inView = entries.at(-1).isIntersecting;
    beat();
    table.paintSoon();
  });
  const onSize = new ResizeObserver(table.fitWidth);
  // The kernel we knew is gone: by JupyterLab's word, or by what any widget is told.
  const onGone = () => {
    table.status = "restarted";
    set(table.note, { hidden: false });
    table.paintSoon();
  };
  const kernel = model.widget_manager?.kernel?.statusChanged;
  const onKernel = (_, status) => GONE_WORDS.test(status) && onGone();
  const timers = [setInterval(tick, CLOCK_MS), setInterval(beat, BEAT_MS)];
  onSight.observe(root);
  onSize.observe(root);
  document.addEventListener("visibilitychange", beat);
  model.on("msg:custom", table.hear);
  model.on("comm_live_update", onGone);
  kernel?.connect(onKernel);
  return () => {
    timers.forEach(clearInterval);
    [onSight, onSize].forEach((observer) => observer.disconnect());
    document.removeEventListener("visibilitychange", beat);
    model.off("msg:custom", table.hear);
    model.off("comm_live_update", onGone);
    kernel?.disconnect(onKernel);
    table.inView = false;
  };
}

export default { render };
