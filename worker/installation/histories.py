"""Reads the history of a token, as an installation keeps it, and what happens to the token next."""

from __future__ import annotations

from worker.installation.installation import Installation
from worker.reports import history
from worker.reports.sentences.next_step import NextStep, describe_next
from worker.reports.token_history import TokenHistory


def read_histories(installation: Installation, token: str) -> list[tuple[TokenHistory, NextStep]]:
    """Read the history of each token that `token` names, and say what happens next. Raises UnknownToken, NothingLoaded,
    KeyIsGone."""
    settings = installation.settings
    # Nobody needs keys for it, but to recognise the serial number of a token whose batch was purged.
    has_keys = settings.is_embedded_database or settings.encryption_keys is not None
    load_keyring = (lambda: installation.keyring) if has_keys else None
    histories = history.read_histories(installation.database, token, installation.license_of, load_keyring)
    return [(each, describe_next(each, lease=settings.lease, replay_cron=settings.replay_cron)) for each in histories]
