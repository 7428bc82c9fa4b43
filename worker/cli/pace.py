"""`oathbulk pace`: shows or sets how many requests a second the workers of a license make."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.batch_display import describe_hold
from worker.cli.console import console, print_json
from worker.cli.options import AsJson, EnvironmentName, Share, Ticket
from worker.config.settings import DEFAULT_ENVIRONMENT
from worker.installation.installation import Installation
from worker.pace.memory import KnownPace, PaceMemory


def pace(
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    share: Share = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, metavar="N", help="Stay at N requests a second, whatever PingOne permits.")
    ] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="Look for the limit again, after --rate.")] = False,
    ticket: Ticket = None,
    as_json: AsJson = False,
) -> None:
    """Show or set how many requests a second a license's workers make; what is set holds from the next second on."""
    if adapt and rate is not None:
        raise typer.BadParameter("--rate stays, --adapt moves: give one of them")
    installation = Installation()
    license_ = installation.environment(environment).license
    commands = installation.pace_commands(ticket)
    if share is not None:
        commands.set_share(license_, share)
    if rate is not None:
        commands.fix(license_, rate)
    if adapt:
        commands.adapt(license_)
    known = PaceMemory(installation.database).read(license_)
    if as_json:
        print_json(known.to_json())
    else:
        console.print("\n".join(_describe_pace(known)))


def _describe_pace(known: KnownPace) -> list[str]:
    """Say what is known of a license's pace: the rate, a hold, what a person set, the ceiling; a line each."""
    lines = [
        f"License {known.license}: " + (f"{known.rate:.1f} requests/s lately." if known.rate else "no request yet.")
    ]
    if known.hold:
        lines.append(describe_hold(known.hold))
    if known.fixed_rate:
        lines.append(f"It stays at {known.fixed_rate:g} requests/s. Let it adapt again with: oathbulk pace --adapt")
    if known.ceiling and known.found_at:
        found_at = f"{known.found_at:%Y-%m-%d %H:%M} UTC"
        lines.append(f"PingOne refuses from about {known.ceiling:.1f} requests/s on (found {found_at}).")
    else:
        lines.append("PingOne has refused none yet, so the limit is not known.")
    if known.share < 1:
        lines.append(f"Ours are {known.share:.0%} of that; the rest is left to people who sign on.")
    if known.set_by and known.set_at:
        why = f" ({known.ticket})" if known.ticket else ""
        lines.append(f"Set by {known.set_by} on {known.set_at:%Y-%m-%d %H:%M} UTC{why}.")
    return lines
