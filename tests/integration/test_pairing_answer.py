"""Whether an environment's devices wait for an OTP once they are made, by what became of its records; on both
databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from support.data.batches import ENVIRONMENT_ID, make_batch
from support.data.moving_clock import MovingDatabase

from models.record_states import Status
from worker.tenants import describe_pairing_answer

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)
MADE: dict[str, Any] = {"is_device_made": True, "status": Status.ACTIVE, "finalized_at": DAY}
# What says nothing of how a device is made.
OTHERS: list[dict[str, Any]] = [
    {"status": Status.ACTIVE, "finalized_at": DAY},
    {"is_device_made": True, "status": Status.CANCELLED, "finalized_at": DAY},
    {"is_device_made": True},
]


def describe(database: MovingDatabase, environment_id: str = ENVIRONMENT_ID) -> str | None:
    with database.reading() as connection:
        return describe_pairing_answer(connection, environment_id)


@pytest.mark.parametrize(("posts", "says"), [(0, "ACTIVE as soon as it is made"), (1, "waits for an OTP")])
def test_the_last_device_that_was_made_shows_it(database: MovingDatabase, posts: int, says: str) -> None:
    earlier = MADE | {"otp1_posts": 1 - posts}
    made = make_batch(database, [earlier, MADE | {"otp1_posts": posts}, *OTHERS])
    told = describe(database)
    assert told is not None
    assert says in told
    assert f"(record {made.ids[1]}, 2026-03-01)" in told


def test_where_none_was_made_nothing_is_known(database: MovingDatabase) -> None:
    make_batch(database, OTHERS)
    assert describe(database) is None
    make_batch(database, [MADE], name="second")
    assert describe(database, "another environment") is None
