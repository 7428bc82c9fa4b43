"""`oathbulk simulator`: serves the simulator alone, until Ctrl-C.

Imports none of the other commands, so that the simulator can run where oathbulk has no settings."""

from __future__ import annotations

import contextlib
import errno
import json
import shlex
from difflib import get_close_matches
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from worker.cli.exit_codes import UNUSABLE_SETUP, WRONG_USAGE
from worker.embedded import INSTALL_LOCAL, can_serve
from worker.simulator.shipment import (
    KEY,
    LIST,
    MENDED_BY_FRESH_OTPS,
    SEEDS,
    SPECIAL,
    a_few_of_each,
    make_box,
    make_shipment,
)
from worker.simulator.world import Settings, Simulation, WorldSeed

if TYPE_CHECKING:
    from socket import socket


def simulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8900,
    host: Annotated[str, typer.Option(help="The address to listen on, without TLS.")] = "127.0.0.1",
    world: Annotated[Path | None, typer.Option(help="JSON file with the devices to begin with.")] = None,
    tokens: Annotated[int, typer.Option(min=0, help="Number of tokens to make up; needs --pairs or --box.")] = 0,
    pairs: Annotated[Path | None, typer.Option(help="Pair the tokens, and write their OTP pairs here.")] = None,
    box: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write their seeds, key, and list here; nothing is imported.")
    ] = None,
    troubles: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of tokens with each kind of trouble; with --pairs, only kinds that fresh OTPs cure. Default: "
            "none with --pairs, a few with --box.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers: another number yields other tokens.")] = 0,
    rate: Annotated[float | None, typer.Option(help="Requests a second. Default: unlimited.")] = None,
    latency: Annotated[float | None, typer.Option(min=0, help="Milliseconds before each answer.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=JSON: a setting of the simulated PingOne; repeatable.")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the port to this file once the simulator listens.")
    ] = None,
) -> None:
    """Serve a simulated PingOne over HTTP, until Ctrl-C."""
    if not can_serve():
        _fail(f"the simulator is not installed: {INSTALL_LOCAL}", UNUSABLE_SETUP)
    from worker.simulator import server

    first = _read_world(world)
    settings = _read_settings(first.settings | _gather_changes(rate, latency, setting or []))
    # Listen before any file is written: a simulator that listens there already may have written its tokens to files
    # with these names.
    with _listen(host, port) as listener:
        made = _make_up(tokens, pairs, box, troubles, seed)
        simulation = Simulation(settings)
        simulation.seed(first)
        if made is not None:
            client = {name: getattr(first, name) for name in ("environment_id", "client_id", "client_secret")}
            simulation.seed(made.model_copy(update=client))
        _print_address(server.base_url(listener), first, Path(mkdtemp(prefix="oathbulk-practice-")) if made else None)
        _print_next(pairs, box, troubles)
        if ready_file is not None:
            server.write_ready_file(ready_file, listener)
        # uvicorn shuts down cleanly at the first Ctrl-C, and then raises it again.
        with contextlib.suppress(KeyboardInterrupt):
            server.make_server(simulation).run(sockets=[listener])


def _read_settings(changes: dict[str, Any]) -> Settings:
    """Make the settings of a simulator from the values that differ from its defaults."""
    for name in changes.keys() - Settings.model_fields.keys():
        near = get_close_matches(name, Settings.model_fields, n=1)
        cure = f"did you mean {near[0]}?" if near else "docs/deployment.md lists all"
        _fail(f"--set {name}: unknown setting of the simulator; {cure}", WRONG_USAGE)
    try:
        return Settings().with_changes(changes)
    except ValidationError as error:
        _fail(f"settings: {_describe_faults(error)}", WRONG_USAGE)


def _read_world(path: Path | None) -> WorldSeed:
    """Read the initial world; without a file, it is empty."""
    if path is None:
        return WorldSeed()
    try:
        return WorldSeed.model_validate_json(path.read_bytes())
    except OSError as error:
        _fail(f"{path} cannot be read: {error.strerror}", WRONG_USAGE)
    except ValidationError as error:
        _fail(f"{path} is not a world: {_describe_faults(error)}", WRONG_USAGE)


def _gather_changes(rate: float | None, latency: float | None, assignments: list[str]) -> dict[str, Any]:
    """Gather the settings that the command line names. --set wins over the options."""
    changes: dict[str, Any] = {} if rate is None else {"rate": rate}
    if latency is not None:
        changes["latency"] = latency / 1000
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            _fail(f"--set {assignment}: must be NAME=VALUE, such as --set failure_count=5", WRONG_USAGE)
        try:
            changes[name] = json.loads(value)
        except ValueError:
            # A value that is not JSON is text.
            changes[name] = value
    return changes


