"""`oathbulk pace`: shows or sets how many requests a second the workers of a license make."""

from typing import Annotated

import redis
import typer
from pydantic import SecretStr

from worker.batches.commands import HIGHEST_RATE, LOWEST_RATE, PaceCommands
from worker.cli.console import console, print_json
from worker.cli.options import AsJson, EnvironmentName, Share, Ticket
from worker.config.environment import DEFAULT_ENVIRONMENT, Environment
from worker.config.settings import ConfigError
from worker.embedded.valkey import EmbeddedValkey
from worker.installation.installation import Installation
from worker.observability.wording import format_duration
from worker.pace.license_paces import GroupPace, PaceMemory, describe_known, read_group
from worker.pace.rate_groups import PURPOSES, RateGroup
from worker.pace.slots import Pace
from worker.process.parts import Parts
from worker.reports.outlook import describe_pace

# What is said where the embedded Redis does not run, which ends with each run.
NO_RUN = (
    "No run is at work here. What is said of the license and of mfa is kept in the database; the other groups can be "
    "seen only during a run: ask again while `oathbulk run FILE` works. Where workers are elsewhere, set "
    "OATHBULK_REDIS_URL."
)


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
    adapt: Annotated[bool, typer.Option("--adapt", help="Look for the limit again, after --rate.")] = False,
    lift: Annotated[
        bool, typer.Option("--lift", help="End the holds of all groups of calls; of one, with --group.")
    ] = False,
    group: Annotated[
        RateGroup | None,
        typer.Option(help="The group of calls that --rate, --adapt or --lift is for. Default of the first two: mfa."),
    ] = None,
    ticket: Ticket = None,
    as_json: AsJson = False,
) -> None:
    """Show or set how many requests a second a license's workers make; what is set holds from the next second on."""
    if adapt and rate is not None:
        raise typer.BadParameter("--rate stays, --adapt moves: give one of them")
    if group is not None and not (lift or adapt or rate is not None):
        raise typer.BadParameter("goes with --rate, --adapt or --lift; a share is of all groups", param_hint="--group")
    installation = Installation()
    configured = installation.environment(environment)
    commands, parts = installation.pace_commands(ticket), _open_parts(installation)
    if share is not None:
        commands.set_share(configured.license, share)
    if group in (None, RateGroup.MFA):
        _command_license(commands, configured.license, rate, adapt=adapt, lift=lift and group is None)
    if group is not None and (lift or group is not RateGroup.MFA):
        _command_group(commands, parts.paces.of(configured, group), rate, adapt=adapt, lift=lift)
    known = PaceMemory(installation.database).read(configured.license)
    groups = [describe_known(known), *_read_other_groups(parts, configured)]
    if as_json:
        print_json(known.to_json() | {"groups": [each.to_json() for each in groups]})
    else:
        is_run_missing = installation.settings.redis_url is None and not all(each.is_read for each in groups)
        console.print("\n".join([*describe_pace(known), *_describe_groups(groups, is_run_missing=is_run_missing)]))


def _open_parts(installation: Installation) -> Parts:
    """Open the parts of this command. Its Redis is the fleet's; or the embedded one, while that runs."""
    settings = installation.settings
    if settings.redis_url is None and (url := EmbeddedValkey(settings.home).find_url()):
        settings = settings.model_copy(update={"redis_url": SecretStr(url)})
    return Parts(settings, installation.environment, installation.database)


def _command_license(commands: PaceCommands, license: str, rate: float | None, *, adapt: bool, lift: bool) -> None:
    """Give the commands that reach the fleet through the database: on activations, and on the holds of all groups."""
    if rate is not None:
        commands.fix(license, rate)
    if adapt:
        commands.adapt(license)
    if lift:
        commands.lift(license)


def _command_group(commands: PaceCommands, pace: Pace, rate: float | None, *, adapt: bool, lift: bool) -> None:
    """Give the commands on one group that reach the fleet through Redis. Raises redis.RedisError."""
    if lift:
        commands.lift_group(pace)
    if pace.group is RateGroup.MFA:
        return
    if rate is not None:
        commands.fix_group(pace, rate)
    if adapt:
        commands.adapt_group(pace)


def _read_other_groups(parts: Parts, environment: Environment) -> list[GroupPace]:
    """Read the paces of all groups but that of activations, which Redis alone knows. Where it cannot be asked, nothing
    is known of them."""
    others = [group for group in RateGroup if group is not RateGroup.MFA]
    try:
        return [read_group(parts.paces.of(environment, group)) for group in others]
    except (ConfigError, redis.RedisError):
        return [GroupPace(group, is_read=False) for group in others]


def _describe_groups(groups: list[GroupPace], *, is_run_missing: bool) -> list[str]:
    """Say what each group of calls is for, and what is known of its pace; a line each. `is_run_missing`: no run is at
    work here, and there is no other Redis to ask."""
    why = "no run is at work" if is_run_missing else "Redis cannot be asked"
    lines = ["", "Each group of calls has a limit of its own:", *(_describe_group(group, why) for group in groups)]
    return [*lines, "", NO_RUN] if is_run_missing else lines


def _describe_group(known: GroupPace, why: str) -> str:
    """Say in one line what is known of a group's pace. `why`: why it may not be known."""
    line = f"  {known.group} ({PURPOSES[known.group]}): "
    if not known.is_read:
        return f"{line}not known, since {why}."
    line += f"{known.rate:.1f} requests/s lately" if known.rate else "no request lately"
    if known.ceiling:
        line += f", refused from about {known.ceiling:.1f} on"
    if known.fixed_rate:
        line += f", stays at {known.fixed_rate:g} until --adapt --group {known.group}"
    if known.held_until and known.held_left:
        until = f"{known.held_until:%H:%M:%S} UTC ({format_duration(known.held_left)})"
        line += f", held until {until}: {known.held_why}. To go on now: oathbulk pace --lift --group {known.group}"
    return f"{line}."
