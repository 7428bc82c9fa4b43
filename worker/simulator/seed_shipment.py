"""Made-up shipments of seeds: the vendor's file and the list of who gets what, devices for the simulator, the people
with their tokens, and how each record must end."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker.simulator.oath import hotp
from worker.simulator.own_rows import SeedRow
from worker.simulator.people import Person
from worker.simulator.seeding import DeviceSeed, UserSeed, WorldSeed
from worker.simulator.shipment import EXPECTED, Expected, MadeShipment, make_id
from worker.simulator.token import Rules

# What is the matter with a token: nothing; PingOne asks for a second OTP; PingOne's first answer gets lost, so that
# another OTP goes out; both.
Trouble = Literal["none", "out_of_step", "answer_lost", "both"]

# Of so many tokens each, what they are and what is the matter with them. All of them end as active.
MIX: Mapping[tuple[Literal["hotp", "totp"], Trouble], int] = {
    ("hotp", "none"): 6,
    ("hotp", "out_of_step"): 4,
    ("hotp", "answer_lost"): 2,
    ("hotp", "both"): 2,
    ("totp", "none"): 4,
    ("totp", "out_of_step"): 2,
}
# Where people work, for a column of the list's own.
SITES = ("Oslo", "Porto", "Riga")
# Counters beyond that of the token at which its OTPs may still be compared with others.
COMPARED = 30


@dataclass(frozen=True, slots=True)
class MadeSeeds(MadeShipment):
    """A shipment of seeds that was made up. `people`: who has which token, those alike side by side. `answers_lost`:
    the devices whose first OTP has to get lost on its way."""

    seeds: tuple[SeedRow, ...]
    people: tuple[Person, ...]
    answers_lost: tuple[str, ...]

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
                writer.writerow([row.serial, _name_person(number), row.user_id, row.device_id, site])


def make_seed_shipment(count: int, *, seed: int = 0, prefix: str = "SEED") -> MadeSeeds:
    """Make up `count` tokens with seeds, in the shares of MIX and paired with a user each. The same arguments always
    give the same shipment."""
    dice = random.Random(seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
    kinds = [kind for kind, share in MIX.items() for _ in range(share)]
    # Each stretch of the file has tokens of all kinds, so a small shipment has them too.
    dice.shuffle(kinds)
    chosen = [kinds[number % len(kinds)] for number in range(count)]
    made = [_make(f"{prefix}{number:07d}", *kind, dice) for number, kind in enumerate(chosen, start=1)]
    people = [person for _, (_, _, person) in sorted(zip(chosen, made, strict=True), key=lambda pair: pair[0])]
    lost = [row.device_id for (_, trouble), (row, _, _) in zip(chosen, made, strict=True) if _loses_answer(trouble)]
    return MadeSeeds(
        rows=(),
        world=WorldSeed(
            users=tuple(
                UserSeed(user_id=row.user_id, username=_name_person(number))
                for number, (row, _, _) in enumerate(made, start=1)
            ),
            devices=tuple(device for _, device, _ in made),
        ),
        expected={row.serial: _expect(trouble) for (_, trouble), (row, _, _) in zip(chosen, made, strict=True)},
        seeds=tuple(row for row, _, _ in made),
        people=tuple(people),
        answers_lost=tuple(lost),
    )


def _make(
    serial: str, otp_type: Literal["hotp", "totp"], trouble: Trouble, dice: random.Random
) -> tuple[SeedRow, DeviceSeed, Person]:
    """Make up a token: its row, its device, and the person who has it."""
    is_drifted = trouble in ("out_of_step", "both")
    secret, behind, counter = make_hotp(dice, is_drifted=is_drifted and otp_type == "hotp")
    if otp_type == "totp":
        behind = counter = 0
    row = SeedRow(
        serial=serial,
        secret=secret.hex(),
        otp_type=otp_type,
        digits=6,
        hash_name="sha1",
        counter=counter,
        user_id=make_id(dice),
        device_id=make_id(dice),
    )
    device = DeviceSeed(
        serial=serial,
        user_id=row.user_id,
        device_id=row.device_id,
        secret=row.secret,
        type=otp_type,
        counter=behind,
        # PingOne believes that the token's clock is wrong by so many time steps.
        drift=dice.randrange(3, 9) if is_drifted and otp_type == "totp" else 0,
    )
    # A clock that is behind would be refused now and then, where a step ends between the press and the check.
    return row, device, Person(row, drift=dice.randrange(2) if otp_type == "totp" else 0)


def make_hotp(dice: random.Random, *, is_drifted: bool) -> tuple[bytes, int, int]:
    """Make up a secret, the server's counter, and the token's. No two of its OTPs nearby are the same by chance."""
    while True:
        secret, server = dice.randbytes(20), dice.randrange(50)
        token = server + (dice.randrange(Rules().look_ahead, 40) if is_drifted else 0)
        known = [hotp(secret, position) for position in range(server, token + COMPARED)]
        if len(set(known)) == len(known):
            return secret, server, token


def _name_person(number: int) -> str:
    """The username of who has the token of this number."""
    return f"person{number:04d}"


def _loses_answer(trouble: Trouble) -> bool:
    return trouble in ("answer_lost", "both")


def _expect(trouble: Trouble) -> Expected:
    """How the record of a token with this trouble must end."""
    return EXPECTED["out_of_step" if trouble in ("out_of_step", "both") else "in_step"]
