"""What is said of a run that was interrupted."""

from __future__ import annotations

from worker.cli.run import describe_interruption


def test_an_interrupted_run_names_the_command_that_goes_on() -> None:
    told = describe_interruption("Go on with: oathbulk run july")
    assert told == "Interrupted: what was in hand is settled or handed back. Go on with: oathbulk run july"


def test_a_run_that_was_interrupted_as_its_batch_finished_names_no_command() -> None:
    assert describe_interruption(None) == "Interrupted as the batch was finished: nothing is left to go on with."
