"""`oathbulk simulator`: serves the simulator alone, until Ctrl-C.

Imports nothing of the other commands, so that the simulator can run where oathbulk has no settings."""

from __future__ import annotations

import contextlib
import errno
import secrets
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from worker.cli.simulator_settings import Unfit, gather_changes, read_settings, read_world
from worker.embedded import extras

if TYPE_CHECKING:
    from socket import socket

    from worker.simulator.seeding import WorldSeed

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
    control: Annotated[
        bool | None, typer.Option(help="The control API, which tells OTPs. Default: on loopback alone.")
    ] = None,
) -> None:
    """Serve a simulated PingOne over HTTP, with faults on demand, until Ctrl-C."""
    _ensure_installed()
    from worker.cli.simulator_display import print_address, print_next
    from worker.simulator import server
    from worker.simulator.call_log import CallLog
    from worker.simulator.simulation import Simulation

    try:
        changes = gather_changes(rate, rate_at or [], rate_window, latency, setting or [])
        first = read_world(world)
        settings = read_settings(first.settings | changes)
    except Unfit as unfit:
        _fail(str(unfit), _WRONG_USAGE)
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
        print_address(server.base_url(listener), first, _make_home() if made else None)
        print_next(pairs, box)
        if ready_file is not None:
            server.write_ready_file(ready_file, listener)
        has_control = server.is_loopback(host) if control is None else control
        # uvicorn stops in good order at the first Ctrl-C, and then raises it again.
        with contextlib.suppress(KeyboardInterrupt):
            server.make_server(simulation, control=has_control).run(sockets=[listener])
        calls.close_file()


def _listen(host: str, port: int) -> socket:
    """Listen there, or end the process with what helps."""
    from worker.simulator import server

    try:
        return server.listen(host, port)
    except OSError as error:
        option = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        _fail(f"cannot serve at {host} port {port}: {error.strerror or error}; give another {option}", _CANNOT_SERVE)


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


def _make_home() -> Path:
    """Make an empty home for what is done with made-up tokens. In that of an earlier practice, or of a person's own,
    tokens of the same environment and serial numbers would be known as active."""
    return Path(mkdtemp(prefix="oathbulk-practice-"))


def _ensure_installed() -> None:
    """End the process if the packages of the extra `rehearsal` are missing."""
    if not extras.can_serve():
        _fail(f"the simulator is not installed: {extras.name_cure('rehearsal')}", _CANNOT_SERVE)


def _fail(complaint: str, code: int) -> NoReturn:
    """Print what is wrong on stderr, and end the process."""
    typer.echo(f"oathbulk: {complaint}", err=True)
    raise typer.Exit(code)
