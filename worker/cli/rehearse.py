"""`oathbulk rehearse`: the whole job against the simulator, in a home of its own below the home."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy import select

from models.record import Record
from worker.cli.console import console
from worker.cli.export import export_hand_out
from worker.cli.failures import ALL_ACTIVE, INTERRUPTED, SOME_LEFT
from worker.cli.load import LoadRequest
from worker.cli.rehearsed_tokens import make_seeds, make_shipment_for, open_made
from worker.cli.run import run_shipment
from worker.cli.source_options import SourceOptions, takes_source
from worker.embedded.children import Children
from worker.embedded.errors import EmbeddedError
from worker.embedded.home import lock_home
from worker.embedded.valkey import EmbeddedValkey
from worker.installation.installation import Installation
from worker.intake import Shipment

if TYPE_CHECKING:
    from worker.simulator.seed_shipment import MadeSeeds
    from worker.simulator.shipment import Expected, MadeShipment

# The name of the batch, and of the rehearsal's home.
BATCH = "rehearsal"
# Seconds that the simulator may take to start, on a busy machine.
START_TIMEOUT = 60.0
# What the preflight of a rehearsal asks about and nobody has to accept. Of the simulated tenant: some devices are
# missing on purpose, and its users have no names. Of a person's own files: a rehearsal harms nobody.
ACCEPTED = frozenset(
    {"token_not_in_inventory", "user_not_found"} | {"not_in_box", "person_twice", "list_lines", "stale_otp"}
)
# Settings of a rehearsal with seeds, of which some answers get lost. The simulator does not act on those calls, so a
# device may be read after a second; and the third OTP of some tokens must be allowed.
FOR_SEEDS = {"OATHBULK_READ_DELAY": "1", "OATHBULK_OTP_POST_BUDGET": "3"}
# Beginnings of settings that would lead out of the rehearsal. All other settings are in force as in a run.
NOT_REHEARSED = (
    "OATHBULK_ENV_FILE",
    "OATHBULK_HOME",
    "OATHBULK_CONFIG",
    "OATHBULK_DATABASE_URL",
    "OATHBULK_REDIS_URL",
    "OATHBULK_ENCRYPTION_KEYS",
    "OATHBULK_REPLAY_CRON",
    "PINGONE_",
)


@takes_source
def rehearse(
    source: SourceOptions,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Your own shipment. Default: made up.")] = None,
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="How many tokens to make up.")] = 500,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second, and no more. Default: PINGONE_RATE, and adapting.")
    ] = None,
    first_morning: Annotated[
        bool, typer.Option("--first-morning", help="Made-up seeds; then everybody signs on, half by the hand-out.")
    ] = False,
) -> None:
    """Rehearse the whole job against the built-in simulator: no accounts, no servers."""
    if first_morning and file:
        raise typer.BadParameter("leave out the file: it takes made-up tokens", param_hint="--first-morning")
    here = Installation()
    with lock_home(here.settings.home):
        home = _make_empty_home(here)
        own = source.open(file) if file else None
        seeds = make_seeds(tokens) if first_morning else None
        made = seeds or make_shipment_for(own, tokens)
        with _files_written(made, home, own) as shipment, _running_simulator(home) as port:
            variables = _point_at_rehearsal(here.variables, home, port, made)
            if rate is not None:
                variables["PINGONE_RATE"] = variables["PINGONE_RATE_MAX"] = str(rate)
            installation = Installation(variables | (FOR_SEEDS if seeds else {}))
            request = LoadRequest(BATCH, accepted=ACCEPTED)
            run = partial(run_shipment, installation, shipment, request, "`oathbulk rehearse` begins anew.")
            code, morning = _run_until_morning(installation, seeds, port, run) if seeds else (run(), ALL_ACTIVE)
        if code == INTERRUPTED:
            raise typer.Exit(code)
        raise typer.Exit(_judge_endings(installation, made.expected) or morning)


def _make_empty_home(here: Installation) -> Path:
    """Make the rehearsal's home, and remove that of the rehearsal before."""
    home = here.settings.home.absolute() / BATCH
    # A rehearsal that was killed may have left its Valkey running. Without the files of its home, which are removed
    # next, nobody would find that server again.
    EmbeddedValkey(home).stop()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    return home


