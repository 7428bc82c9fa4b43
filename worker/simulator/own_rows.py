"""A shipment of a person's own rows: devices for the simulator whose tokens show the OTPs of these rows."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from worker.simulator.seeding import DeviceSeed, WorldSeed
from worker.simulator.shipment import EXPECTED, Expected, MadeShipment, PairRow


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRow:
    """One token of a person's own whose secret (hexadecimal) is known, paired already. `counter` is the one at which
    the token stands, `time_step` is in seconds."""

    serial: str
    secret: str = field(repr=False)
    otp_type: Literal["hotp", "totp"]
    digits: Literal[6, 8]
    hash_name: Literal["sha1", "sha256", "sha512"]
    time_step: Literal[30, 60] = 30
    counter: int
    user_id: str
    device_id: str


def shipment_from_rows(rows: Iterable[PairRow | SeedRow], *, seed: int = 0, out_of_step: float = 0.2) -> MadeShipment:
    """Make a shipment of a person's own rows: their OTPs are right, and the share `out_of_step` needs the second one.

    The token of a pair is known by its two OTPs, since its secret is not.
    """
    rows = tuple(rows)
    dice = random.Random(seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
    drifted = set(dice.sample(range(len(rows)), round(len(rows) * out_of_step)))
    devices = tuple(_make_own_device(row, is_drifted=index in drifted) for index, row in enumerate(rows))
    expected = {row.serial: _expect(row, is_drifted=index in drifted) for index, row in enumerate(rows)}
    return MadeShipment(tuple(row for row in rows if isinstance(row, PairRow)), WorldSeed(devices=devices), expected)


def _make_own_device(row: PairRow | SeedRow, *, is_drifted: bool) -> DeviceSeed:
    ids: dict[str, Any] = {"serial": row.serial, "user_id": row.user_id, "device_id": row.device_id}
    ids["out_of_step"] = is_drifted
    if isinstance(row, PairRow):
        return DeviceSeed(**ids, otps=(row.otp1, row.otp2) if row.otp2 else (row.otp1,))
    return DeviceSeed(
        **ids,
        secret=row.secret,
        type=row.otp_type,
        digits=row.digits,
        hash=row.hash_name,
        time_step=row.time_step,
        counter=row.counter,
    )


def _expect(row: PairRow | SeedRow, *, is_drifted: bool) -> Expected:
    """How the record of a person's own row must end."""
    if not is_drifted:
        return EXPECTED["in_step"]
    has_second = isinstance(row, SeedRow) or row.otp2 is not None
    return EXPECTED["out_of_step" if has_second else "second_otp_missing"]
