"""`python -m worker` is `oathbulk`."""

from worker.cli import main

main()
