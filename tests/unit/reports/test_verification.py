"""In which way the inventory is not as a record says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.reason import Reason
from models.record_states import Status
from worker.pingone.inventory import InventoryToken
from worker.reports.verification import describe_token
from worker.vault.otps import Secret, Seed

FREE = InventoryToken("t", "S1", "TOTP", 6, "sha1", 30)
MINE = InventoryToken("t", "S1", device_id="d1", user_id="U1")
SEED = Seed(secret=Secret(b"12345678901234567890"), otp_type="totp", time_step=30)


def record(status: Status = Status.PENDING, **columns: Any) -> Any:
    usual = {"status": status, "user_id": "u1", "device_id": "", "reason": None, "is_in_inventory": True}
    return SimpleNamespace(**(usual | columns))


@pytest.mark.parametrize(
    ("found", "token"),
    [
        (record(), FREE),
        (record(Status.DEAD_LETTER, is_in_inventory=False), None),
        (record(Status.DEAD_LETTER, reason=Reason.TOKEN_TAKEN), InventoryToken("t", "S1", user_id="u2")),
        (record(Status.DEAD_LETTER, reason=Reason.TOKEN_DIFFERS), InventoryToken("t", "S1", digits=8)),
        (record(Status.ACTIVE, device_id="D1"), MINE),
        (record(Status.DEAD_LETTER, device_id="d1"), MINE),
    ],
)
def test_what_agrees_is_not_told(found: Any, token: InventoryToken | None) -> None:
    assert describe_token(found, token, SEED) is None


@pytest.mark.parametrize(
    ("found", "token", "said"),
    [
        (record(), None, "not in the inventory"),
        (record(Status.ACTIVE, device_id="d1"), None, "not in the inventory"),
        (record(Status.ACTIVE, device_id="d1"), FREE, "not paired"),
        (record(), InventoryToken("t", "S1", digits=8), "in the inventory with another number of digits"),
        (record(), InventoryToken("t", "S1", hash_name="sha256"), "in the inventory with another hash"),
        (record(Status.ACTIVE, device_id="d1"), InventoryToken("t", "S1", user_id="u2"), "paired with another person"),
        (record(Status.ACTIVE, device_id="d2"), MINE, "paired as another device"),
        (record(Status.CANCELLED), MINE, "paired with this person, as a device that the record does not have"),
        (record(user_id=""), MINE, "paired with somebody"),
    ],
)
def test_what_differs_is_told(found: Any, token: InventoryToken | None, said: str) -> None:
    assert describe_token(found, token, SEED) == said
