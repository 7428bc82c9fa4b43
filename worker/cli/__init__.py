"""The commands of `oathbulk`: arguments in, printing out; one module a command, or a few that belong together.

May import every other room; nothing but `__main__` imports it.
Begin with `application`, which lists the commands; `options` has what several commands share, `failures` says which
failure has which exit code.
"""

import gc


def main() -> None:
    """Run the command that stands in this process's arguments."""
    # What is imported here stays until the end. Looking for garbage in it, while it comes and once more as the process
    # ends, would take a quarter of a short command's time.
    gc.disable()
    # Not at the top: who needs one command alone would import what all of them need, four times as much.
    from worker.cli.application import run_command

    gc.freeze()
    gc.enable()
    run_command()
