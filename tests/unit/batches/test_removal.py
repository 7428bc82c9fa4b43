"""Whether a device is still there, and the record's own."""

from __future__ import annotations

import pytest

from worker.batches.removal import Heir, Sight, find_heir, see, see_by_token
from worker.pingone.devices import Pairing, UserDevice

DEVICE = UserDevice("d1", "OATH_TOKEN", "ACTIVE", "S1")


@pytest.mark.parametrize(
    ("device", "sight"),
    [
        (DEVICE, Sight.OURS),
        (UserDevice("D1", "OATH_TOKEN", None, "s1"), Sight.OURS),
        (UserDevice("d1", "OATH_TOKEN", "ACTIVE", "S2"), Sight.FOREIGN),
        (UserDevice("d1", "SMS", "ACTIVE"), Sight.FOREIGN),
        (UserDevice("d1", "OATH_TOKEN"), Sight.UNNAMED),
        (UserDevice("d1", None, None, "S1"), Sight.UNNAMED),
        (UserDevice("d2", "OATH_TOKEN", "ACTIVE", "S1"), Sight.MISSING),
        (None, Sight.MISSING),
    ],
)
def test_only_an_oath_token_of_the_same_serial_number_is_ours(device: UserDevice | None, sight: Sight) -> None:
    devices = [UserDevice("other", "SMS"), *([device] if device else [])]
    assert see(devices, "d1", "S1") is sight


@pytest.mark.parametrize(
    ("found", "before", "sight"),
    [
        (Pairing("D1", "u"), Sight.UNNAMED, Sight.OURS),
        (Pairing("d2", "u"), Sight.UNNAMED, Sight.FOREIGN),
        (None, Sight.UNNAMED, Sight.FOREIGN),
        (None, Sight.MISSING, Sight.MISSING),
        (Pairing("d2", "u"), Sight.MISSING, Sight.MISSING),
        # The list lags behind: it is not known to be gone.
        (Pairing("d1", "u"), Sight.MISSING, Sight.UNNAMED),
    ],
)
def test_the_token_decides_what_the_list_leaves_open(found: Pairing | None, before: Sight, sight: Sight) -> None:
    assert see_by_token(found, before, "d1") is sight


@pytest.mark.parametrize(
    ("statuses", "removed", "heir"),
    [
        ("A", "0", Heir.NONE),
        ("AA", "0", Heir.NEXT),
        ("AA", "1", None),
        ("AA", "01", Heir.NONE),
        ("WA", "1", Heir.NONE),
        ("AW", "0", Heir.NONE),
        ("WA", "0", None),
        ("W", "0", None),
        ("", "0", None),
    ],
)
def test_the_first_active_device_is_asked_for_until_it_goes(statuses: str, removed: str, heir: Heir | None) -> None:
    """A: active, W: waiting; each named by its place."""
    devices = [
        UserDevice(f"D{place}", status={"A": "ACTIVE", "W": "ACTIVATION_REQUIRED"}[status])
        for place, status in enumerate(statuses)
    ]
    assert find_heir(devices, {f"d{place}" for place in removed}) is heir
