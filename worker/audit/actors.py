"""Actors: who gives a command, as the audit names them, and how their lines are protected from being rewritten."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass, field, replace

from worker.audit.protection import UNPROTECTED, Protection, make_protection
from worker.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Actor:
    """Who gives a command, the ticket that it refers to, and how the line about it is protected."""

    name: str
    ticket: str | None = None
    protection: Protection = field(default=UNPROTECTED, compare=False, repr=False)


# The actor of the replay schedule.
SCHEDULE = Actor("schedule")
# The actor of what a worker learns by itself.
WORKER = Actor("worker")


def this_person(settings: Settings, ticket: str | None = None, name: str | None = None) -> Actor:
    """The actor who gives this command: who is named; without a name, the person at this terminal.

    Raises ConfigError if the audit key cannot be used.
    """
    return Actor(name or name_this_person(settings), ticket, make_protection(settings))


def name_this_person(settings: Settings) -> str:
    """The name of the person at this terminal: OATHBULK_ACTOR, or else the operating system's user."""
    return settings.actor or _system_user()


def the_schedule(settings: Settings) -> Actor:
    """The actor for what the replay schedule does. Raises ConfigError if the audit key cannot be used."""
    return replace(SCHEDULE, protection=make_protection(settings))


def the_worker(settings: Settings) -> Actor:
    """The actor for what a worker learns of an environment. Raises ConfigError if the audit key cannot be used."""
    return replace(WORKER, protection=make_protection(settings))


def _system_user() -> str:
    """The name of the operating system's user, or else their number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user who has no name in it.
        return f"uid {os.getuid()}"
