"""The process `queuectl`, or `python -m queuectl_magics`.

A short command spends its time on loading modules, and a quarter of that went to looking whether
any of them had become garbage, while they were loaded and once more at the end. The rule here:
what is loaded stays, so the garbage collector passes over it.
"""

import gc


def main() -> None:
    """Run one verb and end the process with its exit code."""
    gc.disable()
    from queuectl_magics import cli

    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
