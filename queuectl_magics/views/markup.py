"""Jobs as HTML, for notebooks, and for what a notebook is exported to.

The markup must read right when everything around it is gone: no script, no style sheet, no
attributes but the plain ones, years later. So a state is a symbol and its word, an amount is
`<progress>` with its text inside, and a table has a caption and the scope of its headings. The
rule here: no text enters the markup without having been cleaned and escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from queuectl_magics.job import TERMINAL, JobRecord, State
from queuectl_magics.presence import WorkerInfo
from queuectl_magics.views import progress
from queuectl_magics.views.reason import brief
from queuectl_magics.views.status import Status, choose
from queuectl_magics.views.style import STYLE
from queuectl_magics.views.text import ATTEMPT_HEADER, ATTEMPT_NUMBERS, attempt_rows, facts
from queuectl_magics.views.words import (
    LOOKS,
    NO_WORKERS,
    ago,
    attempt_number,
    attempts_allowed,
    clean,
    counted,
    duration,
    elapsed_s,
    heading,
    last_lines,
    one_line,
    shorten,
    stamp,
    standing,
)

ROWS_MAX = 60
COMMAND_CELLS_MAX = 160
TAIL_LINES_MAX = 20
TAIL_CELLS_MAX = 1000
TITLE_CELLS_MAX = 80
# For when the sheet is gone: JupyterLab's own puts cells to the right and breaks words apart.
# Its sanitiser lets these two pass.
LEFT = 'style="text-align:left"'
TOGETHER = 'style="white-space:nowrap"'


def line_html(
    record: JobRecord,
    now: datetime,
    tail: str | None = None,
    *,
    why: str | None = None,
    plain: bool = False,
) -> str:
    """Return the one line of a job, with the end of its output to unfold.

    Args:
        record: the job.
        now: the moment for which it is asked.
        tail: the end of its output so far, as it is; at most 20 lines of it are shown.
        why: why it stands there, if more is known than the job itself can tell.
        plain: say nothing that differs from run to run (no id, time, state or output), so that a
            saved notebook can be compared with a new run.

    Example:
        `display(HTML(line_html(record, utc_now(), "epoch 3/10")))`

    """
    if plain:
        return _view(f'<div class="qm-line">job · <code>{_safe(heading(record))}</code></div>')
    said = progress.read(tail or "")
    lines = [shorten(last, TAIL_CELLS_MAX) for last in last_lines(tail, TAIL_LINES_MAX)]
    if last := shorten(said.line, TAIL_CELLS_MAX):
        lines[-1:] = [last]
    time = standing(record, now).removeprefix(record.state.value).strip()
    told = [_safe(time), _safe(brief(record, now) if why is None else why)]
    state = _state(record.state)
    parts = [
        state if record.state in TERMINAL else f"{as_of(now)}{state}</time>",
        f'<span class="qm-who"><b>{_safe(record.id)}</b> {_title(record)}</span>',
        f'<span class="qm-quiet">{" · ".join(filter(None, told))}</span>' if any(told) else "",
        _progress(record, said.progress),
        _tail(lines),
    ]
    return _view(f'<div class="qm-line">{" ".join(part for part in parts if part)}</div>')


def as_of(now: datetime) -> str:
    """Return what an unfinished job's line begins with, to tell when it was so.

    The line may stand in a file that is read a year later. It is told to whoever points at it: a
    line that goes on by itself, beside the moment of its latest news, would look as if it did not.
    """
    return f'<time datetime="{stamp(now)}" title="as of {stamp(now)}">'


def jobs_html(records: Sequence[JobRecord], now: datetime) -> str:
    """Return a table of *records*, without the rest of the queue.

    Of more than 60 it shows those that a person would ask about first: what runs, what failed.

    Example:
        `jobs_html([job], utc_now())`

    """
    if not records:
        return _view("<p>No jobs.</p>")
    shown = choose(records, ROWS_MAX)
    reasons = [brief(record, now) for record in shown]
    return _view(_job_table(shown, reasons, now, len(records)))


def head_html(status: Status) -> str:
    """Return what is asked first of a queue: totals, how many jobs are in each state, who works.

    Example:
        `head_html(status)`

    """
    return _view("".join(_head(status)))


def status_html(status: Status) -> str:
    """Return the picture of a queue: its head, and the jobs.

    Example:
        `status_html(status)`

    """
    parts = _head(status)
    if status.jobs:
        shown = choose(status.jobs, ROWS_MAX)
        reasons = [status.reason(record) for record in shown]
        parts.append(_job_table(shown, reasons, status.now, status.total))
    return _view("".join(parts))


def _head(status: Status) -> list[str]:
    total = f"<b>{counted(status.total, 'job')}</b>"
    amount = f"{status.over:,} of {status.total:,} over"
    bar = _bar(status.over, status.total, amount)
    slots = f"{status.busy} of {counted(status.slots, 'slot')} busy"
    chips = " ".join(_state(state, status.counts.get(state, 0)) for state in State)
    told = f"{amount} · {slots} · {counted(status.workers, 'worker')}"
    told += " · <b>paused</b>" if status.paused else ""
    return [f'<p>{total} {bar} <span class="qm-quiet">{told}</span></p>', f"<p>{chips}</p>"]


def show_html(record: JobRecord, status: Status) -> str:
    """Return everything there is to know about a job, and a table of its attempts.

    Example:
        `show_html(record, status)`

    """
    rows = "".join(
        f'<tr><th scope="row" {LEFT}>{_safe(key)}</th><td class="qm-wrap" {LEFT}>'
        f"{_fact(key, text, record.state)}</td></tr>"
        for key, text in facts(record, status)
    )
    caption = f"<caption>As of {_time(status.now)}</caption>"
    table = f'<table class="qm-facts">{caption}<tbody>{rows}</tbody></table>'
    return _view(table + _attempts(record, status.now))


def bar_html(done: int, total: int, told: str) -> str:
    """Return a bar that is full when *done* is *total*, and *told* beside it.

    Example:
        `bar_html(3, 10, "3 of 10 jobs over")`

    """
    return _view(f'<p>{_bar(done, total, told)} <span class="qm-quiet">{_safe(told)}</span></p>')


def workers_html(found: Sequence[WorkerInfo], now: datetime) -> str:
    """Return a table of workers, or the line that there is none.

    Example:
        `workers_html(queue.workers(), utc_now())`

    """
    if not found:
        return _view(f"<p>{NO_WORKERS}</p>")
    rows = "".join(
        f'<tr><th scope="row" {LEFT}>{_safe(worker.name)}</th><td {LEFT}>{_safe(worker.kind)}</td>'
        f'<td class="qm-number">{worker.count}</td>'
        f'<td class="qm-quiet" {LEFT}>{ago(worker.started_at, now)}</td></tr>'
        for worker in found
    )
    header = (
        f'<th scope="col" {LEFT}>worker</th><th scope="col" {LEFT}>in a</th>'
        f'<th scope="col" class="qm-number">slots</th><th scope="col" {LEFT}>started</th>'
    )
    caption = f"<caption>{counted(len(found), 'worker')} as of {_time(now)}</caption>"
    return _view(
        f'<div class="qm-scroll"><table class="qm-workers">{caption}'
        f"<thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


# --- pieces --------------------------------------------------------------------------------------


def _view(inside: str) -> str:
    return f'<div class="qm">{STYLE}{inside}</div>'


def _safe(text: str) -> str:
    return escape(one_line(text), quote=True)


def _time(moment: datetime) -> str:
    return f'<time datetime="{stamp(moment)}">{stamp(moment)}</time>'


def _state(state: State, number: int | None = None) -> str:
    look = LOOKS[state]
    counted_as = "" if number is None else f" <b>{number:,}</b>"
    none = " qm-none" if number == 0 else ""
    css = f'class="qm-state {look.css}{none}"'
    return f"<span {css} {TOGETHER}>{look.symbol} {state}{counted_as}</span>"


def _bar(done: int, total: int, told: str) -> str:
    return f'<progress value="{done}" max="{max(1, total)}">{_safe(told)}</progress>'


def _title(record: JobRecord) -> str:
    if record.name:
        return _safe(shorten(record.name, TITLE_CELLS_MAX))
    return f"<code>{_safe(shorten(record.command, TITLE_CELLS_MAX))}</code>"


def _progress(record: JobRecord, done: float | None) -> str:
    if done is None or record.state is not State.PROCESSING:
        return ""
    # a title is its name for who cannot see it: the sanitiser takes an aria-label away
    named = f'class="{LOOKS[record.state].css}" title="progress of job {_safe(record.id)}"'
    return f'<progress {named} value="{done:.3f}" max="1">{done:.0%}</progress>'


def _tail(lines: Sequence[str]) -> str:
    """Return the last line, to be unfolded if there are more."""
    if not lines:
        return ""
    last = _safe(lines[-1])
    if len(lines) == 1:
        return f'<code class="qm-last">{last}</code>'
    unfolded = escape("\n".join(lines), quote=True)
    return (
        f'<details class="qm-last"><summary><code>{last}</code></summary>'
        f"<pre>{unfolded}</pre></details>"
    )


def _job_table(
    shown: Sequence[JobRecord], reasons: Sequence[str], now: datetime, total: int
) -> str:
    what = counted(total, "job")
    if len(shown) < total:
        what = f"{len(shown)} of {what}"
    rows = "".join(
        _job_row(record, reason, now) for record, reason in zip(shown, reasons, strict=True)
    )
    named = "name and command" if any(record.name for record in shown) else "command"
    header = (
        f'<th scope="col" {LEFT}>id</th><th scope="col" {LEFT}>state</th>'
        '<th scope="col" class="qm-number qm-spare">attempt</th>'
        '<th scope="col" class="qm-number">elapsed</th>'
        f'<th scope="col" {LEFT}>{named}</th><th scope="col" {LEFT}>reason</th>'
    )
    return (
        f'<div class="qm-scroll"><table class="qm-jobs">'
        f"<caption>{what} as of {_time(now)}</caption>"
        f"<thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _job_row(record: JobRecord, reason: str, now: datetime) -> str:
    seconds = elapsed_s(record, now)
    elapsed = "" if seconds is None else duration(seconds)
    name = f"<b>{_safe(record.name)}</b> " if record.name else ""
    command = _safe(shorten(record.command, COMMAND_CELLS_MAX))
    why = "qm-wrap qm-why" if reason else "qm-wrap"
    number = attempt_number(record)
    attempt = f"{number}/{attempts_allowed(record)}" if number else ""
    return (
        f'<tr><th scope="row" {LEFT}>{_safe(record.id)}</th>'
        f"<td {LEFT}>{_state(record.state)}</td>"
        f'<td class="qm-number qm-spare">{attempt}</td>'
        f'<td class="qm-number qm-quiet" {TOGETHER}>{elapsed}</td>'
        f'<td class="qm-wrap" {LEFT}>{name}<code>{command}</code></td>'
        f'<td class="{why} qm-quiet" {LEFT}>{_safe(reason)}</td></tr>'
    )


def _fact(key: str, text: str, state: State) -> str:
    if key == "state":
        word, _, why = text.partition(" (")
        del word
        told = f' <span class="qm-quiet">{_safe(why.removesuffix(")"))}</span>' if why else ""
        return _state(state) + told
    if key == "command":
        return f"<pre>{escape(clean(text), quote=True)}</pre>"
    return _safe(text)


def _attempts(record: JobRecord, now: datetime) -> str:
    rows = attempt_rows(record, now)
    if not rows:
        return ""
    look = [
        'class="qm-number"' if index in ATTEMPT_NUMBERS else LEFT
        for index in range(len(ATTEMPT_HEADER))
    ]
    header = "".join(
        f'<th scope="col" {css}>{word.lower()}</th>'
        for css, word in zip(look, ATTEMPT_HEADER, strict=True)
    )
    body = "".join(f"<tr>{_attempt_cells(row, look)}</tr>" for row in rows)
    return (
        f'<div class="qm-scroll"><table class="qm-attempts"><caption>Attempts</caption>'
        f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _attempt_cells(row: Sequence[str], look: Sequence[str]) -> str:
    (number, *rest), (first, *others) = row, look
    cells = (f"<td {css}>{_safe(text)}</td>" for css, text in zip(others, rest, strict=True))
    return f'<th scope="row" {first}>{_safe(number)}</th>{"".join(cells)}'
