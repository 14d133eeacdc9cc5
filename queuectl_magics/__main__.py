"""`python -m queuectl_magics` is `queuectl`."""

from queuectl_magics.cli import main

main()
