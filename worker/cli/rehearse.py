"""`oathbulk rehearse`: does the whole job against the simulator, in a home of its own, with variables that lead only to
the simulator and to that home."""

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select

from models.batch import Batch
from models.record import Record
from worker.cli.check import examine
from worker.cli.console import console, name_program
from worker.cli.exit_codes import ALL_ACTIVE, INTERRUPTED, SOME_FAILED
from worker.cli.homes import find_rehearsals_home, lead_into_rehearsal
from worker.cli.run import run_shipment
from worker.cli.shipment_options import LoadOptions
from worker.config.settings import TUNING
from worker.embedded import INSTALL_LOCAL, can_serve
from worker.embedded.children import Children
from worker.embedded.home import EmbeddedError, lock_home
from worker.embedded.valkey import EmbeddedValkey
from worker.installation.installation import Installation
from worker.intake.files import Hints
from worker.intake.lists import open_assignment
from worker.intake.shipment import Shipment, Switches, open_shipment
from worker.observability.wording import agree, count_things
from worker.preflight.findings import Question
from worker.reports.facts import has_batch
from worker.reports.stall import Rehearsal
from worker.simulator.shipment import (
    A_FEW_HOPELESS,
    KEY,
    LIST,
    SEEDS,
    SPECIAL,
    Box,
    Expected,
    MadeShipment,
    make_box,
    make_shipment,
)

# The names of the batch with OTP pairs, and of the one with a box. Both are in one home, which has the first batch's
# name.
BATCH, BOX_BATCH = "rehearsal", "rehearsal-box"
# The box's folder in the rehearsal's home.
BOX = "box"
# For a box: the maximum number of tokens with each kind of trouble, and the maximum share of tokens with any trouble.
MOST_OF_A_KIND = 3
TROUBLED_PART = 0.25
# Findings of a rehearsal's preflight that are accepted in advance. The simulated tenant lacks some devices on purpose,
# and a box has intended failures.
ACCEPTED = [
    *(Question.TOKEN_NOT_IN_INVENTORY, Question.USER_NOT_FOUND, Question.USER_AMBIGUOUS, Question.ACCOUNT_NOT_USABLE),
    *(Question.TOO_MANY_DEVICES, Question.TOKEN_DIFFERS, Question.TOKEN_TAKEN),
]
# At most this many of the tokens that did not end as they should have are listed.
SHOWN = 10
# Seconds for the simulator to start on a busy machine.
START_TIMEOUT = 60.0


def rehearse(
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Number of tokens to make up.")] = 500,
    rate: Annotated[
        float | None,
        typer.Option(help="At most this many requests a second. Default: begin at PINGONE_RATE and adapt."),
    ] = None,
    box: Annotated[
        bool, typer.Option("--box", help="Rehearse with a made-up box of seeds: look up, import, pair, activate.")
    ] = False,
) -> None:
    """Rehearse the whole job against the built-in simulator: no accounts, no servers."""
    if not can_serve():
        raise EmbeddedError(f"the simulator is not installed: {INSTALL_LOCAL}")
    here = Installation()
    homes = find_rehearsals_home(here.settings.home)
    with lock_home(homes):
        batch = BOX_BATCH if box else BATCH
        home = _make_home(here, homes / BATCH, batch)
        # How many tokens with each kind of trouble; 0 if the box is too small.
        troubles = min(MOST_OF_A_KIND, int(tokens * TROUBLED_PART / len(SPECIAL)))
        made = make_box(tokens, special=dict.fromkeys(SPECIAL, troubles)) if box else _make_pairs(tokens)
        made.write_world(home / "world.json")
        shipment = _open_made(made, home)
        with running_simulator(home) as port:
            if box:
                _print_box(made.expected, troubles, home / BOX)
            variables = _point_at_rehearsal(here.variables, home, port, made)
            if rate is not None:
                variables["PINGONE_RATE"] = variables["PINGONE_RATE_MAX"] = str(rate)
            installation = Installation(variables, makes_home=True)
            asked = LoadOptions(batch=batch, accept=ACCEPTED)
            found = examine(installation, shipment, asked, needs_pingone=True)
            code = run_shipment(installation, shipment, asked, found, "`oathbulk rehearse` starts over.")
        raise typer.Exit(code if code == INTERRUPTED else _judge_endings(installation, batch, made.expected))


def _make_home(here: Installation, home: Path, batch: str) -> Path:
    """Make the home of rehearsals, replacing the previous one if that has this batch."""
    # A killed rehearsal may have left its Valkey running. Without the files of its home nobody would find that server
    # again.
    EmbeddedValkey(home).stop()
    before = Installation(lead_into_rehearsal(here.variables, home))
    if not before.has_home or has_batch(before.database, batch):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700)
    return home