def _describe_faults(error: ValidationError) -> str:
    """Name the first three faults with their fields; never the values, which may be secret."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    named = [f"{'.'.join(str(part) for part in fault['loc']) or 'all'}: {fault['msg']}" for fault in faults[:3]]
    return "; ".join(named) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def _listen(host: str, port: int) -> socket:
    """Listen at this address, or end the process with a message that says what to do."""
    from worker.simulator import server

    try:
        return server.listen(host, port)
    except OSError as error:
        option = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        _fail(f"cannot serve at {host} port {port}: {error.strerror or error}; give another {option}", UNUSABLE_SETUP)


def _make_up(tokens: int, pairs: Path | None, box: Path | None, troubles: int | None, seed: int) -> WorldSeed | None:
    """Make up tokens, write their files, and return the world for them; None if none were requested."""
    if bool(tokens) != bool(pairs or box) or (pairs and box):
        _fail("give --tokens with --pairs or --box: how many, and where to write them", WRONG_USAGE)
    if troubles is not None and not tokens:
        _fail("--troubles needs --tokens", WRONG_USAGE)
    if pairs and troubles and (fresh := _name_fresh(pairs)).exists():
        _fail(f"{fresh} exists already, and fresh OTPs would replace it: move it, or name another file", WRONG_USAGE)
    try:
        if box is not None:
            special = a_few_of_each(tokens) if troubles is None else dict.fromkeys(SPECIAL, troubles)
            made = make_box(tokens, seed=seed, special=special)
            made.write(box)
            return made.world
        if pairs is not None:
            # Tokens that two fresh OTPs mend, this many of each kind.
            shipment = make_shipment(tokens, seed=seed, hopeless=dict.fromkeys(MENDED_BY_FRESH_OTPS, troubles or 0))
            shipment.write_pairs(pairs)
            if troubles:
                shipment.write_fresh_pairs(_name_fresh(pairs))
            return shipment.world
    except OSError as error:
        _fail(f"{error.filename} cannot be written: {error.strerror}", WRONG_USAGE)
    except ValueError as error:
        _fail(str(error), WRONG_USAGE)
    return None


def _print_address(url: str, seed: WorldSeed, home: Path | None) -> None:
    """Print where the simulator listens, and the variables that make oathbulk call it. `home`: an empty home to
    practice in, if there are made-up tokens. In the home of an earlier practice, or in a person's own, tokens with the
    same environment and serial numbers would be known as active."""
    typer.echo(f"A simulated PingOne listens at {url} (Ctrl-C ends it). To point oathbulk here:\n")
    for name, value in {
        "ENVIRONMENT_ID": seed.environment_id,
        "CLIENT_ID": seed.client_id,
        "CLIENT_SECRET": seed.client_secret,
        "API_URL": f"{url}/v1",
        "TOKEN_URL": f"{url}/{seed.environment_id}/as/token",
    }.items():
        typer.echo(f"export PINGONE_{name}={value}")
    if home is not None:
        typer.echo(f"export OATHBULK_HOME={shlex.quote(str(home))}")
        typer.echo("\nThat home is only for this practice: the next one makes up the same serial numbers.")


def _name_fresh(pairs: Path) -> Path:
    """Name the file with fresh OTPs for tokens in this one."""
    return pairs.with_name(f"{pairs.stem}-fresh{pairs.suffix}")


def _print_next(pairs: Path | None, box: Path | None, troubles: int | None) -> None:
    """Print the commands that activate the made-up tokens."""
    if box is not None:
        seeds, key, people = (shlex.quote(str(box / name)) for name in (SEEDS, KEY, LIST))
        command = f"oathbulk run {seeds} --key-file {key} --assign {people} --import --pair"
        typer.echo(f"\nTo activate the tokens of the box:\n\n{command}")
    if pairs is not None:
        if troubles:
            typer.echo(f"\nFresh OTPs of those that fail: {_name_fresh(pairs)}")
        typer.echo(f"\nTo activate the tokens:\n\noathbulk run {shlex.quote(str(pairs))}")


def _fail(complaint: str, code: int) -> NoReturn:
    """Print what is wrong on stderr, and end the process."""
    typer.echo(f"oathbulk: {complaint}", err=True)
    raise typer.Exit(code)
