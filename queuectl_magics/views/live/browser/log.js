// The drawer: one job's output, followed.
//
// The rule here: it follows until the reader scrolls up, and begins again when they ask for it or
// come back to the end; what it shows is what Copy copies.

import { button, el, set, write } from "./dom.js";
import { paintText } from "./colours.js";

const LINES_MAX = 5000;
const NEAR_PX = 12;
const COPIED_MS = 1500;

// The clipboard's own way needs a secure page, which a server on the local network is not.
function copyText(text) {
  const area = el("textarea", { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export function makeLog(table) {
  const { rows } = table;
  const log = { n: -1, attempt: 0 };
  let pen = {};
  let following = true;

  const follow = (on) => {
    following = on;
    if (on) text.scrollTop = text.scrollHeight;
    table.paintSoon();
  };
  const copyAll = () => {
    copyText(`${[...text.children].map((line) => line.textContent).join("\n").trimEnd()}\n`);
    copy.focus();
    write(copy, "Copied");
    setTimeout(() => write(copy, "Copy"), COPIED_MS);
  };
  const showTimes = () => set(times, { ariaPressed: text.classList.toggle("times") });

  const state = el("span.qlogstate");
  const title = el("code.qlogtitle");
  const followed = button("", "Follow", () => follow(!following));
  const times = button("", "Times", showTimes, { title: "When each line was seen here" });
  const copy = button("", "Copy", copyAll);
  const rest = el("div");
  const text = el("pre.qtext", { tabIndex: 0, role: "log", ariaLive: "off" });
  text.onscroll = () => {
    const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < NEAR_PX;
    if (atEnd !== following) follow(atEnd);
  };

  log.open = (n) => {
    const attempt = rows.attempt[n];
    Object.assign(log, { n, attempt });
    log.node.hidden = false;
    text.replaceChildren(rest);
    rest.textContent = attempt ? "" : "This job has not started yet.";
    follow(true);
    if (attempt) table.tell("follow", { job: rows.id[n], attempt });
  };

  log.close = () => {
    log.n = -1;
    log.node.hidden = true;
    table.tell("leave");
    table.grid.focus({ preventScroll: true });
    table.paintSoon();
  };

  const fill = (line, content, ink, seen) => {
    line.textContent = "";
    line.dataset.seen = seen;
    paintText(line, content, ink);
    return line;
  };

  log.hear = ({ job, attempt, begun, lines, rest: last }) => {
    if (job !== rows.id[log.n] || attempt !== log.attempt) return;
    if (!begun) {
      pen = {};
      text.replaceChildren(rest);
    }
    const seen = begun ? new Date().toTimeString().slice(0, 8) : "";
    rest.before(...lines.map((content) => fill(el("div"), content, pen, seen)));
    fill(rest, last, { ...pen }, last && seen);
    while (text.children.length > LINES_MAX) text.firstChild.remove();
    if (following) text.scrollTop = text.scrollHeight;
  };

  log.draw = () => {
    const { n } = log;
    if (n < 0) return;
    if (rows.attempt[n] > log.attempt && following) log.open(n);
    const [word, symbol] = table.looks[rows.state[n]] ?? ["gone", "·"];
    set(state, { className: `qlogstate s${rows.state[n]}`, textContent: `${symbol} ${word}` });
    const named = `${rows.id[n]} ${rows.name[n] || rows.command[n]}`;
    set(title, { textContent: named, title: rows.command[n] });
    set(followed, { ariaPressed: following });
  };

  const close = button("", "×", () => log.close(), { ariaLabel: "Close the log" });
  const bar = el("div.qlogbar", {}, state, title, followed, times, copy, close);
  log.node = el("section.qlog", { hidden: true, ariaLabel: "Output of a job" }, bar, text);
  return log;
}
