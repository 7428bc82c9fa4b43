"""`oathbulk simulator`: serves the simulator alone, until Ctrl-C.

Imports nothing of the other commands, so that the simulator can run where oathbulk has no settings."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from worker.config import extras

if TYPE_CHECKING:
    from socket import socket

    from worker.simulator.seeding import WorldSeed
    from worker.simulator.settings import Settings

# Exit codes, as in `failures`.
_WRONG_USAGE = 2
_CANNOT_SERVE = 3


def simulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8900,
    host: Annotated[str, typer.Option(help="The address to listen on; without TLS.")] = "127.0.0.1",
    world: Annotated[Path | None, typer.Option(help="JSON: the devices to begin with.")] = None,
    tokens: Annotated[int, typer.Option(min=0, help="Make up so many tokens; needs --pairs or --box.")] = 0,
    pairs: Annotated[Path | None, typer.Option(help="Where to write their OTP pairs; they are paired.")] = None,
    box: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write their seeds, key and list; nothing is imported.")
    ] = None,
    troubles: Annotated[
        int | None,
        typer.Option(
            min=0, help="Tokens of each kind of trouble; of pairs, what fresh OTPs mend. Default: few or none."
        ),
    ] = None,
    press: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Serve nothing: write fresh OTPs of the simulator that runs into an export."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another number makes up other tokens.")] = 0,
    rate: Annotated[float | None, typer.Option(help="Requests a second; default: unlimited.")] = None,
    rate_at: Annotated[list[str] | None, typer.Option(help="SECONDS=RATE: another rate from then on.")] = None,
    rate_window: Annotated[float | None, typer.Option(help="Seconds to count anew; default: a bucket.")] = None,
    latency: Annotated[float | None, typer.Option(min=0, help="Milliseconds before an answer.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="NAME=JSON: any setting.")] = None,
    journal: Annotated[Path | None, typer.Option(help="Append each call to this file, as JSON.")] = None,
    journal_salt: Annotated[str | None, typer.Option(help="Of the OTPs' fingerprints.")] = None,
    journal_otps: Annotated[bool, typer.Option("--journal-otps", help="OTPs in plain: tests only.")] = False,
    ready_file: Annotated[Path | None, typer.Option(help="Write the port here when it listens.")] = None,
    control: Annotated[bool, typer.Option("--control", help="Control API beyond loopback too.")] = False,
) -> None:
    """Serve a simulated PingOne over HTTP, with faults on demand, until Ctrl-C."""
    _ensure_installed()
    if press is not None:
        _press(press, f"http://{host}:{port}")
    from worker.cli.simulator_display import print_address, print_next
    from worker.simulator import server
    from worker.simulator.call_log import CallLog
    from worker.simulator.simulation import Simulation

    changes = _read_changes(rate, rate_at or [], rate_window, latency, setting or [])
    first = _read_world(world)
    settings = _read_settings(first.settings | changes)
    # Before any file is written: a simulator that listens there may have written files of these names, of its tokens.
    with _listen(host, port) as listener:
        made = _make_up(tokens, pairs, box, troubles, seed)
        try:
            calls = CallLog(salt=journal_salt or secrets.token_hex(16), file=journal, plain_otps=journal_otps)
        except OSError as error:
            _fail(f"{journal} cannot be written: {error.strerror}", _WRONG_USAGE)
        simulation = Simulation(settings, calls)
        simulation.seed(first.model_copy(update={"settings": {}}))
        if made is not None:
            client = {name: getattr(first, name) for name in ("environment_id", "client_id", "client_secret")}
            simulation.seed(made.model_copy(update=client))
        print_address(server.base_url(listener), first)
        print_next(pairs, box)
        if ready_file is not None:
            server.write_ready_file(ready_file, listener)
        # uvicorn stops in good order at the first Ctrl-C, and then raises it again.
        with contextlib.suppress(KeyboardInterrupt):
            server.make_server(simulation, control=control or server.is_loopback(host)).run(sockets=[listener])
        calls.close_file()


def _listen(host: str, port: int) -> socket:
    """Listen there, or end the process with what helps."""
    from worker.simulator import server

    try:
        return server.listen(host, port)
    except OSError as error:
        option = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        _fail(f"cannot serve at {host} port {port}: {error.strerror or error}; give another {option}", _CANNOT_SERVE)


def _press(file: Path, url: str) -> NoReturn:
    """Press the tokens of an exported file at the simulator that runs, and end the process. The variables name that
    simulator, or else `url` does."""
    from worker.cli.pressed_tokens import NotPressed, press_tokens_of
    from worker.cli.simulator_display import print_pressed

    try:
        print_pressed(file, press_tokens_of(file, os.environ.get("PINGONE_API_URL") or url))
    except NotPressed as refused:
        _fail(str(refused), _WRONG_USAGE)
    raise typer.Exit


def _make_up(tokens: int, pairs: Path | None, box: Path | None, troubles: int | None, seed: int) -> WorldSeed | None:
    """Make up tokens, write their files, and return the world for them; None if there are to be none."""
    from worker.cli.simulated_tokens import make_box_in, make_pairs_in

    if bool(tokens) != bool(pairs or box) or (pairs and box):
        _fail("--tokens and --pairs go together, or --tokens and --box: how many, and where to", _WRONG_USAGE)
    if troubles is not None and not tokens:
        _fail("--troubles goes with --tokens: nothing is made up that could have them", _WRONG_USAGE)
    try:
        if box is not None:
            return make_box_in(box, tokens, troubles, seed)
        return make_pairs_in(pairs, tokens, troubles or 0, seed) if pairs is not None else None
    except OSError as error:
        _fail(f"{error.filename} cannot be written: {error.strerror}", _WRONG_USAGE)
    except ValueError as error:
        _fail(str(error), _WRONG_USAGE)


def _read_settings(changes: dict[str, Any]) -> Settings:
    from worker.simulator.settings import Settings

    for name in changes.keys() - Settings.model_fields.keys():
        near = get_close_matches(name, Settings.model_fields, n=1)
        cure = f"did you mean {near[0]}?" if near else "docs/simulator.md lists all"
        _fail(f"--set {name}: no setting of the simulator; {cure}", _WRONG_USAGE)
    try:
        return Settings().with_changes(changes)
    except ValidationError as error:
        _fail(f"settings: {_describe_faults(error)}", _WRONG_USAGE)


def _read_world(path: Path | None) -> WorldSeed:
    """Read the devices to begin with; without a file, an empty world."""
    from worker.simulator.seeding import WorldSeed

    if path is None:
        return WorldSeed()
    try:
        return WorldSeed.model_validate_json(path.read_bytes())
    except OSError as error:
        _fail(f"{path} cannot be read: {error.strerror}", _WRONG_USAGE)
    except ValidationError as error:
        _fail(f"{path} is no world: {_describe_faults(error)}", _WRONG_USAGE)


def _read_changes(
    rate: float | None,
    rate_at: list[str],
    rate_window: float | None,
    latency: float | None,
    assignments: list[str],
) -> dict[str, Any]:
    """Gather the settings that the command line names. --set wins over the options."""
    changes = dict(
        _parse_assignment("--rate-at", change, "SECONDS=RATE, such as --rate-at 30=100") for change in rate_at
    )
    named = {
        "rate": rate,
        "rate_changes": changes or None,
        "limit_window": rate_window,
        "latency": None if latency is None else latency / 1000,
    }
    form = "NAME=VALUE, such as --set failure_count=5"
    assigned = dict(_parse_assignment("--set", assignment, form) for assignment in assignments)
    return {name: value for name, value in named.items() if value is not None} | assigned


def _parse_assignment(option: str, assignment: str, form: str) -> tuple[str, Any]:
    """Take NAME=JSON apart; a value that is no JSON is text. `form` says in an error what it should look like."""
    name, separator, value = assignment.partition("=")
    if not separator:
        _fail(f"{option} {assignment}: must be {form}", _WRONG_USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _describe_faults(error: ValidationError) -> str:
    """Name the first three faults with their fields; never the values, which may be secret."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    named = [f"{'.'.join(str(part) for part in fault['loc']) or 'all'}: {fault['msg']}" for fault in faults[:3]]
    return "; ".join(named) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def _ensure_installed() -> None:
    """End the process if the packages of the extra `rehearsal` are missing."""
    if not extras.can_serve():
        _fail(f"the simulator is not installed: {extras.name_cure('rehearsal')}", _CANNOT_SERVE)


def _fail(complaint: str, code: int) -> NoReturn:
    """Print what is wrong on stderr, and end the process."""
    typer.echo(f"oathbulk: {complaint}", err=True)
    raise typer.Exit(code)
