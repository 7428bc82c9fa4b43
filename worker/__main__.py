"""`python -m worker` does what the command `oathbulk` does."""

from worker.cli import main

main()
