"""What nbval gives each notebook: a queue of its own, temporary folders, and plain outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

FOLDER = tempfile.TemporaryDirectory(prefix="nbval-", ignore_cleanup_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Set the environment that the kernel inherits, if this is the moment when it starts."""
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(FOLDER.name) / item.path.stem
        folder.mkdir(exist_ok=True)
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("QUEUECTL_HOME", str(folder / ".queuectl"))
        patch.setenv("QUEUECTL_PLAIN", "1")
        return (yield)


def pytest_unconfigure() -> None:
    """Remove what the notebooks made."""
    FOLDER.cleanup()
