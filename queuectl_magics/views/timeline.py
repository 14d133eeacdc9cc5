"""Who ran when, and in which slot: a picture with time from left to right.

Above, a line per slot with the attempts that ran in it, so that idle slots are seen at once; then
a line per job with its waiting, its attempts and its backing off. It is one SVG with no script, so
it needs no server and survives an export; the same as text is beside it. The rules here: thickness
and dashes tell the kinds apart, not colour alone; a slot is a place in the picture, given to the
attempts in the order in which they began; every text is cleaned and escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from html import escape

import msgspec

from queuectl_magics.job import TERMINAL, JobRecord, State
from queuectl_magics.job import WAITING as STILL_WAITING
from queuectl_magics.views.markup import TOGETHER
from queuectl_magics.views.status import ASKED_FIRST, Status, choose
from queuectl_magics.views.style import STYLE
from queuectl_magics.views.text import line as line_of
from queuectl_magics.views.words import (
    LOOKS,
    RESET,
    cells,
    counted,
    duration,
    heading,
    one_line,
    shorten,
    stamp,
)

WAITING, RUNNING, BACKING_OFF = "waiting", "running", "backing off"

JOBS_MAX = 40
RAN_FIRST = (*(state for state in ASKED_FIRST if state is not State.PENDING), State.PENDING)
SLOTS_MAX = 16
WIDTH, LABEL, RIGHT = 900, 170, 10
LANE, ROW, TOP = 24, 20, 22
CELLS_MIN = 20
LABEL_CELLS = 24
STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400, 604_800)
TICKS_MAX = 7
CHAR_PX = 6.5


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A job did one thing from `start` to `end`.

    Attributes:
        job: its id.
        kind: `waiting`, `running` or `backing off`.
        outcome: of an attempt: the state it led to; `processing` while it runs.
        slot: of an attempt: where it ran, from 1.

    """

    job: str
    kind: str
    start: datetime
    end: datetime
    outcome: State | None = None
    slot: int | None = None


def spans_of(jobs: Sequence[JobRecord], now: datetime) -> list[Span]:
    """Return what the *jobs* did until *now*, job by job, oldest first."""
    found = [span for job in jobs for span in _spans(job, now)]
    free_at: list[datetime] = []
    slots: dict[int, int] = {}
    running = [n for n, span in enumerate(found) if span.kind == RUNNING]
    for n in sorted(running, key=lambda n: found[n].start):
        span = found[n]
        slot = next((s for s, at in enumerate(free_at) if at <= span.start), len(free_at))
        free_at[slot : slot + 1] = [span.end]
        slots[n] = slot + 1
    return [msgspec.structs.replace(span, slot=slots.get(n)) for n, span in enumerate(found)]


def _spans(job: JobRecord, now: datetime) -> Iterator[Span]:
    at, due_at = job.created_at, None
    attempts = [attempt for attempt in job.all_attempts() if attempt.started_at]
    for attempt in attempts:
        start = attempt.started_at or at
        yield from _gap(job, at, start, due_at)
        is_last = attempt is attempts[-1]
        end = attempt.finished_at or (now if is_last else start)
        outcome = State.COMPLETED if attempt.exit_code == 0 else State.FAILED
        if is_last and job.state is not State.PENDING:
            outcome = job.state
        at, due_at = max(start, end), attempt.due_at
        yield Span(job=job.id, kind=RUNNING, start=start, end=at, outcome=outcome)
    if job.state in STILL_WAITING:
        yield from _gap(job, at, now, due_at)


def _gap(
    job: JobRecord, start: datetime, end: datetime, due_at: datetime | None
) -> Iterator[Span]:
    """Yield the backing off until *due_at*, and then the waiting for a slot."""
    if due_at is not None and start < (until := min(due_at, end)):
        yield Span(job=job.id, kind=BACKING_OFF, start=start, end=until)
        start = until
    if start < end:
        yield Span(job=job.id, kind=WAITING, start=start, end=end)


