"""What earlier runs of a command that undoes a batch have taken away, as the audit tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.audit import Action
from worker import audit
from worker.database.engine import Database


def read_earlier_runs(database: Database, name: str, action: Action) -> list[Mapping[str, Any]]:
    """Read what the audit has of an action on this batch, in its order; only since records were replayed last, for that
    makes devices and tokens anew."""
    facts = list[Mapping[str, Any]]()
    with database.reading() as connection:
        for line in audit.read(connection, name):
            if line.action == Action.REPLAY and line.facts.get("records"):
                facts.clear()
            elif line.action == action:
                facts.append(line.facts)
    return facts


def count_taken_away(facts: Iterable[Mapping[str, Any]], planned: Iterable[str], done: str, left: int) -> int:
    """Count what earlier runs took away. Each run has a line before it, with how much there was (the sum of `planned`),
    and one after it, with what it did (`done`). A run that was killed has no line after it: then what was there at its
    beginning and is not there at the next one's was taken away by it. `left`: how much there is now."""
    count, before = 0, 0
    planned = tuple(planned)
    for line in facts:
        if planned[0] in line:
            there = sum(line.get(each, 0) for each in planned)
            count, before = count + max(before - there, 0), there
        else:
            count, before = count + line.get(done, 0), 0
    return count + max(before - left, 0)
