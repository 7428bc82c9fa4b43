"""`oathbulk pace`: shows or sets how many requests per second a license's workers make."""

from typing import Annotated

import redis
import typer
from pydantic import SecretStr

from worker.batches.commands import HIGHEST_RATE, LOWEST_RATE
from worker.cli.console import console, print_json
from worker.cli.options import AsJson, EnvironmentName, Share, Ticket
from worker.config.environment import DEFAULT_ENVIRONMENT, Environment
from worker.config.settings import ConfigError
from worker.embedded.valkey import EmbeddedValkey
from worker.installation.installation import Installation
from worker.observability.wording import format_duration
from worker.pace.license_paces import PaceMemory
from worker.pace.redis_state import Reading
from worker.pace.search import RateGroup
from worker.process.parts import Parts
from worker.reports.outlook import describe_pace


def pace(
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    share: Share = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=LOWEST_RATE,
            max=HIGHEST_RATE,
            metavar="N",
            help="Stay at N requests a second, whatever PingOne permits.",
        ),
    ] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="Search for the limit again, after --rate.")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="End the holds on all groups of calls.")] = False,
    ticket: Ticket = None,
    as_json: AsJson = False,
) -> None:
    """Show or set how many requests per second a license's workers make. A change takes effect within a second."""
    if adapt and rate is not None:
        raise typer.BadParameter("--rate and --adapt exclude each other: use only one of them")
    installation = Installation()
    configured = installation.environment(environment)
    commands = installation.pace_commands(ticket)
    if share is not None:
        commands.set_share(configured.license, share)
    if rate is not None:
        commands.fix(configured.license, rate)
    if adapt:
        commands.adapt(configured.license)
    if lift:
        commands.lift(configured.license)
    known = PaceMemory(installation.database).read(configured.license)
    if as_json:
        print_json(known.to_json())
    else:
        console.print("\n".join([*describe_pace(known), _describe_other_groups(_open_parts(installation), configured)]))


def _open_parts(installation: Installation) -> Parts:
    """Open the parts of this command. They use the fleet's Redis, or the embedded one while it runs."""
    settings = installation.settings
    if settings.redis_url is None and (url := EmbeddedValkey(settings.home).find_url()):
        settings = settings.model_copy(update={"redis_url": SecretStr(url)})
    return Parts(settings, installation.environment, installation.database)


def _describe_other_groups(parts: Parts, environment: Environment) -> str:
    """Say in one line how fast calls other than activations are made: each group has its own pace, which only Redis
    knows."""
    others = [group for group in RateGroup if group is not RateGroup.MFA]
    try:
        known = ", ".join(f"{group} {_describe(parts.paces.of(environment, group).read())}" for group in others)
    except (ConfigError, redis.RedisError):
        # Without a URL, each run brings its own Valkey.
        is_embedded = parts.settings.redis_url is None
        why = "they are known only during a run" if is_embedded else "Redis, which has them, cannot be reached"
        known = f"{', '.join(others)}; {why}"
    return f"Other calls have their own paces: {known}."


def _describe(reading: Reading) -> str:
    """Say in a few words how fast a group of calls is made."""
    if reading.hold_left:
        return f"on hold for {format_duration(reading.hold_left)}"
    return f"paced at {reading.search.rate:.1f} requests/s" if reading.search else "with no request lately"
