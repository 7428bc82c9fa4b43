"""Serves the watched simulator in a process of its own, until Ctrl-C or SIGTERM.

    python -m support.simulator [--port N] [--ready-file FILE] [--world FILE] [--journal FILE] [--journal-salt TEXT]

`--world` is JSON: what to begin with, and the settings. Every call is appended to the journal, as JSON.
"""

import argparse
import contextlib
from pathlib import Path

from support.simulator.call_log import CallLog
from support.simulator.server import WatchedServer
from support.simulator.simulation import WatchedSeed, WatchedSettings, WatchedSimulation
from worker.simulator.server import listen, write_ready_file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--world", type=Path)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--journal-salt", default="")
    given = parser.parse_args()
    seed = WatchedSeed.model_validate_json(given.world.read_bytes()) if given.world else WatchedSeed()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(given.journal.open("a", encoding="utf-8")) if given.journal else None
        call_log = CallLog(salt=given.journal_salt, file=file)
        simulation = WatchedSimulation(WatchedSettings().with_changes(seed.settings), call_log)
        simulation.seed(seed.model_copy(update={"settings": {}}))
        listener = stack.enter_context(listen("127.0.0.1", given.port))
        if given.ready_file is not None:
            write_ready_file(given.ready_file, listener)
        # uvicorn stops in good order at the first Ctrl-C, and then raises it again.
        with contextlib.suppress(KeyboardInterrupt):
            WatchedServer(simulation).run(sockets=[listener])


if __name__ == "__main__":
    main()
