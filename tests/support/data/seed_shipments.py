"""Shipments of seeds whose tokens are made as a test needs them: so many of each type, in step or not, or hopeless."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from worker.simulator.oath import hotp
from worker.simulator.seeding import DeviceSeed, WorldSeed
from worker.simulator.shipment import EXPECTED, Kind, MadeShipment, make_id
from worker.simulator.token import Rules

OtpType = Literal["hotp", "totp"]
TimeStep = Literal[30, 60]

# Where people work, for a column of the list's own.
SITES = ("Oslo", "Porto", "Riga")
# Counters beyond that of the token at which its OTPs may still be compared with others.
COMPARED = 30

# What can be the matter with a token that has a seed.
SEED_KINDS: tuple[Kind, ...] = (
    "in_step",
    "out_of_step",
    "wrong_otp",
    "locked",
    "blocked",
    "account_not_usable",
    "unknown_device",
)
# One token of each kind that must end as a dead letter, among those of each type.
HOPELESS_SEEDS: Mapping[Kind, int] = {kind: 1 for kind in SEED_KINDS if EXPECTED[kind].status == "dead_letter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRow:
    """One token whose secret (hexadecimal) is known, paired already. `counter` is the one at which the token stands,
    `time_step` is in seconds."""

    serial: str
    secret: str = field(repr=False)
    otp_type: OtpType
    digits: Literal[6, 8]
    hash_name: Literal["sha1", "sha256", "sha512"]
    time_step: TimeStep = 30
    counter: int
    user_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class MadeSeeds(MadeShipment):
    """A shipment of seeds that was made up."""

    seeds: tuple[SeedRow, ...]

    def write_seeds(self, path: Path) -> None:
        """Write the vendor's file, as OATH CSV: serial, secret, type, digits, counter or time step."""
        lines = [
            f"{row.serial}, {row.secret}, {row.otp_type}, {row.digits}, "
            f"{row.counter if row.otp_type == 'hotp' else row.time_step}\n"
            for row in self.seeds
        ]
        path.write_text("".join(lines), encoding="utf-8")

    def write_list(self, path: Path) -> None:
        """Write the list of who gets what, with a column of its own: the site."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["serial", "username", "user_id", "device_id", "site"])
            for number, row in enumerate(self.seeds, start=1):
                site = SITES[number % len(SITES)]
                writer.writerow([row.serial, f"person{number:04d}", row.user_id, row.device_id, site])


def make_seeds(
    *,
    hotp: int = 0,
    totp: int = 0,
    out_of_step: float = 0.0,
    hopeless: Mapping[Kind, int] | None = None,
    time_step: TimeStep = 30,
    seed: int = 0,
) -> MadeSeeds:
    """Make up so many tokens of each type, paired with a user each. The same arguments always give the same shipment.

    `hopeless`: how many of each type must end as dead letters, by what is the matter with them; wrong_otp is a seed
    that is another's. `out_of_step` is the share of the other tokens that need the second OTP; `time_step` in
    seconds."""
    dice = random.Random(seed)
    chosen = [*_choose("hotp", hotp, out_of_step, hopeless or {}), *_choose("totp", totp, out_of_step, hopeless or {})]
    dice.shuffle(chosen)
    made = [_make(f"SEED{number:07d}", *kinds, time_step, dice) for number, kinds in enumerate(chosen, start=1)]
    return MadeSeeds(
        rows=(),
        world=WorldSeed(devices=tuple(device for _, device in made if device is not None)),
        expected={row.serial: EXPECTED[kind] for (row, _), (_, kind) in zip(made, chosen, strict=True)},
        seeds=tuple(row for row, _ in made),
    )


def _choose(
    otp_type: OtpType, count: int, out_of_step: float, hopeless: Mapping[Kind, int]
) -> Iterable[tuple[OtpType, Kind]]:
    """What each token of this type is to be."""
    if not count:
        return
    lost: list[Kind] = [kind for kind, tokens in hopeless.items() for _ in range(tokens)]
    assert len(lost) <= count
    assert set(lost) <= set(SEED_KINDS)
    drifted = round((count - len(lost)) * out_of_step)
    for kind in lost:
        yield otp_type, kind
    for number in range(count - len(lost)):
        yield otp_type, "out_of_step" if number < drifted else "in_step"


def _make(
    serial: str, otp_type: OtpType, kind: Kind, time_step: TimeStep, dice: random.Random
) -> tuple[SeedRow, DeviceSeed | None]:
    """Make up a token: its row, and its device if PingOne knows one."""
    is_drifted = kind == "out_of_step"
    secret, server, token = _make_hotp(dice, is_drifted=is_drifted and otp_type == "hotp")
    if otp_type == "totp":
        server = token = 0
    row = SeedRow(
        serial=serial,
        secret=secret.hex(),
        otp_type=otp_type,
        digits=6,
        hash_name="sha1",
        time_step=time_step,
        counter=token,
        user_id=make_id(dice),
        device_id=make_id(dice),
    )
    if kind == "unknown_device":
        return row, None
    device = DeviceSeed(
        serial=serial,
        user_id=row.user_id,
        device_id=row.device_id,
        secret=dice.randbytes(20).hex() if kind == "wrong_otp" else row.secret,
        type=otp_type,
        time_step=time_step,
        counter=server,
        # PingOne believes that the token's clock is wrong by so many time steps.
        drift=dice.randrange(3, 9) if is_drifted and otp_type == "totp" else 0,
        locked=kind == "locked",
        blocked=kind == "blocked",
        account_usable=kind != "account_not_usable",
    )
    return row, device


def _make_hotp(dice: random.Random, *, is_drifted: bool) -> tuple[bytes, int, int]:
    """Make up a secret, the server's counter, and the token's. No two of its OTPs nearby are the same by chance."""
    while True:
        secret, server = dice.randbytes(20), dice.randrange(50)
        token = server + (dice.randrange(Rules().look_ahead, 40) if is_drifted else 0)
        known = [hotp(secret, position) for position in range(server, token + COMPARED)]
        if len(set(known)) == len(known):
            return secret, server, token