class Timeline:
    """What the jobs of *status* did, to be looked at.

    Args:
        status: the picture of the queue.
        plain: say nothing that differs from run to run: no picture, and of each job that is over
            how its attempts ended.

    Example:
        `Timeline(queue.status())` as the last line of a cell, or `print` it.

    """

    def __init__(self, status: Status, *, plain: bool = False) -> None:
        self._status = status
        self._plain = plain
        self._jobs = choose(status.jobs, JOBS_MAX, RAN_FIRST)
        self.spans = spans_of(status.jobs, status.now)
        shown = {job.id for job in self._jobs}
        self._rows = {id: [span for span in self.spans if span.job == id] for id in shown}
        kept = [span for id in shown for span in self._rows[id]]
        self.start = min((span.start for span in kept), default=status.now)
        latest = max((span.end for span in kept), default=status.now)
        self.end = max(latest, self.start + timedelta(seconds=1))

    def _part(self, moment: datetime) -> float:
        """Return where *moment* lies between start (0) and end (1)."""
        part = (moment - self.start) / (self.end - self.start)
        return min(1.0, max(0.0, part))

    # --- as text ------------------------------------------------------------------------------

    def text(self, *, width: int = 80, colour: bool = False) -> str:
        """Return a line a job: `·` waiting, `█` running, `░` backing off, then its state."""
        if not self._jobs:
            return "No jobs."
        if self._plain:
            return "\n".join([*map(self._outcomes, self._jobs), *self._left_out()])
        titles = [shorten(f"{job.id} {heading(job)}", LABEL_CELLS) for job in self._jobs]
        label = max(map(cells, titles))
        room = max(CELLS_MIN, width - label - 6)
        total = duration((self.end - self.start).total_seconds())
        lines = [f"{stamp(self.start)}, then {total}"]
        for job, title in zip(self._jobs, titles, strict=True):
            sign = LOOKS[job.state].symbol
            if colour:
                sign = f"\x1b[{LOOKS[job.state].sgr}m{sign}{RESET}"
            pad = " " * (label - cells(title))
            lines.append(f"{title}{pad}  {self._bar(job, room)} {sign}")
        lines.append(f"{' ' * label}  · {WAITING}  █ {RUNNING}  ░ {BACKING_OFF}")
        return "\n".join([*lines, *self._left_out()])

    def _bar(self, job: JobRecord, room: int) -> str:
        bar = [" "] * room
        for span in self._rows[job.id]:
            first, last = int(self._part(span.start) * room), int(self._part(span.end) * room)
            for cell in range(min(first, room - 1), min(max(last, first + 1), room)):
                bar[cell] = SIGNS[span.kind]
        return "".join(bar)

    def _outcomes(self, job: JobRecord) -> str:
        """Return the line of a job without its times: 'job · train · failed, completed'."""
        ended = job.state in TERMINAL
        outcomes = [span.outcome for span in self._rows[job.id] if span.outcome and ended]
        line = line_of(job, self._status.now, plain=True)
        return f"{line} · {', '.join(outcomes)}" if outcomes else line

    def _left_out(self) -> list[str]:
        others = len(self._status.jobs) - len(self._jobs)
        return [f"… and {counted(others, 'other job')}"] if others else []

    def __repr__(self) -> str:
        return self.text()

    # --- as a picture -------------------------------------------------------------------------

    def _repr_html_(self) -> str | None:
        if self._plain:
            return None
        if not self._jobs:
            return f'<div class="qm">{STYLE}<p>No jobs.</p></div>'
        lanes, lane_end = self._lanes()
        rows, bottom = self._job_rows(lane_end + 14)
        body = f"{self._axis(bottom)}{lanes}{rows}"
        what = f"Timeline of {counted(len(self._jobs), 'job')} from {stamp(self.start)}"
        svg = (
            f'<svg class="qm-time" viewBox="0 0 {WIDTH} {bottom + 8}" role="img" '
            f'aria-label="{escape(what)}" xmlns="http://www.w3.org/2000/svg">{body}</svg>'
        )
        told = " · ".join([f"{what} to {stamp(self.end)}", *self._left_out()])
        as_text = f"<details><summary>as text</summary><pre>{escape(self.text())}</pre></details>"
        legend = _legend(span for rows in self._rows.values() for span in rows)
        caption = f'<p class="qm-quiet">{legend}{escape(told)}</p>'
        return f'<div class="qm">{STYLE}{PICTURE_STYLE}{svg}{caption}{as_text}</div>'

    def _x(self, moment: datetime) -> float:
        return round(LABEL + self._part(moment) * (WIDTH - LABEL - RIGHT), 1)

    def _axis(self, bottom: int) -> str:
        total_s = (self.end - self.start).total_seconds()
        step_s = next((s for s in STEPS_S if total_s / s <= TICKS_MAX), STEPS_S[-1])
        parts = []
        for number in range(int(total_s / step_s) + 1):
            x = self._x(self.start + timedelta(seconds=number * step_s))
            parts.append(f'<path class="qm-tick" d="M{x} {TOP - 4}V{bottom}"/>')
            anchor = "start" if number == 0 else "middle"
            if x < WIDTH - LABEL / 5:
                told = duration(number * step_s).replace(".0 s", " s").replace(" 00 s", "")
                parts.append(f'<text x="{x}" y="12" text-anchor="{anchor}">{told}</text>')
        return "".join(parts)

    def _lanes(self) -> tuple[str, int]:
        """Return a line a slot, and where they end."""
        ran: dict[int, list[Span]] = {}
        for span in self.spans:
            if span.slot is not None and span.slot <= SLOTS_MAX and span.end >= self.start:
                ran.setdefault(span.slot, []).append(span)
        parts = []
        for lane, (slot, spans) in enumerate(sorted(ran.items())):
            y = TOP + lane * LANE
            shown = [span for span in spans if span.job in self._rows]
            others = [span for span in spans if span.job not in self._rows]
            parts.append(f'<text x="0" y="{y + 15}">slot {slot}</text>')
            parts += [self._others(others, y + 2 + (LANE - 6) // 2)]
            parts += [self._attempt(span, y + 2, LANE - 6) for span in shown]
        return "".join(parts), TOP + len(ran) * LANE

    def _others(self, spans: Sequence[Span], y: int) -> str:
        """Return one grey line for all attempts of a slot whose jobs have no line of their own."""
        pieces: list[list[float]] = []
        for start, end in sorted((self._x(span.start), self._x(span.end)) for span in spans):
            if pieces and start <= pieces[-1][1] + 1:
                pieces[-1][1] = max(end, pieces[-1][1])
            else:
                pieces.append([start, max(end, start + 1)])
        drawn = "".join(f"M{start} {y}H{end}" for start, end in pieces)
        title = f"<title>{counted(len(spans), 'attempt')} of other jobs</title>"
        return f'<path class="qm-others" d="{drawn}">{title}</path>' if drawn else ""

    def _job_rows(self, top: int) -> tuple[str, int]:
        """Return a line a job, and where they end."""
        parts = []
        for row, job in enumerate(self._jobs):
            y = top + row * ROW
            title = shorten(f"{job.id} {heading(job)}", LABEL_CELLS)
            parts.append(f'<text x="0" y="{y + 14}">{escape(title)}</text>')
            for span in self._rows[job.id]:
                if span.kind == RUNNING:
                    parts.append(self._attempt(span, y + 4, ROW - 8))
                    continue
                css = "qm-wait" if span.kind == WAITING else "qm-back"
                line = f"M{self._x(span.start)} {y + 10}H{self._x(span.end)}"
                parts.append(f'<path class="{css}" d="{line}">{_tip(span)}</path>')
        return "".join(parts), top + len(self._jobs) * ROW

    def _attempt(self, span: Span, y: int, height: int) -> str:
        x, end = self._x(span.start), self._x(span.end)
        width = max(2.0, round(end - x, 1))
        css = LOOKS[span.outcome or State.PROCESSING].css
        box = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="2"'
        name = one_line(span.job)
        inside = f'<text class="qm-in" x="{x + 4}" y="{y + height - 5}">{escape(name)}</text>'
        fits = height > ROW - 8 and width > 8 + CHAR_PX * cells(name)
        bar = f'<rect class="qm-run" {box}>{_tip(span)}</rect>'
        return f'<g class="{css}">{bar}{inside if fits else ""}</g>'


SIGNS = {WAITING: "·", RUNNING: "█", BACKING_OFF: "░"}
_BAR = '<rect class="qm-run" width="24" height="10" rx="2"/>'
_LINES = {WAITING: "qm-wait", BACKING_OFF: "qm-back"}


def _legend(spans: Iterable[Span]) -> str:
    """Return the key to the kinds and outcomes that are to be seen among *spans*."""
    spans = list(spans)
    kinds = {span.kind for span in spans}
    outcomes = {span.outcome for span in spans}
    keys = [
        (kind, "", f'<path class="{css}" d="M0 5H24"/>')
        for kind, css in _LINES.items()
        if kind in kinds
    ]
    keys += [
        (RUNNING if state is State.PROCESSING else state.value, look.css, _BAR)
        for state, look in LOOKS.items()
        if state in outcomes
    ]
    return "".join(
        f'<span {TOGETHER}><svg class="qm-key {css}" viewBox="0 0 24 10">{key}</svg> '
        f"{told}</span> "
        for told, css, key in keys
    )


PICTURE_STYLE = (
    "<style>.qm-time{display:block;width:100%;max-width:1100px;min-width:800px;height:auto}"
    ".qm:has(>.qm-time){overflow-x:auto}"
    ".qm-time text{font-size:12px;fill:currentColor}"
    ".qm-time .qm-in{fill:var(--jp-layout-color1,var(--vscode-editor-background,#fff));"
    "font-size:11px;font-weight:600;pointer-events:none}"
    ".qm-run{fill:var(--qm-s)}.qm-tick{stroke:currentColor;stroke-opacity:.13;fill:none}"
    ".qm-wait,.qm-back{stroke:currentColor;stroke-opacity:.55;stroke-width:2;fill:none}"
    ".qm-back{stroke-dasharray:3 3;stroke-width:4}"
    ".qm-others{stroke:currentColor;stroke-opacity:.3;stroke-width:18;fill:none}"
    ".qm-key{width:24px;height:10px}</style>"
)


def _tip(span: Span) -> str:
    took = duration((span.end - span.start).total_seconds())
    how = f" ({span.outcome}, slot {span.slot})" if span.outcome else ""
    return f"<title>{escape(one_line(span.job))}: {span.kind} {took}{how}</title>"
