"""The magics of one shell: registered, configured, and taken away again.

`%config QueueMagics` lists the notebook's own settings. Each magic is a `Call` of its verb. The
rule here: what `open` gives to the shell, `close` takes away, whatever happened in between; jobs
that run then go on, for the next worker to adopt.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import MAGIC_NO_VAR_EXPAND_ATTR
from traitlets import Bool, TraitError, Unicode, observe, validate
from traitlets.config import Config, Configurable

from queuectl_magics import variables
from queuectl_magics.errors import HomeGoneError, QueuectlError
from queuectl_magics.magics.completion import Completion
from queuectl_magics.magics.names import CELL_MAGICS, LINE_MAGICS
from queuectl_magics.magics.statements import is_statement

if TYPE_CHECKING:
    from queuectl_magics.job import JobRecord
    from queuectl_magics.jobqueue import Job, JobQueue
    from queuectl_magics.magics.lines import Lines

ADOPT_S = 2.0
LINES_PER_CELL_MAX = 5
JOB = "queuectl_magics.jobqueue.job.Job"

# The queues of this process that a variable still refers to: after %reload_ext a job that was kept
# and a new one are in the same queue.
_still_used: WeakValueDictionary[Path, JobQueue] = WeakValueDictionary()


class QueueMagics(Configurable):
    """The magics of one shell; its traits are the notebook's own settings."""

    home = Unicode(
        help="The queue's directory; empty: $QUEUECTL_HOME, or .queuectl where we stood at first."
    ).tag(config=True)
    plain = Bool(
        default_value=False, help="Show nothing that varies, for notebooks under test."
    ).tag(config=True)
    autostart = Bool(default_value=True, help="Let %enqueue start the worker of this kernel.").tag(
        config=True
    )

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__()
        self.shell = shell
        self.may_start_worker = True
        self._stood_in = _where_we_stand()
        self._queues: dict[Path, JobQueue] = {}
        self._shown: list[object] = []
        self._has_more = False
        self._completion = Completion(self)
        self._magics: dict[tuple[str, str], Magic] = {}

    @cached_property
    def lines(self) -> Lines:
        """The jobs that are shown as lines; there from the first call of a magic on."""
        from queuectl_magics.magics.lines import Lines

        lines = Lines(self.shell, is_plain=lambda: self.is_plain)
        lines.open()
        return lines

    @property
    def _can_update(self) -> bool:
        """Whether there is a front end that replaces what was shown; a terminal does not."""
        return hasattr(self.shell, "kernel")

    @property
    def is_plain(self) -> bool:
        """Whether nothing that varies may be shown."""
        return self.plain or variables.plain()

    @property
    def _configurables(self) -> list[Configurable]:
        """What `%config` lists."""
        return cast("list[Configurable]", self.shell.configurables)

    def is_taken(self, name: str) -> bool:
        """Say whether the variable *name* is one that IPython itself has put there."""
        return name in self.shell.user_ns_hidden

    def bind(self, name: str, value: object) -> None:
        """Give the notebook a variable."""
        self.shell.user_ns[name] = value

    # --- the queue ----------------------------------------------------------------------------

    @validate("home")
    def _check_home(self, proposal: Any) -> str:
        home = str(proposal["value"])
        try:
            variables.find_home(home or None)
        except QueuectlError as error:
            raise TraitError(str(error)) from None
        return home

    @observe("home")
    def _stand_here(self, _change: object) -> None:
        """Let a relative home mean the directory where it was chosen: `%cd` does not move it."""
        self._stood_in = _where_we_stand()

    @property
    def home_path(self) -> Path:
        """The home of this notebook's queue, whether that can be opened or not."""
        named = self.home or os.environ.get(variables.HOME_VARIABLE) or variables.HOME_DEFAULT
        return variables.find_home(named if named[:1] == "~" else Path(self._stood_in, named))

    @property
    def queue(self) -> JobQueue:
        """The queue of this notebook; another one after its home was changed.

        The queues that were used before keep their worker, so that what is in them is run.
        """
        home = self.home_path
        if home not in self._queues:
            from queuectl_magics.jobqueue import JobQueue

            self._queues[home] = _still_used.get(home) or JobQueue(home)
            _still_used[home] = self._queues[home]
        queue = self._queues[home]
        if not queue.store.paths.journal.exists():
            msg = f"the queue's home {home} was deleted: what comes next goes into a new queue"
            raise HomeGoneError(msg)
        queue.plain = self.is_plain
        return queue

    @property
    def opened(self) -> JobQueue | None:
        """The queue, if it has been used already."""
        return self._queues.get(self.home_path)

    def start_worker(self) -> None:
        """Start the kernel's worker, unless the person has said otherwise."""
        if self.autostart and self.may_start_worker:
            self.queue.worker(kind="kernel")

    def _forget_queue(self) -> None:
        """Close the queue whose home is gone, so that the next call makes a new one."""
        home = self.home_path
        queue = self._queues.pop(home, None)
        if queue is not None:
            _still_used.pop(home, None)
            _close(queue)

    # --- opening and closing ------------------------------------------------------------------

    def open(self) -> None:
        """Register everything, and go on with what waits in a queue that is there already."""
        self._configurables.append(self)
        self._configure()
        for name in LINE_MAGICS:
            self._register("line", name)
        for name in CELL_MAGICS:
            self._register("cell", name)
        if self._can_update:
            self._formatter.for_type_by_name(*JOB.rsplit(".", 1), self._show)
            self.shell.events.register("pre_run_cell", self._begin_cell)
        self._completion.open()
        self._resume()

    def _configure(self) -> None:
        """Take over what is configured; a value that does not fit changes nothing."""
        for name, value in self.shell.config[type(self).__name__].items():
            try:
                self.update_config(Config({type(self).__name__: {name: value}}))
            except TraitError as error:
                _say(error)

    def _resume(self) -> None:
        try:
            if (self.home_path / "journal.jsonl").exists():
                from queuectl_magics.job import TERMINAL

                with self.queue.store.reading() as table:
                    has_work = len(table.jobs) > sum(table.counts[state] for state in TERMINAL)
                if has_work:
                    strays = self.queue.strays()
                    self.start_worker()
                    self._tell_what_happened(strays)
        except (QueuectlError, OSError) as error:  # %load_ext must work all the same
            _say(error)

    def _tell_what_happened(self, strays: list[JobRecord]) -> None:
        """Say in one line what became of the jobs that a kernel before this one left running."""
        worker = self.queue.own_worker
        if not strays or worker is None or self.is_plain:
            return
        if worker.has_looked.wait(ADOPT_S):
            from queuectl_magics.views import text

            print(text.while_away(self.queue.job(job.id).record for job in strays))  # noqa: T201 - in the cell of %load_ext

    def _register(self, kind: str, name: str) -> None:
        magic = self._magics[kind, name] = Magic(self, kind, name)
        self.shell.magics_manager.magics[kind][name] = magic

    def call(self, name: str, names: Mapping[str, object], line: str, cell: str | None) -> Any:
        """Call a magic; what goes wrong is one red line."""
        from queuectl_magics.magics.calling import Call, one_red_line

        call = Call(self, names)
        with one_red_line(f"%{name}" if cell is None else f"%%{name}"):
            try:
                return call.magic(name, line, cell)
            except HomeGoneError:  # nothing else is wrong with a queue that has been opened
                self._forget_queue()
                raise

    @property
    def _formatter(self) -> Any:
        """What decides how the value of a cell is shown."""
        display = self.shell.display_formatter
        assert display is not None
        return display.ipython_display_formatter

    def show_at_once(self, value: object) -> None:
        """Show the job that an `%enqueue` in a line of its own has made; of many the first few."""
        if not self._can_update or type(value).__name__ != "Job":
            return  # several, from a JSON array, or only help
        if len(self._shown) < LINES_PER_CELL_MAX:
            self.lines.show(cast("Job", value))
            self._shown.append(value)
        elif not self._has_more:
            print("… and more: %queue_status shows all of them")  # noqa: T201 - in the cell
            self._has_more = True

    def _begin_cell(self, *_: object) -> None:
        """Forget what the cell before has shown."""
        self._shown.clear()
        self._has_more = False

    def _show(self, job: Job) -> None:
        if not any(job is shown for shown in self._shown):  # its line has shown it already
            self.lines.show(job)

    def close(self) -> None:
        """Take everything away; what runs goes on, for the next worker to adopt."""
        for (kind, name), magic in self._magics.items():
            registered = self.shell.magics_manager.magics[kind]
            if registered.get(name) is magic:
                del registered[name]
        self._completion.close()
        if self._can_update:
            self._formatter.pop(JOB, None)
            self.shell.events.unregister("pre_run_cell", self._begin_cell)
        if "lines" in vars(self):
            self.lines.close()
        if self in self._configurables:
            self._configurables.remove(self)
        for queue in self._queues.values():
            _close(queue)
        self._queues.clear()


