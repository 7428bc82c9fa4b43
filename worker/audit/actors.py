"""Who acts, as the audit names them, and how their lines are protected from being rewritten."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass, field, replace

from worker.audit.protection import UNPROTECTED, Protection, protection_of
from worker.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and the ticket that they act on."""

    name: str
    ticket: str | None = None
    protection: Protection = field(default=UNPROTECTED, compare=False, repr=False)


SCHEDULE = Actor("schedule")


def this_person(settings: Settings, ticket: str | None = None) -> Actor:
    """OATHBULK_ACTOR, or the user of the system. Raises ConfigError where the audit key cannot be used."""
    return Actor(settings.actor or _system_user(), ticket, protection_of(settings))


def the_schedule(settings: Settings) -> Actor:
    """The replay schedule that a person set. Raises ConfigError where the audit key cannot be used."""
    return replace(SCHEDULE, protection=protection_of(settings))


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user whom its system does not know.
        return f"uid {os.getuid()}"
