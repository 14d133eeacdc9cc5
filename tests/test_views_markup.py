"""Jobs as HTML: escaped, and true when everything around it is gone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl_magics.job import TERMINAL, Attempt, JobRecord, State
from queuectl_magics.presence import WorkerInfo
from queuectl_magics.views import markup, text, words
from queuectl_magics.views.status import Status
from queuectl_magics.views.style import STYLE

AT = datetime(2026, 11, 24, 10, 51, 23, tzinfo=UTC)
RAN = {"attempt": 1, "started_at": AT, "finished_at": AT + timedelta(seconds=0.4)}
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'\x1b]52;c;eA==\x07\u202e\ud800"
VOID = {"br", "hr", "img", "meta", "link", "input"}
# What JupyterLab's sanitiser lets through in a notebook that is not trusted (of what we use).
TAGS = {"b", "code", "details", "div", "p", "pre", "progress", "span", "summary", "time"}
TABLE_TAGS = {"caption", "table", "tbody", "td", "th", "thead", "tr"}
ATTRIBUTES = {
    "*": {"class", "style", "title"},
    "progress": {"max", "value"},
    "th": {"scope"},
    "time": {"datetime"},
}
STYLES = {"text-align:left", "white-space:nowrap"}


def job(state: State = State.PENDING, **fields: object) -> JobRecord:
    """Make a job by hand."""
    known = {"attempts": 0, "max_retries": 3, "created_at": AT, "updated_at": AT}
    return JobRecord(**{"id": "job1", "command": "echo hi", "state": state, **known, **fields})


def picture(*jobs: JobRecord) -> Status:
    """Take a picture of these jobs at AT."""
    counts = {state: sum(job.state is state for job in jobs) for state in State}
    return Status(jobs=jobs, counts=counts, now=AT, workers=1, slots=2, busy=1)


class Reader(HTMLParser):
    """Reads markup as a browser without style sheets would: tags, attributes, text."""

    def __init__(self, markup_text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(markup_text.replace(STYLE, ""))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        self.pieces.append(data)

    @property
    def text(self) -> str:
        """What is read, blanks collapsed."""
        return " ".join("".join(self.pieces).split())


def everything(record: JobRecord, tail: str | None = None) -> list[str]:
    """Return what every function of the module makes of a job."""
    status = picture(record)
    return [
        markup.line_html(record, AT, tail),
        markup.line_html(record, AT, tail, plain=True),
        markup.jobs_html([record], AT),
        markup.jobs_html([], AT),
        markup.status_html(status),
        markup.show_html(record, status),
    ]


def worker(name: str = "1-ab", **fields: object) -> WorkerInfo:
    """Make a worker that began at AT."""
    return WorkerInfo(
        **{"name": name, "pid": 1, "kind": "kernel", "count": 4} | fields, started_at=AT
    )


# --- what it says --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_state_is_a_symbol_and_a_word_everywhere(state):
    """Without any colour the state can be read."""
    said = f"{words.LOOKS[state].symbol} {state}"
    line, _, jobs, _, status, show = everything(job(state, **RAN))

    assert all(said in Reader(html).text for html in (line, jobs, status, show))


def test_line_tells_who_where_why_and_the_last_output():
    """The line holds what the text holds, and the progress that the output tells."""
    record = job(State.PROCESSING, name="train", attempt=1, started_at=AT - timedelta(seconds=192))
    read = Reader(markup.line_html(record, AT, "start\nepoch 3/10\n"))

    told = "3 min 12 s · attempt 1 of 3 30% epoch 3/10"
    assert f"▶ processing job1 train {told}" == read.text.partition("start")[0].strip()
    assert {"value": "0.300", "max": "1", "title": "progress of job job1"}.items() <= (
        dict(read.tags)["progress"].items()
    )


@pytest.mark.parametrize(
    ("tail", "done", "said"),
    [
        ("::progress 0.42 third file", "0.420", "42% third file"),
        ("\rget a 10% of it\rget a 20% of it", "0.200", "get a 20% of it"),
        ("epoch 3/10\na warning\n", "0.300", "a warning"),
    ],
)
def test_progress_is_read_from_the_output_as_it_is(tail, done, said):
    """The line of a job and the live table understand the same, also of what was overwritten."""
    record = job(State.PROCESSING, attempt=1, started_at=AT - timedelta(seconds=192))
    read = Reader(markup.line_html(record, AT, tail))

    assert done == dict(read.tags)["progress"]["value"]
    assert said in read.text
    assert said == text.line(record, AT, tail).rpartition(" · ")[2]


@pytest.mark.parametrize("state", State)
def test_line_says_when_it_was_so_until_the_job_is_over(state):
    """A notebook that is opened a week later holds the last line; what is over stays so."""
    read = Reader(markup.line_html(job(state, **RAN), AT))
    moments = [attributes["title"] for tag, attributes in read.tags if tag == "time"]

    assert ([] if state in TERMINAL else ["as of 2026-11-24T10:51:23Z"]) == moments


def test_output_of_several_lines_can_be_unfolded():
    """The last line is seen at once, the twenty last on a click, no more."""
    html = markup.line_html(job(State.COMPLETED, **RAN), AT, "\n".join(map(str, range(100))))
    read = Reader(html)

    assert ["details", "summary"] == [tag for tag, _ in read.tags if tag in {"details", "summary"}]
    assert read.text.endswith("99" + " ".join(map(str, range(80, 100))))


def test_one_line_of_output_has_nothing_to_unfold():
    """No triangle that opens nothing."""
    html = markup.line_html(job(State.COMPLETED, **RAN), AT, "done\n")

    assert "<details" not in html
    assert Reader(html).text.endswith("done")


def test_progress_is_shown_only_while_the_job_runs():
    """A bar at 30 % under a job that is over would be a lie."""
    assert "<progress" not in markup.line_html(job(State.DEAD, **RAN), AT, "epoch 3/10")


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("fields", "said"), [({}, "job · echo hi"), ({"name": "train"}, "job · train")]
)
def test_plain_line_says_nothing_that_varies(state, fields, said):
    """Whenever it runs and however it ends, the markup is the same."""
    html = markup.line_html(job(state, id=str(state), **fields, **RAN), AT, "out", plain=True)

    assert said == Reader(html).text
    assert html == markup.line_html(job(**fields), AT + timedelta(days=1), plain=True)


def test_status_tells_totals_counts_and_reasons():
    """Everything about the queue is in words, and the bar says what it shows."""
    read = Reader(markup.status_html(picture(job(), job(State.DEAD, reason="exit 3", **RAN))))

    assert read.text.startswith("2 jobs 1 of 2 over 1 of 2 over · 1 of 2 slots busy · 1 worker")
    assert "○ pending 1 ▶ processing 0" in read.text
    assert {"value": "1", "max": "2"} == dict(read.tags)["progress"]
    assert "exit 3" in read.text


def test_status_of_an_empty_queue_has_no_table():
    """No jobs: the counts, all zero, and a bar that is valid."""
    read = Reader(markup.status_html(picture()))

    assert read.text.startswith("0 jobs 0 of 0 over")
    assert {"value": "0", "max": "1"} == dict(read.tags)["progress"]
    assert "table" not in dict(read.tags)


def test_bar_says_in_words_how_much_is_done():
    """An empty one too, and whatever its words are."""
    read = Reader(markup.bar_html(3, 10, "3 of 10 <jobs> over"))

    assert "3 of 10 <jobs> over 3 of 10 <jobs> over" == read.text
    assert {"value": "3", "max": "10"} == dict(read.tags)["progress"]
    assert {"value": "0", "max": "1"} == dict(Reader(markup.bar_html(0, 0, "")).tags)["progress"]


def test_workers_are_a_table_with_a_row_each():
    """Where each lives, how many jobs it runs at once, since when; none is a sentence."""
    read = Reader(
        markup.workers_html([worker(), worker("<i>", count=1)], AT + timedelta(seconds=5))
    )
    scopes = [attributes["scope"] for tag, attributes in read.tags if tag == "th"]

    assert "1-ab kernel 4 5 s ago" in " ".join(read.pieces)
    assert "<i> kernel 1 5 s ago" in " ".join(read.pieces)
    assert "2 workers as of 2026-11-24T10:51:28Z" in read.text
    assert ["col"] * 4 + ["row"] * 2 == scopes
    assert "No worker is running." == Reader(markup.workers_html([], AT)).text


def test_no_jobs_are_told_as_such():
    """An empty list is a sentence, not an empty table."""
    assert "No jobs." == Reader(markup.jobs_html([], AT)).text


def test_table_has_a_caption_and_scopes():
    """Who cannot see the table can still find their way in it."""
    tags = Reader(markup.jobs_html([job(name="train"), job(State.DEAD)], AT)).tags
    scopes = [attributes["scope"] for tag, attributes in tags if tag == "th"]

    assert "caption" in dict(tags)
    assert ["col"] * 6 + ["row"] * 2 == scopes


def test_big_queue_shows_first_what_one_would_ask_about_and_says_so():
    """A notebook is not filled with a hundred thousand rows, and what runs is among the few."""
    jobs = [job(id=f"n{number}", order=number) for number in range(1000)]
    jobs[3] = job(State.PROCESSING, id="runs", order=3, attempt=1)
    for html in (markup.jobs_html(jobs, AT), markup.status_html(picture(*jobs))):
        read = Reader(html)

        assert "60 of 1,000 jobs as of" in read.text
        assert 61 == [tag for tag, _ in read.tags].count("tr")
        assert "runs" in read.text
        assert "n999" in read.text
        assert "n940 " not in read.text


def test_attempt_is_told_as_a_person_would():
    """The second of three, as the live table has it, and nothing before the first."""
    html = markup.jobs_html(
        [job(), job(State.PROCESSING, attempt=2, attempts=1), job(State.COMPLETED, attempt=1)], AT
    )

    assert ["", "2/3", "1/3"] == re.findall(r'qm-spare">([^<]*)</td>', html)


def test_paused_queue_says_so():
    """Nothing will start, and the picture tells why."""
    paused = msgspec.structs.replace(picture(job()), paused=True)

    assert "paused" in Reader(markup.status_html(paused)).text
    assert "paused" not in Reader(markup.status_html(picture(job()))).text


def test_show_tells_everything_about_a_job():
    """The facts with their keys, the whole command, and every attempt."""
    before = Attempt(number=1, started_at=AT, exit_code=137, reason="exit 137 (SIGKILL?)")
    record = job(
        State.DEAD, command="a\nb", attempts=3, exit_code=137, history=(before,), attempt=2
    )
    html = markup.show_html(record, picture(record))
    read = Reader(html)

    assert "<pre>a\nb</pre>" in html
    assert "state✗ dead exit 137 (SIGKILL?)" in read.text
    assert "Attempts" in read.text
    assert 2 == read.text.count("exit 137 (SIGKILL?)")


def test_show_of_a_new_job_has_no_attempts():
    """No attempts: no table of them."""
    assert "Attempts" not in markup.show_html(job(), picture())


# --- what it is made of --------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_markup_survives_the_sanitiser_of_jupyterlab(state):
    """Every tag, attribute and inline style is one that an untrusted notebook keeps."""
    for html in everything(job(state, name="train", **RAN), "one\n 45%|x\n"):
        for tag, attributes in Reader(html).tags:
            assert tag in TAGS | TABLE_TAGS
            assert set(attributes) <= ATTRIBUTES["*"] | ATTRIBUTES.get(tag, set())
            assert attributes.get("style", "text-align:left") in STYLES
            assert all(css.startswith("qm") for css in (attributes.get("class") or "qm").split())


@pytest.mark.parametrize("state", State)
def test_every_tag_is_closed(state):
    """Markup that is left open would swallow the rest of the notebook."""
    for html in everything(job(state, **RAN), "one\ntwo\n"):
        assert [] == Reader(html).open


def test_style_sheet_is_scoped_and_small():
    """Every rule is under `.qm`, the sheet holds no markup, and it costs little."""
    sheet = STYLE.removeprefix("<style>").removesuffix("</style>")
    rules = re.findall(r"([^{}]+)\{[^{}]*\}", re.sub(r"@container[^{]*\{", "", sheet))
    selectors = [selector for rule in rules for selector in rule.split(",")]

    assert "<" not in sheet
    assert [] == [s for s in selectors if not re.search(r"\.qm\b", s)]
    assert sheet.count("{") == sheet.count("}")
    assert len(STYLE) < 8000


@pytest.mark.parametrize("state", State)
def test_style_sheet_knows_every_state_on_light_and_dark(state):
    """The colours come from the table of looks."""
    look = words.LOOKS[state]

    assert f".qm .{look.css}{{--qm-s:{look.light}}}" in STYLE
    assert f"body.vscode-dark .qm .{look.css}" in STYLE
    assert look.dark in STYLE


# --- hostile text --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_hostile_job_is_tamed_everywhere(state):
    """Id, name, command, reason, worker, tags, folder, output: all of it is escaped."""
    fields = dict.fromkeys(("id", "name", "command", "reason", "worker", "cwd", "shell"), HOSTILE)
    lists = {"tags": (HOSTILE,), "env_names": (HOSTILE,)}
    record = job(state, stopping=HOSTILE, **fields, **lists, **RAN)
    for html in everything(record, f"{HOSTILE}\n{HOSTILE}"):
        assert not {"script", "img"} & {tag for tag, _ in Reader(html).tags}
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", html)


@given(st.text(st.characters(codec=None) | st.sampled_from("<>&\"'\x1b\r\n")))
def test_no_text_becomes_a_tag(hostile):
    """Whatever is in a job, the tags are ours and they are the same."""
    tame = job(State.DEAD, name="x", command="x", cwd="x", reason="x", **RAN)
    wild = job(State.DEAD, name="x" + hostile, command="x" + hostile, cwd="x", reason="x", **RAN)
    expected = [Reader(html).tags for html in everything(tame)]

    assert expected == [Reader(html).tags for html in everything(wild)]


def test_long_output_does_not_fill_the_notebook():
    """Ten megabytes on a line make a few kilobytes of markup."""
    record = job(State.PROCESSING, attempt=1, started_at=AT)

    assert len(markup.line_html(record, AT, "a\n" + "x" * 10_000_000)) < 20_000
