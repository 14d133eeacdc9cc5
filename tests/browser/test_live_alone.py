"""The script of the live table alone, in a blank page, with a kernel that is made up."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from queuectl_magics.views.live import assets, wire

ABOUT = {"title": "q", "kernel": "", "table": "t", "states": assets.looks(), "lease_ms": 20_000}
COLUMNS = " ".join(wire.COLUMNS)
# A kernel that remembers what it is asked, and answers when it is told to.
KERNEL = """([script, about]) => {
  const ears = {}; window.sent = []; window.answers = true;
  const model = {
    get: () => about, on: (name, ear) => (ears[name] = ear), off: (name) => delete ears[name],
    send: (message) => {
      window.sent.push(message);
      if (window.answers) setTimeout(() => hear({ kind: "answer", rid: message.rid, count: 1 }));
    },
  };
  const pack = (value) => new Response(new Blob([JSON.stringify(value)]).stream()
    .pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
  const hear = window.hear = (message, packed) =>
    ears["msg:custom"]?.(message, packed && [packed]);
  window.tell = async (message, body) => hear(message, body && (await pack(body)));
  window.lose = () => ears["comm_live_update"]();
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  return import(address).then((module) => {
    window.leave = module.default.render({ model, el: document.body });
    window.table = document.querySelector(".qlive").table;
  });
}"""


class Page:
    """A page with one live table."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.number = 0

    def tell(self, message: dict[str, Any], body: object = None) -> None:
        """Send a message to the table."""
        self.page.evaluate("([message, body]) => window.tell(message, body)", [message, body])

    def snapshot(self, *jobs: dict[str, Any], queue: dict[str, Any] | None = None) -> None:
        """Send all jobs."""
        self.number += 1
        columns = {name: [job[name] for job in jobs] for name in COLUMNS.split()}
        head = {"kind": "snapshot", "epoch": "e", "number": self.number, "count": len(jobs)}
        queue = queue or {"paused": False, "workers": 1, "slots": 1}
        self.tell({**head, "first": 0, "now": 1_000_000, "queue": queue}, columns)
        if jobs:
            self.page.wait_for_function(f"() => window.table.order.length >= {len(jobs)}")

    def delta(self, **parts: Any) -> None:
        """Send what changed."""
        self.number += 1
        self.tell({"kind": "delta", "epoch": "e", "number": self.number, "now": 1_000_000}, parts)

    def ids(self) -> list[str]:
        """Return the ids of the rows in sight, from top to bottom."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.qport .qrow:not([hidden])')]
            .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)
            .map((row) => row.querySelector('.c-job b').textContent)"""
        )

    def sent(self, op: str) -> list[dict[str, Any]]:
        """Return what the table asked under that name."""
        return [message for message in self.page.evaluate("window.sent") if message["op"] == op]

    def wait(self, condition: str) -> None:
        """Wait until that is so."""
        self.page.wait_for_function(f"() => {condition}", timeout=5000)


def job(id: str, state: int = 0, **more: Any) -> dict[str, Any]:
    """Return what the wire says of a job."""
    return {
        "id": id,
        "name": "",
        "command": f"make {id}",
        "state": state,
        "number": int(state > 0),
        "allowed": 3,
        "attempt": int(state > 0),
        "stopping": 0,
        "cause": "",
        "due": None,
        "started": 990_000 if state else None,
        "finished": 995_000 if state > 1 else None,
        "line": "",
        "progress": None,
        **more,
    }


def changed(job: dict[str, Any]) -> list[Any]:
    """Return the row of a job that was known before."""
    return [job[name] for name in COLUMNS.split() if name not in ("name", "command")][:-2]


@contextmanager
def table_in(opened: Any) -> Iterator[Page]:
    """A live table in an empty document of that page, which must raise no error."""
    errors = []

    def note(error: Any) -> None:
        errors.append(error)

    opened.goto("about:blank")
    opened.set_viewport_size({"width": 1000, "height": 800})
    opened.mouse.move(0, 799)
    opened.on("pageerror", note)
    opened.set_content("<!doctype html><meta charset=utf-8><body>")
    opened.add_style_tag(content=assets.sheet())
    opened.evaluate(KERNEL, [assets.script(), ABOUT])
    yield Page(opened)
    opened.remove_listener("pageerror", note)

    assert [] == errors


@pytest.fixture(scope="session")
def blank(browser: Any) -> Iterator[Any]:
    """A page that the tests have one after the other."""
    opened = browser.new_page()
    yield opened
    opened.context.close()


