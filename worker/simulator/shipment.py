"""Made-up tokens, and shipments of them: rows for a client to load, devices for the simulator, and how each record must
end."""

from __future__ import annotations

import csv
import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from worker.simulator.oath import LOOK_AHEAD, RESYNC_RANGE, hotp
from worker.simulator.seeding import DeviceSeed, TokenSeed, WorldSeed

K = TypeVar("K", bound=str)
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

# How far a token is ahead of the server's counter: within the look-ahead window, or so far that it needs a resync.
IN_STEP, AHEAD = range(LOOK_AHEAD - 1), range(LOOK_AHEAD, 40)
# OTPs that are compared, of which none may be that of another counter nearby. Six digits are sometimes the same by
# chance: among thousands of tokens that would be one or two.
_COMPARED = 10


class MadeToken(TokenSeed):
    """A made-up token, its user and its device. `counter` is the one at which the token stands, and `server_counter`
    the server's."""

    secret: str = Field(repr=False)
    server_counter: int = 0
    user_id: str
    device_id: str

    def otps(self, count: int) -> list[str]:
        """The next OTPs that a token of HOTP shows."""
        return _list_otps(bytes.fromhex(self.secret), range(self.counter, self.counter + count))

    def seed_fields(self) -> dict[str, Any]:
        """The fields of a seed for this token, whose server's counter is the token's."""
        return self.model_dump(include=set(TokenSeed.model_fields), exclude_defaults=True)


def draw_token(serial: str, dice: random.Random, ahead: range = range(1), **fields: Any) -> dict[str, Any]:
    """Make up the fields of a MadeToken, so far ahead of the server. A token of TOTP goes by the clock."""
    while True:
        secret, server_counter = dice.randbytes(20), dice.randrange(50)
        counter = server_counter + dice.choice(ahead)
        otps = _list_otps(secret, range(server_counter, counter + _COMPARED))
        if len(set(otps)) == len(otps):
            break
    if fields.get("type") == "totp":
        server_counter = counter = 0
    ids = {"user_id": make_id(dice), "device_id": make_id(dice)}
    return {
        "serial": serial,
        "secret": secret.hex(),
        "counter": counter,
        "server_counter": server_counter,
        **ids,
        **fields,
    }


def draw_other_secret(token: MadeToken, dice: random.Random) -> str:
    """Make up the secret of another token, in hexadecimal, by which none of this one's OTPs is good."""
    sent = token.otps(_COMPARED)
    while True:
        secret = dice.randbytes(20)
        accepted = _list_otps(secret, range(token.server_counter, token.counter + RESYNC_RANGE + _COMPARED))
        if set(sent).isdisjoint(accepted):
            return secret.hex()


def draw_kinds(
    count: int, special: Mapping[K, int], plain: tuple[K, K], out_of_step: float, dice: random.Random
) -> list[K]:
    """Choose what each of so many tokens is: so many of each special kind, and of the others this share of the first
    of the two plain kinds. Raises ValueError if the special ones do not fit."""
    kinds = [kind for kind, tokens in special.items() for _ in range(tokens)]
    left = count - len(kinds)
    if left < 0:
        raise ValueError(f"{len(kinds)} tokens with troubles do not fit into {count}")
    kinds += [plain[number >= round(left * out_of_step)] for number in range(left)]
    dice.shuffle(kinds)
    return kinds


def make_id(dice: random.Random) -> str:
    """A random UUID that is the same for the same seed."""
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


def _list_otps(secret: bytes, positions: Sequence[int]) -> list[str]:
    return [hotp(secret, position) for position in positions]


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
        """Write the world as JSON, for `oathbulk simulator --world`."""
        path.write_text(json.dumps(self.world_json()), encoding="utf-8")

    def world_json(self) -> dict[str, Any]:
        """The world as JSON, as `oathbulk simulator --world` takes it."""
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
    other rows whose tokens need the second OTP. Raises ValueError if the hopeless ones do not fit.
    """
    dice = random.Random(seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
    kinds = draw_kinds(count, hopeless or {}, ("out_of_step", "in_step"), out_of_step, dice)
    made = [_make_pair(f"{prefix}{number:07d}", kind, dice) for number, kind in enumerate(kinds, start=1)]
    rows = tuple(row for row, _ in made)
    devices = tuple(device for _, device in made if device is not None)
    expected = {row.serial: EXPECTED[kind] for row, kind in zip(rows, kinds, strict=True)}
    return MadeShipment(rows, WorldSeed(devices=devices), expected)


def _make_pair(serial: str, kind: Kind, dice: random.Random) -> tuple[PairRow, DeviceSeed | None]:
    """Make up a row of this kind and its device; None in place of a device that PingOne must not know. The token was
    pressed three times."""
    is_drifted = kind in ("out_of_step", "wrong_second_otp", "second_otp_missing")
    token = MadeToken(**draw_token(serial, dice, AHEAD if is_drifted else IN_STEP))
    first, second, third = token.otps(3)
    otp2 = {"wrong_second_otp": third, "second_otp_missing": None}.get(kind, second)
    row = PairRow(serial, first, otp2, token.user_id, token.device_id)
    secret = draw_other_secret(token, dice) if kind == "wrong_otp" else token.secret
    return row, make_device(token, kind, secret=secret, pressed=token.counter + 3)


def make_device(token: MadeToken, kind: Kind, **fields: Any) -> DeviceSeed | None:
    """Make the device that PingOne has of a token of this kind, and that differs in these fields of a seed."""
    if kind == "unknown_device":
        return None
    known = token.seed_fields() | {
        "counter": token.server_counter,
        "out_of_step": token.counter - token.server_counter >= LOOK_AHEAD,
    }
    return DeviceSeed(
        user_id=token.user_id,
        device_id=token.device_id,
        locked=kind == "locked",
        blocked=kind == "blocked",
        account_usable=kind != "account_not_usable",
        **known | fields,
    )