def _run_until_morning(
    installation: Installation, made: MadeSeeds, port: int, run: Callable[[], int]
) -> tuple[int, int]:
    """Run the batch while some answers get lost, export its hand-out, and let the people sign on. Returns the exit
    codes of the run and of the morning."""
    # Not at the top: its HTTP client takes long to import, and no other command needs it.
    from worker.cli.first_morning import Simulator, play_first_morning

    hand_out = installation.settings.home / "hand-out.csv"
    with closing(Simulator(f"http://127.0.0.1:{port}")) as simulator:
        simulator.lose_answers(made.answers_lost)
        code = run()
        if code == INTERRUPTED:
            return code, ALL_ACTIVE
        export_hand_out(installation, BATCH, hand_out)
        return code, play_first_morning(made, hand_out, simulator)


@contextmanager
def _files_written(made: MadeShipment, home: Path, own: Shipment | None) -> Iterator[Shipment]:
    """Write the file of devices, and of the tokens unless they are a person's own, in the clear. A person's own are
    removed after the rehearsal. Yields what is to be loaded."""
    world = home / "world.json"
    try:
        made.write_world(world)
        yield own or open_made(made, home)
    finally:
        if own is not None:
            world.unlink(missing_ok=True)


@contextmanager
def _running_simulator(home: Path) -> Iterator[int]:
    """Start a simulator, and stop it at the end. Yields the port that it listens on. Raises EmbeddedError."""
    children, ready = Children(orphan_grace=1.0), home / "simulator.json"
    argv = [sys.executable, "-P", "-m", "worker", "simulator", "--port", "0", "--ready-file", str(ready)]
    argv += ["--world", str(home / "world.json"), "--journal", str(home / "journal.jsonl")]
    try:
        children.start("simulator", argv, {"PATH": "/usr/bin:/bin"}, home / "simulator.log")
        give_up_at = time.monotonic() + START_TIMEOUT
        while not ready.exists():
            if children.find_ended() or time.monotonic() > give_up_at:
                raise EmbeddedError(f"the simulator does not start: see {home / 'simulator.log'}")
            time.sleep(0.05)
        yield int(json.loads(ready.read_text())["port"])
    finally:
        children.stop(grace=5.0)


def _point_at_rehearsal(outer: Mapping[str, str], home: Path, port: int, shipment: MadeShipment) -> dict[str, str]:
    """Make the variables of the rehearsal from the outer ones: with a home, database and Valkey of its own, and with
    the simulator in PingOne's place."""
    kept = {name: value for name, value in outer.items() if not name.startswith(NOT_REHEARSED)}
    kept |= {name: outer[name] for name in ("PINGONE_RATE", "PINGONE_RATE_MAX") if name in outer}
    # The simulator replicates nothing, so a device that is not found now will not be found soon: two seconds between
    # two reads are enough.
    return (
        {"OATHBULK_NOT_FOUND_DELAY": "2"}
        | kept
        | {
            "OATHBULK_HOME": str(home),
            "PINGONE_ENVIRONMENT_ID": shipment.world.environment_id,
            "PINGONE_CLIENT_ID": shipment.world.client_id,
            "PINGONE_CLIENT_SECRET": shipment.world.client_secret,
            "PINGONE_API_URL": f"http://127.0.0.1:{port}/v1",
            "PINGONE_TOKEN_URL": f"http://127.0.0.1:{port}/{{env}}/as/token",
        }
    )


def _judge_endings(installation: Installation, expected: Mapping[str, Expected]) -> int:
    """Compare how every token ended with how it was made to end, print the outcome, and choose the exit code."""
    with installation.database.reading() as connection:
        rows = connection.execute(select(Record.serial_number, Record.status, Record.reason, Record.resynced)).all()
    ended = {row.serial_number: (row.status, row.reason, row.resynced) for row in rows}
    wrong = {
        serial: ended.get(serial)
        for serial, end in expected.items()
        if ended.get(serial) != (end.status, end.reason, end.resynced)
    }
    for serial, end in list(wrong.items())[:10]:
        console.print(f"{serial} was made to end as {expected[serial]}, and ended as {end}.")
    if wrong:
        console.print(f"The rehearsal failed: {len(wrong)} of {len(expected)} tokens did not end as made.", style="red")
        return SOME_LEFT
    hopeless = sum(end.status != "active" for end in expected.values())
    console.print(
        f"The rehearsal went as it should: {len(expected) - hopeless} tokens are active, and {hopeless} were made "
        f"hopeless on purpose. All of it is kept in {installation.settings.home}."
    )
    return ALL_ACTIVE