@pytest.fixture
def page(blank: Any) -> Iterator[Page]:
    """A live table."""
    with table_in(blank) as table:
        yield table


@pytest.fixture
def timed(browser: Any) -> Iterator[Page]:
    """A live table whose clock can be set; that of a page cannot be set back."""
    opened = browser.new_page()
    opened.clock.install()
    with table_in(opened) as table:
        yield table
    opened.context.close()


def test_script_and_sheet_are_small():
    """What a page must load is at most 12 KB, compressed."""
    size = sum(len(gzip.compress(text().encode())) for text in (assets.script, assets.sheet))

    assert size <= 12 * 1024


def test_script_loads_nothing_and_writes_no_markup():
    """One module, no imports, no network but the kernel's socket, and text is never markup."""
    script = assets.script()

    for word in (
        "import ",
        "import(",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "eval(",
        "fetch(",
    ):
        assert word not in script


def test_says_hello_when_it_is_seen(page):
    """The first thing it asks for is everything."""
    page.wait("window.sent.length")

    assert "hello" == page.page.evaluate("window.sent[0].op")


def test_running_jobs_come_first_and_the_newest_ends_before_older_ones(page):
    """What runs, what went wrong, what waits, what is over."""
    page.snapshot(job("1", 2), job("2", 2), job("3", 4), job("4"), job("5", 1), job("6", 3))

    assert ["5", "6", "3", "4", "2", "1"] == page.ids()


def test_delta_changes_a_row_and_its_counts(page):
    """A job that ends changes its word and moves in the counts."""
    page.snapshot(job("1", 1), job("2"))
    page.delta(changed=[changed(job("1", 2))], said=[["1", "all well", None]])
    page.wait("document.querySelector('.qport').innerText.includes('completed')")

    assert "1" == page.page.locator(".qchip.s2 b").inner_text()
    assert "all well" in page.page.locator(".qport").inner_text()


def test_gap_in_the_numbers_is_mended_by_asking_for_everything(page):
    """A lost message is noticed with the next one."""
    page.snapshot(job("1", 1))
    hellos = len(page.sent("hello"))
    page.number += 1
    page.delta(changed=[changed(job("1", 2))])
    page.wait(f"window.sent.filter((m) => m.op === 'hello').length > {hellos}")
    page.snapshot(job("1", 2))
    page.wait("document.querySelector('.qport').innerText.includes('completed')")


def test_unanswered_table_says_so(timed):
    """Silence is not shown as life."""
    timed.snapshot(job("1", 1))
    timed.page.evaluate("() => { window.answers = false; window.table.tell('beat'); }")
    timed.page.clock.fast_forward(9000)
    timed.page.get_by_text("No answer").wait_for()


def test_lost_kernel_is_told_and_nothing_can_be_clicked(page):
    """The table stands still and says how to go on."""
    page.snapshot(job("1", 1))
    page.page.evaluate("window.lose()")
    note = page.page.get_by_text("Kernel restarted: run the cell to go live again")
    note.wait_for()

    assert page.page.locator(".qport .qdeed").first.is_hidden()


def test_search_finds_command_name_id_and_last_line(page):
    """Each word must be found in one of them; # means exactly this id."""
    page.snapshot(
        job("1", command="python train.py"),
        job("12", 2, name="Cleaner", line="removed 7 files"),
        job("123", 2, line="7 warnings"),
    )
    for text, ids in [
        ("train", ["1"]),
        ("CLEAN", ["12"]),
        ("7", ["123", "12"]),
        ("7 make", ["123", "12"]),
        ("7 files", ["12"]),
        ("#12", ["12"]),
        ("nothing", []),
    ]:
        page.page.locator(".qsearch input").fill(text)
        page.wait(f"window.table.order.length === {len(ids)}")
        page.page.wait_for_timeout(50)
        assert ids == page.ids(), text


def test_search_asks_the_kernel_for_what_was_printed_before_the_last_line(page):
    """A job of which the kernel says that its output holds the words is shown."""
    page.snapshot(job("1", 2, line="bye"), job("2", 2, line="bye"))
    page.page.locator(".qsearch input").fill("Out Of")
    page.wait("window.table.order.length === 0")
    assert "Out Of" == page.sent("find")[-1]["query"]
    page.delta(said=[["2", "bye", None, "out of"]])
    page.wait("window.table.order.length === 1")

    assert ["2"] == page.ids()