@contextmanager
def running_simulator(home: Path) -> Iterator[int]:
    """Start a simulator, and stop it at the end. Yields its port. Raises EmbeddedError."""
    children, ready = Children(orphan_grace=1.0), home / "simulator.json"
    ready.unlink(missing_ok=True)
    argv = [sys.executable, "-P", "-m", "worker", "simulator", "--port", "0", "--ready-file", str(ready)]
    argv += ["--world", str(home / "world.json")]
    try:
        children.start("simulator", argv, {"PATH": "/usr/bin:/bin"}, home / "simulator.log")
        give_up_at = time.monotonic() + START_TIMEOUT
        while not ready.exists():
            if children.find_ended() or time.monotonic() > give_up_at:
                last_words = (home / "simulator.log").read_text(errors="replace").strip() or "it printed nothing"
                raise EmbeddedError(f"the simulator does not start: {last_words.splitlines()[-1]}")
            time.sleep(0.05)
        yield int(json.loads(ready.read_text())["port"])
    finally:
        children.stop(grace=5.0)


def _point_at_rehearsal(outer: Mapping[str, str], home: Path, port: int, made: MadeShipment) -> dict[str, str]:
    """Make the variables of the rehearsal from the outer ones: with its own home, database, and Valkey, and the
    simulator in PingOne's place."""
    kept = lead_into_rehearsal(outer, home)
    kept |= {name: outer[name] for name in ("PINGONE_RATE", "PINGONE_RATE_MAX") if name in outer}
    # The simulator replicates nothing, so a device that is not found now will not be found soon: two seconds between
    # two reads are enough.
    return (
        {f"{TUNING}__not_found_delay": "2"}
        | kept
        | {
            "PINGONE_ENVIRONMENT_ID": made.world.environment_id,
            "PINGONE_CLIENT_ID": made.world.client_id,
            "PINGONE_CLIENT_SECRET": made.world.client_secret,
            "PINGONE_API_URL": f"http://127.0.0.1:{port}/v1",
            "PINGONE_TOKEN_URL": f"http://127.0.0.1:{port}/{{env}}/as/token",
        }
    )


def _make_pairs(tokens: int) -> MadeShipment:
    """Make up this many tokens with OTP pairs, and a few hopeless ones among them."""
    return make_shipment(tokens, hopeless=A_FEW_HOPELESS if tokens >= 10 * len(A_FEW_HOPELESS) else {})


def _open_made(made: MadeShipment, home: Path) -> Shipment:
    """Write the files of made-up tokens, in the clear, and open them as the shipment to load."""
    if not isinstance(made, Box):
        made.write_pairs(home / "shipment.csv")
        return open_shipment(home / "shipment.csv")
    made.write(home / BOX)
    return open_shipment(
        home / BOX / SEEDS,
        hints=Hints(key=made.keys.pre_shared),
        assignment=open_assignment(home / BOX / LIST),
        switches=Switches(may_import=True, may_pair=True),
    )


def _print_box(expected: Mapping[str, Expected], troubles: int, folder: Path) -> None:
    """Say what was made up, and how a person can do the same by hand."""
    tokens, hopeless = len(expected), sum(end.status != "active" for end in expected.values())
    console.print(f"Made up a box of {tokens} tokens in {folder}; {hopeless} of them fail on purpose:")
    console.print(f"{SEEDS}, encrypted; {KEY}, its key; {LIST}, who gets which token.")
    by_hand = f"{name_program()} simulator --tokens {tokens} --box box --troubles {troubles}"
    console.print(f"To do it step by step: {by_hand}", soft_wrap=True)


def _judge_endings(installation: Installation, batch: str, expected: Mapping[str, Expected]) -> int:
    """Compare how every token of the batch ended with how it should have ended, print the outcome, and choose the exit
    code."""
    if wrong := _find_wrong(installation, batch, expected):
        for serial, end in list(wrong.items())[:SHOWN]:
            console.print(f"{serial} should have ended as {expected[serial]}, but ended as {end}.")
        console.print(
            f"The rehearsal failed: {len(wrong)} of {len(expected)} tokens did not end as they should.", style="red"
        )
        return SOME_FAILED
    hopeless = sum(end.status != "active" for end in expected.values())
    active = len(expected) - hopeless
    home = installation.settings.home
    console.print(
        f"The rehearsal went as planned: {count_things(active, 'token')} "
        f"{agree(active, 'is', 'are')} active, and {hopeless:,} failed on purpose. "
        f"Everything is kept in {home}."
    )
    rehearsal = Rehearsal(home, name_program())
    console.print(f"To look at it: {rehearsal.write(f'oathbulk status {batch}')}", soft_wrap=True)
    return ALL_ACTIVE


def _find_wrong(installation: Installation, batch: str, expected: Mapping[str, Expected]) -> dict[str, object]:
    """Find the tokens that did not end as they should have, and how each ended; None if it has no record."""
    columns = select(Record.serial_number, Record.status, Record.reason, Record.resynced)
    with installation.database.reading() as connection:
        of_batch = columns.join(Batch).where(Batch.name == batch)
        ended = {serial: tuple(end) for serial, *end in connection.execute(of_batch)}
    return {
        serial: ended.get(serial)
        for serial, end in expected.items()
        if ended.get(serial) != (end.status, end.reason, end.resynced)
    }
