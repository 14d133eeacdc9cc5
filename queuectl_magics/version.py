"""Which version this is.

The number stands in `pyproject.toml` alone. The rule here: it is looked up when somebody asks,
since reading the installed metadata takes longer than everything else that `import` does.
"""

from __future__ import annotations


def version() -> str:
    """Return the version of the installed distribution, or `0+unknown` in a bare checkout."""
    from importlib import metadata

    try:
        return metadata.version("queuectl_magics")
    except metadata.PackageNotFoundError:
        return "0+unknown"
