"""Tokens that are nobody's device yet: what the tenant has of them to begin with, and the files that a person loads."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from support.data.seed_shipments import MadeSeeds
from worker.intake import Assignment, Shipment, Switches, open_assignment, open_shipment
from worker.simulator.shipment import MadeShipment, MadeToken, PairRow
from worker.simulator.world import DeviceSeed, TokenSeed, UserSeed, WorldSeed


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