def test_chips_filter_and_shift_adds(page):
    """One state, then two; a second click takes a state away."""
    page.snapshot(job("1"), job("2", 1), job("3", 2))
    page.page.locator(".qchip.s1").click()
    page.wait("window.table.order.length === 1")
    page.page.locator(".qchip.s2").click(modifiers=["Shift"])
    page.wait("window.table.order.length === 2")
    page.page.locator(".qchip.s2").click(modifiers=["Shift"])
    page.wait("window.table.order.length === 1")

    assert "true" == page.page.locator(".qchip.s1").get_attribute("aria-pressed")


def test_deed_on_all_that_is_shown_is_asked_twice_and_skips_what_does_not_fit(page):
    """Cancel means the jobs that match the filter and can be cancelled."""
    page.snapshot(
        *(job(str(n), command="sleep") for n in range(30)), job("99", 2, command="sleep")
    )
    page.page.locator(".qsearch input").fill("sleep")
    cancel = page.page.locator(".qbulk button").first
    cancel.get_by_text("Cancel 30").wait_for()
    cancel.click()

    assert [] == page.sent("cancel")
    cancel.get_by_text("sure?").wait_for()
    cancel.click()
    page.wait("window.sent.some((m) => m.op === 'cancel')")
    assert sorted(map(str, range(30))) == sorted(page.sent("cancel")[0]["jobs"])


def test_order_holds_under_the_pointer(page):
    """A row does not move away while somebody points at it; a note says what has changed."""
    page.snapshot(job("1", 1), job("2", 1), job("3", 1))
    page.page.locator(".qport .qrow:not([hidden])").nth(1).hover()
    page.delta(changed=[changed(job("1", 2))])
    held = page.page.get_by_text("1 changed")
    held.wait_for()
    page.page.wait_for_timeout(600)

    assert ["1", "2", "3"] == page.ids()
    held.click()
    page.wait("window.table.order[0] === 1")
    assert ["2", "3", "1"] == page.ids()


def test_order_holds_when_the_table_grows(page):
    """A log that is opened makes it higher; the row under the pointer stays where it is."""
    page.snapshot(job("1", 1, line="one"), job("2", 1, line="two"), job("3", 1))
    page.page.get_by_text("two").hover()
    page.delta(changed=[changed(job("1", 2))])
    page.page.get_by_text("1 changed").wait_for()
    page.page.get_by_text("two").click()
    page.page.locator(".qlog").wait_for()
    page.page.evaluate(  # it is seen to have grown in one frame, and painted in the next
        """async () => {
          for (const _ of "abc") await new Promise((done) => requestAnimationFrame(done));
        }"""
    )

    assert ["1", "2", "3"] == page.ids()


def test_everything_can_be_done_by_keyboard(page):
    """Move, open a log, cancel, search, leave: no pointer is needed, and no key gets out."""
    page.page.evaluate(
        """() => {
          window.keys = [];
          document.addEventListener("keydown", (event) => window.keys.push(event.key));
        }"""
    )
    page.snapshot(job("1", 1), job("2", 1), job("3", 4))
    page.page.locator(".qgrid").focus()
    for key in ("ArrowDown", "j", "Enter"):
        page.page.keyboard.press(key)
    page.page.locator(".qlog").wait_for()
    assert "2" == page.sent("follow")[-1]["job"]
    page.page.keyboard.press("c")
    page.page.get_by_text("c again to cancel 2").wait_for()
    assert [] == page.sent("cancel")
    page.page.keyboard.press("c")
    page.page.keyboard.press("End")
    page.page.keyboard.press("r")
    page.page.keyboard.press("Escape")
    page.page.locator(".qlog").wait_for(state="hidden")
    page.page.keyboard.press("/")
    page.page.keyboard.type("ddxb")
    page.page.keyboard.press("Escape")
    page.wait("document.activeElement.className === 'qgrid'")

    assert [["2"]] == [message["jobs"] for message in page.sent("cancel")]
    assert [["3"]] == [message["jobs"] for message in page.sent("retry")]
    assert [] == page.page.evaluate("window.keys")


def test_elapsed_time_goes_on_without_messages(timed):
    """Clocks are the browser's: a job that runs needs no message for its seconds."""
    timed.snapshot(job("1", 1, started=1_000_000))
    timed.page.get_by_text(re.compile(r"^\d s$")).wait_for()
    timed.page.clock.fast_forward(30_000)
    timed.page.get_by_text(re.compile(r"^3\d s$")).wait_for()


