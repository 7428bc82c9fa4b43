"""Shipments of seeds whose tokens are made as a test needs them: so many of each type, in step or not, or hopeless."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Literal

from worker.simulator.own_rows import SeedRow
from worker.simulator.people import Person
from worker.simulator.seed_shipment import MadeSeeds, make_hotp
from worker.simulator.seeding import DeviceSeed, WorldSeed
from worker.simulator.shipment import EXPECTED, Kind, make_id

OtpType = Literal["hotp", "totp"]
TimeStep = Literal[30, 60]

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
        people=tuple(Person(row) for row, _ in made),
        answers_lost=(),
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
    secret, server, token = make_hotp(dice, is_drifted=is_drifted and otp_type == "hotp")
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
