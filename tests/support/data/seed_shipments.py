"""Shipments of seeds whose tokens are made as a test needs them: so many of each type, in step or not, or hopeless."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worker.simulator.oath import OtpType
from worker.simulator.shipment import (
    AHEAD,
    EXPECTED,
    Kind,
    MadeShipment,
    MadeToken,
    draw_kinds,
    draw_other_secret,
    draw_token,
    make_device,
)
from worker.simulator.world import WorldSeed

# Where people work, for a column of the list's own.
SITES = ("Oslo", "Porto", "Riga")
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


@dataclass(frozen=True, slots=True)
class MadeSeeds(MadeShipment):
    """A shipment of seeds that was made up."""

    seeds: tuple[MadeToken, ...]

    def write_seeds(self, path: Path) -> None:
        """Write the vendor's file, as OATH CSV: serial, secret, type, digits, counter or time step."""
        lines = [
            f"{row.serial}, {row.secret}, {row.type}, {row.digits}, "
            f"{row.counter if row.type == 'hotp' else row.time_step}\n"
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
    time_step: Literal[30, 60] = 30,
    seed: int = 0,
) -> MadeSeeds:
    """Make up so many tokens of each type, paired with a user each. The same arguments always give the same shipment.

    `hopeless`: how many of each type must end as dead letters, by what is the matter with them; wrong_otp is a seed
    that is another's. `out_of_step` is the share of the other tokens that need the second OTP; `time_step` in
    seconds."""
    dice = random.Random(seed)
    chosen: list[tuple[OtpType, Kind]] = []
    counts: Mapping[OtpType, int] = {"hotp": hotp, "totp": totp}
    for otp_type, count in counts.items():
        kinds = draw_kinds(count, (hopeless or {}) if count else {}, ("out_of_step", "in_step"), out_of_step, dice)
        assert kinds is not None
        assert set(kinds) <= set(SEED_KINDS)
        chosen += [(otp_type, kind) for kind in kinds]
    dice.shuffle(chosen)
    tokens, devices = [], []
    for number, (otp_type, kind) in enumerate(chosen, start=1):
        is_ahead = (otp_type, kind) == ("hotp", "out_of_step")
        drawn = draw_token(f"SEED{number:07d}", dice, AHEAD if is_ahead else range(1), type=otp_type)
        tokens.append(token := MadeToken(**drawn, time_step=time_step))
        devices.append(make_device(token, kind, **_differ(token, kind, dice)))
    return MadeSeeds(
        rows=(),
        world=WorldSeed(devices=tuple(device for device in devices if device is not None)),
        expected={token.serial: EXPECTED[kind] for token, (_, kind) in zip(tokens, chosen, strict=True)},
        seeds=tuple(tokens),
    )


def _differ(token: MadeToken, kind: Kind, dice: random.Random) -> dict[str, Any]:
    """In what PingOne's token differs from that of the vendor's file."""
    if kind == "wrong_otp":
        return {"secret": draw_other_secret(token, dice)}
    # PingOne believes that the token's clock is wrong by so many time steps.
    return {"drift": dice.randrange(3, 9)} if (token.type, kind) == ("totp", "out_of_step") else {}
