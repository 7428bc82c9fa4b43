"""Looks up tokens as an installation keeps them: the history of one and what happens to it next, or a list of those
that begin as a text does."""

from __future__ import annotations

from dataclasses import dataclass

from worker.installation.installation import Installation
from worker.reports import token_history
from worker.reports.search import Findings, Sought, count_others, search
from worker.reports.token_history import TokenHistory, UnknownToken
from worker.reports.token_sentences import NextStep, describe_next


@dataclass(frozen=True, slots=True)
class Told:
    """A token that is told whole, once for each environment that has it. `others`: serial numbers that begin with its
    own, and are longer."""

    tokens: list[tuple[TokenHistory, NextStep]]
    others: int = 0


def look_up(installation: Installation, text: str, limit: int) -> Told | Findings:
    """Read the history of the token that `text` names, or that alone begins so; else list what begins so, `limit` of
    it at most. Raises UnknownToken, NothingLoaded."""
    try:
        tokens = read_histories(installation, text)
    except UnknownToken as unknown:
        findings = search(installation.database, Sought(text=text), limit)
        if not findings.found and not findings.refused:
            raise UnknownToken(f"nothing that is known of a token begins so: {unknown}") from unknown
        name = findings.name_only_token()
        return Told(read_histories(installation, name)) if name else findings
    return Told(tokens, count_others(installation.database, text))


def read_histories(installation: Installation, token: str) -> list[tuple[TokenHistory, NextStep]]:
    """Read the history of each token that `token` names, and say what happens next. Raises UnknownToken,
    NothingLoaded."""
    settings = installation.settings
    histories = token_history.read_histories(installation.database, token, installation.license_of)
    return [
        (each, describe_next(each, lease=settings.tuning.lease, replay_cron=settings.replay_cron)) for each in histories
    ]
