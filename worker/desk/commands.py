"""What a person commands at the desk, after a page on which they confirm it: pause, resume, cancel, replay, pace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.audit import LONGEST_TICKET
from models.reason import Reason
from worker.batches.commands import HIGHEST_RATE, LOWEST_RATE, Batches, PaceCommands
from worker.installation.installation import Installation
from worker.reports.facts import BatchStatus
from worker.reports.sentences import describe_cancelled, describe_replayed, describe_resumed


class Unfit(Exception):
    """A field of the form cannot be used; the message says which, and what it should be."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command as it was confirmed: on which batch, by whom, and with which fields of the form."""

    installation: Installation
    status: BatchStatus
    person: str
    fields: Mapping[str, str]

    @property
    def batches(self) -> Batches:
        """The commands on batches, in this person's name."""
        return self.installation.batches(self.read_ticket(), self.person)

    @property
    def paces(self) -> PaceCommands:
        """The commands on paces, in this person's name."""
        return self.installation.pace_commands(self.read_ticket(), self.person)

    def read_ticket(self) -> str | None:
        """Read the ticket; None if none was given. Raises Unfit."""
        ticket = self.fields.get("ticket", "").strip()
        if len(ticket) > LONGEST_TICKET or not ticket.isprintable():
            raise Unfit(f"The ticket has at most {LONGEST_TICKET} characters, all of which can be printed.")
        return ticket or None


def pause(order: Order) -> str:
    """Pause the batch. Raises NotPossible."""
    order.batches.pause(order.status.name)
    return f"{order.status.name} is paused. A resume lets it go on."


def resume(order: Order) -> str:
    """Let the batch run again; with the field `now`, end the hold of its license too. Raises NotPossible."""
    lifts_hold = "now" in order.fields
    lift_in = order.installation.license_of if lifts_hold else None
    outside = order.batches.resume(order.status.name, lift_in=lift_in)
    return describe_resumed(order.status.name, outside, order.status.fleet, lifts_hold=lifts_hold)


def cancel(order: Order) -> str:
    """Cancel the batch, whose name has to be typed. Raises Unfit."""
    name = order.status.name
    if order.fields.get("typed_name", "").strip() != name.strip():
        raise Unfit(f"To cancel it, type the name of the batch: {name}")
    return describe_cancelled(name, order.batches.cancel(name))


def replay(order: Order) -> str:
    """Let the dead letters of one reason go again; without one, all of them and what was cancelled. Raises Unfit,
    NotPossible."""
    chosen = order.fields.get("reason", "")
    if chosen and chosen not in [*Reason]:
        raise Unfit("There is no such reason.")
    reasons = [Reason(chosen)] if chosen else None
    replayed = order.batches.replay(order.status.name, reasons)
    return describe_replayed(order.status.name, replayed, reasons, order.status.fleet)


def set_pace(order: Order) -> str:
    """Set the pace of the batch's license, as the field `pace` says. Raises Unfit."""
    license_ = order.status.license_pace.license if order.status.license_pace else ""
    match order.fields.get("pace"):
        case "share":
            share = _read_number(order.fields, "share", 0.01, 100)
            order.paces.set_share(license_, share / 100)
            return f"License {license_} keeps to {share:g} % of what PingOne permits, from the next second on."
        case "fixed":
            rate = _read_number(order.fields, "rate", LOWEST_RATE, HIGHEST_RATE)
            order.paces.fix(license_, rate)
            return f"License {license_} stays at {rate:g} requests a second, from the next second on."
        case "adapt":
            order.paces.adapt(license_)
            return f"License {license_} looks for the limit again, from the next second on."
        case "lift":
            order.paces.lift(license_)
            return f"The hold of license {license_} ends within seconds."
    raise Unfit("Choose one of the four.")


def _read_number(fields: Mapping[str, str], name: str, least: float, most: float) -> float:
    """Read a number of a form. Raises Unfit."""
    try:
        number = float(fields.get(name, "").strip())
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise Unfit(f"The {name} is a number from {least:g} to {most:,.0f}.")
    return number


# By the last part of a command's address.
COMMANDS: dict[str, Callable[[Order], str]] = {
    "pause": pause,
    "resume": resume,
    "cancel": cancel,
    "replay": replay,
    "pace": set_pace,
}
