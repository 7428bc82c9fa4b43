"""The commands: arguments in, printing out. Which failure has which exit code stands in `failures`."""

import gc


def main() -> None:
    # What is imported here stays until the end. Looking for garbage in it, while it comes and once more as the process
    # ends, would take a quarter of a short command's time.
    gc.disable()
    # Not at the top: who needs one command alone would import what all of them need, four times as much.
    from worker.cli.application import run_command

    gc.freeze()
    gc.enable()
    run_command()
