"""The commands: arguments in, printing out. Which failure has which exit code stands in `failures`."""


def main() -> None:
    # Not at the top: who needs one command alone would import what all of them need, four times as much.
    from worker.cli.application import run_command

    run_command()
