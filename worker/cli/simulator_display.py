"""What `oathbulk simulator` prints: where it listens, and the commands to go on with."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import typer

from worker.cli.simulated_tokens import name_run
from worker.simulator.seeding import WorldSeed


def print_address(url: str, seed: WorldSeed, home: Path | None) -> None:
    """Print where the simulator listens, and the variables that make oathbulk call it. `home`: that of the practice
    with made-up tokens, if there are any."""
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
        typer.echo(f"export OATHBULK_HOME={quote(str(home))}")
        typer.echo("\nThat home is for this practice alone: the next one makes up tokens of the same serial numbers.")


def print_next(pairs: Path | None, box: Path | None) -> None:
    """Print the commands that take the made-up tokens all the way."""
    if box is not None:
        typer.echo(f"\nTo take the tokens of the box all the way:\n\n{name_run(box)}")
    if pairs is not None:
        typer.echo(f"\nTo activate the tokens:\n\noathbulk run {quote(str(pairs))}")