def test_expected_time_is_the_median_of_earlier_runs_of_the_command(page):
    """Three runs took 2, 10 and 60 seconds: this one is expected to take ten."""
    runs = [
        job(str(n), 2, command="make all", started=900_000 - took, finished=900_000)
        for n, took in enumerate((2000, 60_000, 10_000))
    ]
    page.snapshot(*runs, job("9", 1, command="make all", started=996_000))

    cell = page.page.locator(".qport .s1 .c-elapsed")
    assert cell.get_attribute("title").endswith(" s · typical: 10 s")
    assert cell.locator(".qleft").inner_text() in ("~6 s left", "~5 s left")


def test_commands_without_a_word_in_common_are_not_alike(page):
    """`sleep 1` says nothing about how long `./train` will take."""
    page.snapshot(
        job("1", 2, command="sleep 1", started=990_000, finished=991_000),
        job("2", 1, command="./train", started=900_000),
    )

    assert "" == page.page.locator(".qport .s1 .qfar").inner_text()
    assert page.page.locator(".qport .s1 .qfill").is_hidden()


def test_all_that_is_left_takes_no_less_than_any_job_that_is_left(page):
    """The pace of the jobs before tells of what waits; of what runs, it tells itself."""
    ended = [job(str(n), 2, finished=999_000) for n in range(3)]
    slow = job("7", 1, started=990_000, progress=0.05)
    page.snapshot(*ended, slow)
    page.page.locator(".qpace").get_by_text("~4 min left").wait_for()
    page.snapshot(*ended, slow, job("8"))
    page.page.locator(".qpace").get_by_text("~4 min left").wait_for()
    page.snapshot(*ended, job("7", 1, started=990_000, progress=0.9), job("8"))
    page.page.locator(".qpace").get_by_text("~7 s left").wait_for()


def test_nobody_knows_when_jobs_end_that_say_nothing_or_are_not_due(page):
    """Where nothing can start, the pace of the jobs before says nothing."""
    ended = [job(str(n), 2, finished=999_000) for n in range(3)]
    page.snapshot(*ended, job("7", 1, command="./x"), job("8", due=5_000_000))
    page.wait("document.querySelector('.qpace').innerText === '18/min'")


def test_head_says_what_keeps_jobs_from_starting(page):
    """All slots are busy, or nobody works."""
    page.snapshot(job("1", 1), job("2"), queue={"paused": False, "workers": 1, "slots": 1})
    page.page.get_by_text("0 of 2 over · 1 of 1 slot busy · 1 worker", exact=True).wait_for()
    page.snapshot(job("1", 1), job("2"), queue={"paused": False, "workers": 0, "slots": 0})
    page.page.get_by_text("0 of 2 over · no worker is running", exact=True).wait_for()


def test_paused_queue_has_no_time_left(page):
    """Nobody knows when it will go on."""
    ended = [job(str(n), 2, finished=999_000) for n in range(3)]
    running = {"paused": False, "workers": 1, "slots": 1}
    page.snapshot(*ended, job("9"), queue=running)
    page.page.locator(".qpace").get_by_text("left").wait_for()
    page.snapshot(*ended, job("9"), queue={**running, "paused": True})
    page.wait("document.querySelector('.qpace').innerText === '18/min'")


def test_narrow_rows_say_why_before_what_was_printed(page):
    """There is no column for the cause there."""
    page.page.set_viewport_size({"width": 600, "height": 800})
    page.snapshot(job("1", 4, cause="exit 3", line="bye"))

    page.page.get_by_text("exit 3 · bye").wait_for()


def test_search_has_a_name(page):
    """Also where a placeholder counts for none."""
    page.page.get_by_role("searchbox", name="Search command, name or output").wait_for()


def test_words_of_a_row_are_apart_for_who_cannot_see(page):
    """A screen reader says `12 Cleaner` and `dead exit 3`, and the symbol not at all."""
    page.snapshot(job("12", 4, name="Cleaner", cause="exit 3"))

    for name in ("dead exit 3", "12 Cleaner"):
        assert page.page.get_by_role("gridcell", name=name, exact=True).is_visible()
    for name in ("all 1", "dead 1", "completed 0"):
        assert page.page.get_by_role("button", name=name, exact=True).is_visible()


