"""Made-up shipments: rows for a client to load, devices for the simulator, and how each record must end."""

from __future__ import annotations

import csv
import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from worker.simulator.oath import hotp
from worker.simulator.seeding import DeviceSeed, WorldSeed
from worker.simulator.token import Rules

Kind = Literal[
    "in_step",
    "out_of_step",
    "wrong_otp",
    "wrong_second_otp",
    "second_otp_missing",
    "locked",
    "blocked",
    "account_not_usable",
    "unknown_device",
]


@dataclass(frozen=True, slots=True)
class Expected:
    """How a record must end: its status, the reason if it is a dead letter, and whether it needs the second OTP."""

    status: Literal["active", "dead_letter"]
    reason: str | None = None
    resynced: bool = False


EXPECTED: Mapping[Kind, Expected] = {
    "in_step": Expected("active"),
    "out_of_step": Expected("active", resynced=True),
    "wrong_otp": Expected("dead_letter", "invalid_otp"),
    "wrong_second_otp": Expected("dead_letter", "resync_failed"),
    "second_otp_missing": Expected("dead_letter", "second_otp_missing"),
    "locked": Expected("dead_letter", "locked"),
    "blocked": Expected("dead_letter", "blocked"),
    "account_not_usable": Expected("dead_letter", "account_not_usable"),
    "unknown_device": Expected("dead_letter", "device_not_found"),
}

# One row of each kind that must end as a dead letter.
A_FEW_HOPELESS: Mapping[Kind, int] = {
    kind: 1 for kind, expected in EXPECTED.items() if expected.status == "dead_letter"
}

# Kinds of dead letters that two fresh OTPs of the token mend.
MENDED_BY_FRESH_OTPS: tuple[Kind, ...] = ("wrong_otp", "wrong_second_otp", "second_otp_missing")


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row of an OTP-pair file that can be activated at once."""

    serial: str
    otp1: str = field(repr=False)
    otp2: str | None = field(repr=False)
    user_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class MadeShipment:
    """A shipment that was made up: `rows` for the client, `world` for the simulator, and how each record must end
    (`expected`, by serial number)."""

    rows: tuple[PairRow, ...]
    world: WorldSeed
    expected: Mapping[str, Expected]

    def write_world(self, path: Path) -> None:
        """Write the world as JSON, for `oathbulk simulator --world` or the control API."""
        path.write_text(json.dumps(self.world_json()), encoding="utf-8")

    def world_json(self) -> dict[str, Any]:
        """The world as the control API takes it."""
        return self.world.model_dump(mode="json", exclude_defaults=True)

    def write_pairs(self, path: Path) -> None:
        """Write the rows as a CSV of OTP pairs, as `oathbulk load` takes it."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["serial", "otp1", "otp2", "user_id", "device_id"])
            writer.writerows((row.serial, row.otp1, row.otp2 or "", row.user_id, row.device_id) for row in self.rows)

    def write_expected(self, path: Path) -> None:
        """Write how each record must end as JSON: `{serial: {"status", "reason", "resynced"}}`."""
        endings = {serial: asdict(expected) for serial, expected in self.expected.items()}
        path.write_text(json.dumps(endings, indent=1) + "\n", encoding="utf-8")


def make_shipment(
    count: int,
    *,
    seed: int = 0,
    out_of_step: float = 0.2,
    hopeless: Mapping[Kind, int] | None = None,
    prefix: str = "MADE",
) -> MadeShipment:
    """Make up `count` HOTP tokens, paired with a user each. The same arguments always give the same shipment.

    `hopeless`: how many rows of each kind must end as dead letters; none by default. `out_of_step` is the share of the
    other rows whose tokens need the second OTP.
    """
    dice = random.Random(seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
    kinds: list[Kind] = [kind for kind, rows in (hopeless or {}).items() for _ in range(rows)]
    if len(kinds) > count:
        raise ValueError(f"{len(kinds)} hopeless rows do not fit into {count}")
    hopeful = count - len(kinds)
    drifted = round(hopeful * out_of_step)
    kinds.extend("out_of_step" if number < drifted else "in_step" for number in range(hopeful))
    dice.shuffle(kinds)
    made = [_make(f"{prefix}{number:07d}", kind, dice) for number, kind in enumerate(kinds, start=1)]
    rows = tuple(row for row, _ in made)
    devices = tuple(device for _, device in made if device is not None)
    expected = {row.serial: EXPECTED[kind] for row, kind in zip(rows, kinds, strict=True)}
    return MadeShipment(rows, WorldSeed(devices=devices), expected)


def _make(serial: str, kind: Kind, dice: random.Random) -> tuple[PairRow, DeviceSeed | None]:
    """Make up a row of this kind and its device; None in place of a device that PingOne must not know."""
    is_drifted = kind in ("out_of_step", "wrong_second_otp", "second_otp_missing")
    secret, counter, pressed, otp1, otp2 = _make_otps(kind, is_drifted, dice)
    row = PairRow(serial, otp1, None if kind == "second_otp_missing" else otp2, make_id(dice), make_id(dice))
    if kind == "unknown_device":
        return row, None
    device = DeviceSeed(
        serial=serial,
        user_id=row.user_id,
        device_id=row.device_id,
        secret=secret.hex(),
        counter=counter,
        pressed=pressed,
        out_of_step=is_drifted,
        locked=kind == "locked",
        blocked=kind == "blocked",
        account_usable=kind != "account_not_usable",
    )
    return row, device


def _make_otps(kind: Kind, is_drifted: bool, dice: random.Random) -> tuple[bytes, int, int, str, str]:
    """Make up a secret, the server's counter, how far the token was pressed, and two OTPs as the kind asks for them.

    Six digits may be the same by chance: among thousands of tokens some OTP is also that of another counter nearby.
    Such OTPs are thrown away, and others are drawn.
    """
    rules = Rules()
    while True:
        secret, counter = dice.randbytes(20), dice.randrange(50)
        ahead = dice.randrange(rules.look_ahead, 40) if is_drifted else dice.randrange(rules.look_ahead - 1)
        start = counter + ahead
        known = [hotp(secret, position) for position in range(counter, start + 3)]
        first, second, third = known[-3:]
        if kind == "wrong_otp":
            wrong = f"{dice.randrange(10**6):06d}", f"{dice.randrange(10**6):06d}"
            shown = {hotp(secret, position) for position in range(counter, counter + rules.resync_range + 1)}
            if shown.isdisjoint(wrong):
                return secret, counter, start + 3, *wrong
        elif len(set(known)) == len(known):
            return secret, counter, start + 3, first, third if kind == "wrong_second_otp" else second


def make_id(dice: random.Random) -> str:
    """A random UUID that is the same for the same seed."""
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))
