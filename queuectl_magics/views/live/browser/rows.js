// All jobs, as columns, and what is counted over them.
//
// A hundred thousand jobs are fourteen arrays, not a hundred thousand objects, and come as such. The
// rule here: every change goes through `note`, which keeps the counts, the rate and the typical
// durations right.

// The order of `wire.COLUMNS` in Python.
const FIXED = ["id", "name", "command"];
const CHANGING = [
  "state", "number", "allowed", "attempt", "stopping", "started", "finished", "due", "cause",
];
const COLUMNS = [...FIXED, ...CHANGING, "line", "progress"];

// The order of `State` in Python; what was pruned is gone.
export const PENDING = 0;
export const PROCESSING = 1;
export const COMPLETED = 2;
export const FAILED = 3;
export const DEAD = 4;
export const CANCELLED = 5;
export const GONE = 6;

// What runs comes first, then what went wrong, then what waits, then what is over.
export const ORDER = [PROCESSING, FAILED, DEAD, PENDING, CANCELLED, COMPLETED];

// What can be done to a job, by its state.
export const FITS = {
  cancel: (state) => state < COMPLETED || state === FAILED,
  retry: (state) => state > COMPLETED && state < GONE,
};
export const deedFor = (state) => Object.keys(FITS).find((op) => FITS[op](state)) ?? "";

const DURATIONS_MAX = 40;
const ENDS_MAX = 20000;

// "python train.py" of "python train.py --lr 0.1": runs that differ in their options are alike.
const stemOf = (command) => /^\S+ [^-\d\s]\S*(?= |$)/.exec(command)?.[0] ?? command;

export function makeRows() {
  const rows = {};
  const typical = new Map();

  rows.clear = (expected) => {
    for (const name of COLUMNS) rows[name] = [];
    Object.assign(rows, { loaded: 0, live: 0, expected, ends: [], found: [], at: new Map() });
    rows.counts = [0, 0, 0, 0, 0, 0, 0];
    typical.clear();
  };

  rows.add = (columns) => {
    COLUMNS.forEach((name, k) => rows[name].push(...columns[k]));
    for (const id of columns[0]) {
      rows.at.set(id, rows.loaded);
      rows.counts[GONE]++;
      note(rows.loaded++, GONE);
    }
  };

  rows.put = (n, values) => {
    const before = rows.state[n];
    CHANGING.forEach((name, k) => (rows[name][n] = values[k]));
    return note(n, before);
  };

  function note(n, before) {
    const state = rows.state[n];
    rows.counts[before]--;
    rows.counts[state]++;
    rows.live = rows.loaded - rows.counts[GONE];
    if (before !== state && rows.finished[n] && !FITS.cancel(state)) noteEnd(n, state);
    return before !== state;
  }

  // What a job prints; *found* are words of a search that its output holds.
  rows.say = (n, line, progress, found) => {
    rows.line[n] = line;
    rows.progress[n] = progress;
    if (found) rows.found[n] = found;
  };

  rows.drop = (id) => {
    if (rows.at.has(id)) rows.put(rows.at.get(id), [GONE]);
    rows.at.delete(id);
  };

  function noteEnd(n, state) {
    rows.ends.push(rows.finished[n]);
    if (rows.ends.length > 2 * ENDS_MAX) rows.ends.splice(0, ENDS_MAX);
    if (state !== COMPLETED) return;
    // Where both keys are one, each run is in twice, which moves no median.
    for (const key of [rows.command[n], stemOf(rows.command[n])]) {
      const known = typical.get(key) ?? [];
      typical.set(key, known);
      known.median = 0;
      known.push(rows.finished[n] - rows.started[n]);
      if (known.length > DURATIONS_MAX) known.shift();
    }
  }

  // How long this job should take: the median of earlier runs of its command, or of ones like it.
  rows.typical = (n) => {
    const known = typical.get(rows.command[n]) ?? typical.get(stemOf(rows.command[n]));
    if (!known) return 0;
    return (known.median ||= [...known].sort((a, b) => a - b)[known.length >> 1]);
  };

  // How long a job that runs will still take, by its progress or earlier runs; 0 if nobody knows.
  rows.rest = (n, now) => {
    const ran = now - rows.started[n];
    const done = rows.progress[n];
    return Math.max(0, (done === null ? rows.typical(n) : done && ran / done) - ran);
  };

  rows.over = () => rows.counts[COMPLETED] + rows.counts[DEAD] + rows.counts[CANCELLED];
  rows.clear(1);
  return rows;
}