@pytest.mark.parametrize("width", [1000, 320])
def test_order_note_covers_no_button_and_no_heading(page, width):
    """Who aims at a button must be able to hit it, and who reads sees what a column holds."""
    page.page.set_viewport_size({"width": width, "height": 800})
    page.snapshot(*(job(str(n), 1) for n in range(1, 20)))
    page.page.locator(".qport .qrow:not([hidden])").first.hover()
    page.delta(changed=[changed(job("2", 2))])
    held = page.page.get_by_text("order held · 1 changed · update")
    held.wait_for()
    box = "(node) => node.getBoundingClientRect()"
    grid = page.page.locator(".qgrid").evaluate(box)
    assert held.evaluate(box)["top"] >= grid["bottom"]
    page.page.get_by_role("button", name="cancel job 1", exact=True).click(timeout=2000)
    page.wait("window.sent.some((m) => m.op === 'cancel')")


@pytest.mark.parametrize("width", [1000, 1600])
def test_heads_stand_above_their_columns(page, width):
    """Also where there is a scroll bar, which the heads have not."""
    page.page.set_viewport_size({"width": width, "height": 800})
    page.page.add_style_tag(content=".qport { border-right: 15px solid }")  # as wide as a bar
    page.snapshot(*(job(str(n), 1) for n in range(30)))
    page.page.evaluate("window.table.fitWidth()")
    lefts = """(which) => [...document.querySelectorAll(`${which} > span`)].map((cell) =>
      Math.round(cell.getBoundingClientRect().left))"""
    page.wait("document.querySelector('.qport .qrow').innerText")

    assert page.page.evaluate(lefts, ".qheads") == page.page.evaluate(
        lefts, ".qport .qrow:first-child"
    )


def test_click_on_the_last_line_opens_the_log(page):
    """A pointer needs no key for it, nor two clicks; and two clicks mark no word."""
    page.snapshot(job("1", 1, line="one two"), job("2", 1, line="three four"))
    page.page.get_by_text("make 1").click()
    assert [] == page.sent("follow")
    assert "qgrid" == page.page.evaluate("document.activeElement.className")
    page.page.get_by_text("three four").click()
    page.page.locator(".qlog").wait_for()
    assert ["2"] == [message["job"] for message in page.sent("follow")]
    page.page.get_by_text("make 1").dblclick()

    assert "1" == page.sent("follow")[-1]["job"]
    assert "" == page.page.evaluate("getSelection().toString()")


def test_log_follows_until_the_reader_scrolls_up(page):
    """New lines come in at the end; a reader who looks further up stays there.

    What has come has its time; the end, where nothing stands yet, has none.
    """
    page.snapshot(job("1", 1))
    page.page.locator(".qport .qrow").first.dblclick()
    page.wait("window.sent.some((m) => m.op === 'follow')")
    view = page.sent("follow")[0]["view"]
    piece = {"kind": "log", "view": view, "job": "1", "attempt": 1, "rest": ""}
    page.tell({**piece, "begun": False, "lines": [f"line {n}" for n in range(99)]})
    text = page.page.locator(".qtext")
    text.get_by_text("line 98").wait_for()
    page.wait(
        "((text) => text.scrollHeight - text.scrollTop - text.clientHeight < 9)"
        "(document.querySelector('.qtext'))"
    )
    text.evaluate("(node) => (node.scrollTop = 0)")
    page.wait("document.querySelector('.qlogbar button').ariaPressed === 'false'")
    page.tell({**piece, "begun": True, "lines": ["late"]})
    text.get_by_text("late").wait_for(state="attached")

    assert 0 == text.evaluate("(node) => node.scrollTop")
    seen = text.evaluate("(node) => [...node.children].slice(-2).map((line) => line.dataset.seen)")
    assert [8, 0] == [len(time) for time in seen]
    page.page.get_by_text("Follow", exact=True).click()
    page.wait("document.querySelector('.qtext').scrollTop > 100")


def test_log_can_be_copied_and_shows_its_times(page):
    """What is shown is what is copied, without the times; the keyboard stays on the button."""
    page.page.evaluate(
        "document.addEventListener('copy', ({ target }) => (window.copied = target.value))"
    )
    page.snapshot(job("1", 1))
    page.page.locator(".qport .qrow").first.dblclick()
    page.wait("window.sent.some((m) => m.op === 'follow')")
    view = page.sent("follow")[0]["view"]
    piece = {"kind": "log", "view": view, "job": "1", "attempt": 1, "rest": ""}
    page.tell({**piece, "begun": False, "lines": ["\x1b[1mone\x1b[0m", "  two"]})
    page.tell({**piece, "begun": True, "lines": ["three"]})
    page.page.get_by_text("three").wait_for()
    page.page.get_by_role("button", name="Times").press("Enter")
    time = page.page.get_by_text("three").evaluate(
        "(n) => getComputedStyle(n, '::before').content"
    )
    page.page.get_by_role("button", name="Copy").press("Enter")

    assert re.fullmatch(r'"\d\d:\d\d:\d\d"', time)
    assert "one\n  two\nthree\n" == page.page.evaluate("window.copied")
    assert "Copied" == page.page.evaluate("document.activeElement.textContent")


