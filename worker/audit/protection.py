"""How new lines of the audit are protected: a key authenticates them, and a place outside keeps their hashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from models.authenticated import AuditKeys
from worker.audit.heads import Head, note, place_of
from worker.config.settings import ConfigError, Settings
from worker.vault.keyring import load_audit_keys

# What a person does where lines are not authenticated.
NO_KEY_CURE = "set OATHBULK_AUDIT_KEY to a key made with `oathbulk keygen`, for every command and worker"


@dataclass(frozen=True, slots=True, eq=False)
class Protection:
    """`load_keys` is asked for each line: the key file of a home is made when its database is first opened."""

    load_keys: Callable[[], AuditKeys | None]
    # Called with the heads of the lines that a transaction wrote, once it is committed.
    note: Callable[[Sequence[Head]], None]

    def sign(self, content: bytes, *, authenticated_line: int | None) -> str | None:
        """The HMAC of a new line; None where there is no audit key. Raises ConfigError if the line before has one: the
        new line would break the audit for good."""
        keys = self.load_keys()
        if keys is not None:
            return keys.sign(content)
        if authenticated_line is not None:
            raise ConfigError(
                f"OATHBULK_AUDIT_KEY is not set, but line {authenticated_line} of the audit is authenticated: set "
                "it to the key of the other commands and workers, or nothing can be written down"
            )
        return None


UNPROTECTED = Protection(lambda: None, lambda _: None)


def protection_of(settings: Settings) -> Protection:
    """What these settings ask for. Raises ConfigError where the audit key in them is none."""
    if settings.audit_key is not None:
        load_audit_keys(settings)
    place = place_of(settings)
    return Protection(partial(load_audit_keys, settings), partial(note, place) if place else UNPROTECTED.note)
