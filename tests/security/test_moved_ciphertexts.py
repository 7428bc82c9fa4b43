"""Ciphertexts that whoever may write the database has moved: they do not open, the batch pauses, nothing is sent.

That a single ciphertext opens in its own row only stands in unit/models/test_encrypted.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from support.data.batches import TESTER, Made, enqueue, look, look_at_batch
from support.data.moving_clock import MovingDatabase
from support.data.tokens import make_tokens, write_shipment
from support.servers.stand_in import StandIn

from models.encrypted import DecryptionError, generate_key
from worker.batches.loading import Loader
from worker.config.sources import load_environment, load_settings
from worker.intake import open_shipment
from worker.process.worker_parts import WorkerParts
from worker.vault.keys import load_keyring

# What a database administrator may do; row 2 of batch 1 is the victim. Each batch has rows 2 and 3.
TAMPERINGS = {
    "from another row": "SELECT otps FROM record WHERE batch_id = 1 AND row_number = 3",
    "from another batch": "SELECT otps FROM record WHERE batch_id = 2 AND row_number = 2",
}
VICTIM = "batch_id = 1 AND row_number = 2"


class Place:
    """Two batches of two tokens each, and everything that works on them."""

    def __init__(self, database_url: str, redis_url: str, pingone: StandIn) -> None:
        variables = pingone.settings | {
            "OATHBULK_DATABASE_URL": database_url,
            "OATHBULK_REDIS_URL": redis_url,
            "OATHBULK_ENCRYPTION_KEYS": generate_key(),
        }
        settings = load_settings(variables)
        self.pingone = pingone
        self.database = MovingDatabase(database_url)
        self.environment = load_environment(settings, variables=variables)
        self.loader = Loader(self.database, load_keyring(settings), self.environment, TESTER)
        self.parts = WorkerParts(settings, broker=None, load=lambda _: self.environment)

    def run(self, record_id: int) -> None:
        self.parts.activations.run(record_id, "default")

    def close(self) -> None:
        self.parts.clients.of(self.environment).close()
        self.parts.redis.close()
        self.parts.database.close()
        self.database.close()


@pytest.fixture
def place(database_url: str, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("shipments")
    tokens = {name: make_tokens(2, prefix=name) for name in ("FIRST", "SECOND")}
    with StandIn([*tokens["FIRST"], *tokens["SECOND"]]) as pingone:
        place = Place(database_url, valkey_url, pingone)
        for name, mine in tokens.items():
            place.loader.load(open_shipment(write_shipment(folder / f"{name}.csv", mine)), name)
        yield place
        place.close()


def execute(place: Place, statement: str) -> None:
    with place.database.writing() as connection:
        connection.execute(text(statement))


def queue_all(place: Place) -> list[int]:
    """The ids of the first batch's records, in the order of their rows."""
    with place.database.reading() as connection:
        ids = list(connection.scalars(text("SELECT id FROM record WHERE batch_id = 1 ORDER BY row_number")))
    enqueue(place.database, Made(1, "FIRST", ids))
    return ids


@pytest.mark.parametrize("source", TAMPERINGS)
def test_a_ciphertext_that_was_moved_pauses_the_batch_and_nothing_is_sent(source: str, place: Place) -> None:
    execute(place, f"UPDATE record SET otps = ({TAMPERINGS[source]}) WHERE {VICTIM}")
    victim, _ = queue_all(place)
    with pytest.raises(DecryptionError, match="do not belong to this record"):
        place.run(victim)
    assert place.pingone.posts == []
    batch = look_at_batch(place.database, 1)
    assert (batch.state, batch.reason) == ("paused", "internal")
    record = look(place.database, victim)
    assert (record.status, record.otp1_state, record.otp1_posts) == ("pending", "unsent", 0)


def test_what_was_not_moved_is_activated(place: Place) -> None:
    """So that the test above can fail."""
    victim, _ = queue_all(place)
    place.run(victim)
    assert [post.answer for post in place.pingone.posts] == ["ACTIVE"]
    assert look(place.database, victim).otps is None


def test_a_row_that_was_renumbered_does_not_open_any_more(place: Place) -> None:
    execute(place, "UPDATE record SET row_number = 99 WHERE batch_id = 1 AND row_number = 3")
    _, moved = queue_all(place)
    with pytest.raises(DecryptionError):
        place.run(moved)
    assert place.pingone.posts == []