def test_colours_of_a_log_become_styles_and_nothing_else(page):
    """SGR sequences are spans; what stands between them is text."""
    page.snapshot(job("1", 1))
    page.page.locator(".qport .qrow").first.dblclick()
    page.wait("window.sent.some((m) => m.op === 'follow')")
    line = "\x1b[1;31mred <b>\x1b[0m plain \x1b[38;2;1;2;3mrgb\x1b[0m"
    page.tell(
        {"kind": "log", "view": page.sent("follow")[0]["view"], "job": "1", "attempt": 1}
        | {"begun": False, "lines": [line], "rest": ""}
    )
    page.page.get_by_text("red <b>").wait_for()

    assert "red <b> plain rgb" == page.page.locator(".qtext div").first.inner_text()
    assert "700" == page.page.get_by_text("red <b>").evaluate(
        "(n) => getComputedStyle(n).fontWeight"
    )
    assert "rgb(1, 2, 3)" == page.page.get_by_text("rgb").last.evaluate(
        "(n) => getComputedStyle(n).color"
    )


CONTRAST = """(node) => {
  const paint = document.createElement("canvas").getContext("2d");
  const light = (colour) => {
    paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
      .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  };
  const style = getComputedStyle(node);
  const [a, b] = [style.color, style.backgroundColor].map(light).sort((a, b) => b - a);
  return (a + 0.05) / (b + 0.05);
}"""


@pytest.mark.parametrize("is_light", [True, False])
def test_text_of_a_log_can_be_read_on_every_background(page, is_light):
    """Whatever two colours a program puts on each other, and when it swaps them."""
    dark = "body { --jp-layout-color1: #111; --jp-ui-font-color0: #fff }"
    page.page.add_style_tag(content="p {}" if is_light else dark)
    page.page.evaluate("(light) => (document.body.dataset.jpThemeLight = light)", is_light)
    page.snapshot(job("1", 1))
    page.page.locator(".qport .qrow").first.dblclick()
    page.wait("window.sent.some((m) => m.op === 'follow')")
    grounds = [*map(str, range(40, 47)), "48;2;0;0;0", "48;2;255;255;255", "7", "31;7"]
    codes = [f"{ink};{ground}" for ink in (30, 33, 37) for ground in grounds]
    lines = [f"\x1b[{code}m{code}\x1b[0m" for code in codes]
    view = page.sent("follow")[0]["view"]
    head = {"kind": "log", "view": view, "job": "1", "attempt": 1, "begun": False, "rest": ""}
    page.tell({**head, "lines": lines})
    page.page.locator(".qtext").get_by_text(codes[-1], exact=True).wait_for()
    spans = page.page.locator(".qtext span").all()

    assert len(codes) == len(spans)
    assert all("color-mix" in (span.get_attribute("style") or "") for span in spans)
    assert 4.5 <= min(span.evaluate(CONTRAST) for span in spans)


def test_hundred_thousand_jobs_are_a_few_dozen_elements(page):
    """Only what is in sight is in the page."""
    page.page.evaluate(
        """(columns) => {
        window.table.rows.clear(100000);
        for (let first = 0; first < 100000; first += 10000)
          window.table.rows.add(columns.split(" ").map((name) =>
            Array.from({ length: 10000 }, (_, n) =>
              ({ state: n % 6, attempt: 1, started: 1, finished: 2 })[name] ?? `${first + n}`)));
        window.table.rearrange();
      }""",
        COLUMNS,
    )
    page.wait("window.table.order.length === 100000")
    page.page.locator(".qport").evaluate("(port) => (port.scrollTop = 1e6)")
    page.page.wait_for_timeout(300)

    assert page.page.locator(".qport .qrow").count() < 40
    assert 10 < len(page.ids())


def test_unwatched_table_is_silent(page):
    """After it left the page it asks for nothing more."""
    page.snapshot(job("1", 1))
    page.page.evaluate("window.leave()")
    before = page.page.evaluate("window.sent.length")
    page.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    assert before == page.page.evaluate("window.sent.length")
