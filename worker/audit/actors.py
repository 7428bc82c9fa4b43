"""Actors: who gives a command, as the audit names them, and how their lines are protected from being rewritten."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from models.authenticated import AuditKeys
from worker.audit.heads import Head, find_heads_file, note_heads
from worker.config.settings import ConfigError, Settings
from worker.vault.keys import load_audit_keys

# What a person can do if lines are not authenticated.
NO_KEY_CURE = "set OATHBULK_AUDIT_KEY to a key made with `oathbulk keygen`, for every command and worker"


@dataclass(frozen=True, slots=True, eq=False)
class Protection:
    """The audit keys, and the file where heads are noted. `load_keys` is called for each line, because the key file of
    a home is made only when its database is first opened."""

    load_keys: Callable[[], AuditKeys | None]
    # Called with the heads of the lines that a transaction wrote, once it is committed.
    note_heads: Callable[[Sequence[Head]], None]

    def sign(self, content: bytes, *, authenticated_line: int | None) -> str | None:
        """The HMAC of a new line; None if there is no audit key.

        `authenticated_line`: the number of the line before, if it has an HMAC. Then a line without one would break the
        audit for good, and ConfigError is raised if there is no key.
        """
        keys = self.load_keys()
        if keys is not None:
            return keys.sign(content)
        if authenticated_line is not None:
            raise ConfigError(
                f"OATHBULK_AUDIT_KEY is not set, but line {authenticated_line} of the audit is authenticated: set "
                "it to the key of the other commands and workers, or nothing can be written down"
            )
        return None


# No HMAC, and no head is noted.
UNPROTECTED = Protection(lambda: None, lambda _: None)


def make_protection(settings: Settings) -> Protection:
    """Make the protection that these settings ask for. Raises ConfigError if the audit key in them is not a key."""
    if settings.audit_key is not None:
        load_audit_keys(settings)
    path = find_heads_file(settings)
    return Protection(partial(load_audit_keys, settings), partial(note_heads, path) if path else UNPROTECTED.note_heads)


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
