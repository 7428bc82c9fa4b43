"""Runs the command `oathbulk` as `python -m worker`."""

from worker.cli import main

main()
