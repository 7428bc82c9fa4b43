"""Shipments for tests: a vendor's box, seeds of which so many are in step or hopeless, tokens that are nobody's device
yet; and how the records of one shipment stand."""

from __future__ import annotations

import csv
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Select, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from support.judges.final_tables import judge_endings

from models.attempt import AttemptLine, Outcome
from models.record import Record
from models.record_indexes import IN_WINDOW
from models.record_states import FINAL
from worker.database.engine import Database
from worker.intake.files import Hints
from worker.intake.lists import Assignment, open_assignment
from worker.intake.shipment import Shipment, Switches, open_shipment
from worker.simulator.oath import OtpType
from worker.simulator.shipment import (
    AHEAD,
    EXPECTED,
    KEY,
    LIST,
    SEEDS,
    Box,
    Kind,
    MadeShipment,
    MadeToken,
    PairRow,
    draw_kinds,
    draw_other_secret,
    draw_token,
    make_device,
)
from worker.simulator.world import DeviceSeed, TokenSeed, UserSeed, WorldSeed

# What `oathbulk run` is told beside the file, in the folder of the box.
OPTIONS = ("--key-file", KEY, "--assign", LIST, "--import", "--pair")
# Findings of the preflight of such a box that a person has to accept.
ACCEPTED = (
    "too_many_devices",
    "token_taken",
    "token_differs",
    "account_not_usable",
    "user_not_found",
    "user_ambiguous",
)


def open_box(box: Box, folder: Path) -> Shipment:
    """Open a box that was written into the folder, to be imported and paired."""
    return open_shipment(
        folder / SEEDS,
        hints=Hints(key=box.keys.pre_shared),
        assignment=open_assignment(folder / LIST),
        switches=Switches(may_import=True, may_pair=True),
    )


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


@dataclass(frozen=True, slots=True)
class Unpaired(MadeShipment):
    """The tokens of another shipment, which had devices there (`paired`). `may_import`: the inventory does not have
    them, and people are known by name; otherwise it has them, and people are known by their ids."""

    paired: MadeShipment
    may_import: bool

    @property
    def tokens(self) -> Sequence[PairRow | MadeToken]:
        """What is known of each token, in the file's order."""
        return self.paired.seeds if isinstance(self.paired, MadeSeeds) else self.rows

    def cut(self, start: int, end: int) -> Unpaired:
        """Make a shipment for the same tenant with only these tokens in its file."""
        tokens = self.tokens[start:end]
        expected = {row.serial: self.expected[row.serial] for row in tokens}
        return replace(self, expected=expected, paired=_with_tokens(self.paired, tokens))

    def with_devices(self, made: Mapping[str, Sequence[str]]) -> MadeShipment:
        """The shipment with the devices that were made of its tokens, by serial number: what a judge has to know."""
        tokens = [_put(row, device_id) for row in self.tokens for device_id in made.get(row.serial, ())]
        return _with_tokens(self.paired, tokens)

    def open(self, folder: Path, name: str) -> Shipment:
        """Write the files, and open them as a person does who wants all to be made."""
        file, people = folder / f"{name}.csv", folder / f"{name}-people.csv"
        switches = Switches(may_import=self.may_import, may_pair=True)
        assignment: Assignment | None = None
        if isinstance(self.paired, MadeSeeds):
            self.paired.write_seeds(file)
            self._write(people, ["serial", "username"] if self.may_import else ["serial", "user_id"])
            assignment = open_assignment(people)
        else:
            self._write(file, ["serial", "otp1", "otp2", "user_id"])
        return open_shipment(file, assignment=assignment, switches=switches)

    def _write(self, path: Path, columns: Sequence[str]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for row in self.tokens:
                known = {name: getattr(row, name, None) for name in columns} | {"username": name_user(row.user_id)}
                writer.writerow([known[name] for name in columns])


def unpair(paired: MadeShipment, *, may_import: bool = False) -> Unpaired:
    """Take the devices from a shipment: its users stay, and its tokens too unless they have yet to be imported."""
    devices = paired.world.devices
    users = tuple(UserSeed(user_id=each.user_id, username=name_user(each.user_id)) for each in devices)
    tokens = () if may_import else tuple(map(free_token, devices))
    drifted = tuple(each.serial for each in devices if each.out_of_step) if may_import else ()
    world = WorldSeed(users=users, tokens=tokens, out_of_step=drifted)
    return Unpaired(paired.rows, world, paired.expected, paired, may_import)


def name_user(user_id: str) -> str:
    return f"person-{user_id}"


def free_token(device: DeviceSeed) -> TokenSeed:
    """The device's token alone."""
    return TokenSeed(**{name: getattr(device, name) for name in TokenSeed.model_fields})


def _put(row: PairRow | MadeToken, device_id: str) -> PairRow | MadeToken:
    """The same row with another device."""
    if isinstance(row, MadeToken):
        return row.model_copy(update={"device_id": device_id})
    return replace(row, device_id=device_id)


def _with_tokens(shipment: MadeShipment, tokens: Iterable[PairRow | MadeToken]) -> MadeShipment:
    if isinstance(shipment, MadeSeeds):
        return replace(shipment, seeds=tuple(row for row in tokens if isinstance(row, MadeToken)))
    return replace(shipment, rows=tuple(row for row in tokens if isinstance(row, PairRow)))


# Posts that a row costs if nothing goes wrong; one, but for these.
POSTS_BY_REASON = {"resync_failed": 2, "device_not_found": 0}
# Of a record that is not finished: what says why.
_WORK = (
    *(Record.id, Record.status, Record.scheduled_at, Record.lease_until, Record.attempts, Record.not_found),
    *(Record.otp_type, Record.otp1_state, Record.otp2_state, Record.pairing, Record.verdict),
)
_MOST_TOLD = 5


class Records:
    """All records of a database that holds this shipment only."""

    def __init__(self, database: Database, shipment: MadeShipment) -> None:
        self._database = database
        self._shipment = shipment

    def in_window(self) -> int:
        """Records that are queued or in work."""
        return self._count(select(func.count()).select_from(Record).where(text(IN_WINDOW)))

    def attempts(self, outcome: Outcome | None = None) -> int:
        """Lines of history: all, or those with this outcome."""
        statement = select(func.count()).select_from(AttemptLine)
        return self._count(statement if outcome is None else statement.where(AttemptLine.outcome == outcome))

    def posts_as_made(self) -> int:
        """OTP posts that the shipment costs if no answer is lost."""
        made = self._shipment.expected.values()
        return sum(POSTS_BY_REASON.get(end.reason or "", 1) + end.resynced for end in made)

    def wrong_endings(self, excused: Collection[str] = ()) -> list[str]:
        """Records that did not end as they were made to, a sentence each; dead letters of some reasons are excused."""
        return judge_endings(self._database, self._shipment.expected, excused)

    def describe_unfinished(self) -> str:
        """The first records that have no final status, if the database can tell: a line each, then their attempts."""
        left = select(*_WORK).where(Record.status.not_in(FINAL)).order_by(Record.scheduled_at).limit(_MOST_TOLD)
        try:
            with self._database.reading() as connection:
                found = {row.id: row for row in connection.execute(left)}
                attempts = select(AttemptLine.__table__).where(AttemptLine.record_id.in_(found))
                lines = connection.execute(attempts.order_by(AttemptLine.id)).all()
        except SQLAlchemyError as error:
            return str(error)
        return "\n".join(map(str, [*found.values(), *lines]))

    def _count(self, statement: Select[tuple[int]]) -> int:
        with self._database.reading() as connection:
            return connection.scalar(statement) or 0
