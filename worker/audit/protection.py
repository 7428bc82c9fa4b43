"""How new lines of the audit are protected: a key authenticates them, and their hashes are noted in a file outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from models.authenticated import AuditKeys
from worker.audit.heads import Head, find_heads_file, note_heads
from worker.config.settings import ConfigError, Settings
from worker.vault.keyring import load_audit_keys

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