class Magic:
    """One magic, as IPython wants it: called with a line and, for `%%`, the cell below it."""

    needs_local_scope = True

    def __init__(self, door: QueueMagics, kind: str, name: str) -> None:
        self._door = door
        self._kind = kind
        self.__name__ = self.__qualname__ = name

    def __call__(
        self, line: str, cell: str = "", local_ns: dict[str, object] | None = None
    ) -> Any:
        """Call the verb; *local_ns* has the variables of a function that the magic stands in."""
        names = self._door.shell.user_ns
        if local_ns is not None and local_ns is not names:
            names = {**names, **local_ns}
        below = cell if self._kind == "cell" else None
        value = self._door.call(self.__name__, names, line, below)
        if self.__name__ == "enqueue" and below is None and is_statement("enqueue"):
            self._door.show_at_once(value)
        return value

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        """What `name?` shows; it takes the verb's file to know it."""
        from queuectl_magics.magics.calling import command_of, help_of

        return help_of(command_of(self.__name__))


setattr(Magic, MAGIC_NO_VAR_EXPAND_ATTR, True)


def _where_we_stand() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was deleted
        return os.environ.get("PWD", "/")


def _close(queue: JobQueue) -> None:
    try:
        queue.close()
    except (QueuectlError, OSError):
        return  # its home is gone: there is nothing to tidy


def _say(error: Exception) -> None:
    from queuectl_magics.views.words import one_line

    print(f"queuectl_magics: {one_line(str(error))}")  # noqa: T201 - in the cell of %load_ext
