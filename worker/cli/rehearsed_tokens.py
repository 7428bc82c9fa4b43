"""The tokens of a rehearsal: made up, or those of a person's own file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from models.row_fault import RowFault
from worker.batches.load_counts import explain_none_good
from worker.cli.refused_rows import RefusedRows
from worker.cli.rehearsed_box import BOX, open_box
from worker.cli.typed_commands import write_command
from worker.intake import (
    Row,
    RowError,
    Shipment,
    UnusableFile,
    explain_missing_ids,
    open_assignment,
    open_shipment,
)
from worker.pingone.users import fold_case
from worker.vault.otp import OtpPair

if TYPE_CHECKING:
    from worker.simulator.own_rows import SeedRow
    from worker.simulator.seed_shipment import MadeSeeds
    from worker.simulator.seeding import UserSeed
    from worker.simulator.shipment import MadeShipment, PairRow

# How long the simulator takes a name of a person to be.
LONGEST = {"username": 128, "email": 320, "external_id": 1024}
COMES_BACK = "it comes back from an export, and a rehearsal knows no earlier record: rehearse the file of before"


def make_shipment_for(own: Shipment | None, tokens: int) -> MadeShipment:
    """Make tokens for the simulator: those of the person's own shipment, or so many made-up ones. Raises
    UnusableFile."""
    from worker.simulator.own_rows import shipment_from_rows
    from worker.simulator.shipment import A_FEW_HOPELESS, make_shipment

    if own is None:
        hopeless = A_FEW_HOPELESS if tokens >= 10 * len(A_FEW_HOPELESS) else {}
        return make_shipment(tokens, hopeless=hopeless)
    rows = _read_own_rows(own)
    made = shipment_from_rows(map(_make_own_row, rows))
    return replace(made, world=made.world.model_copy(update={"users": _name_persons(rows)}))


def make_seeds(tokens: int) -> MadeSeeds:
    """Make up so many tokens with seeds, in people's hands."""
    from worker.simulator.seed_shipment import make_seed_shipment

    return make_seed_shipment(tokens)


def open_made(made: MadeShipment, folder: Path) -> Shipment:
    """Write the files of made-up tokens, in the clear, and open them as the shipment that is to be loaded."""
    from worker.simulator.box import Box
    from worker.simulator.seed_shipment import MadeSeeds

    shipment = folder / "shipment.csv"
    if isinstance(made, Box):
        return open_box(made, folder / BOX)
    if not isinstance(made, MadeSeeds):
        made.write_pairs(shipment)
        return open_shipment(shipment)
    people = folder / "people.csv"
    made.write_seeds(shipment)
    made.write_list(people)
    return open_shipment(shipment, assignment=open_assignment(people))


def _make_own_row(row: Row) -> PairRow | SeedRow:
    """Make of a row of a person's own file what the simulator knows a token by."""
    from worker.simulator.own_rows import SeedRow
    from worker.simulator.shipment import PairRow

    ids: dict[str, Any] = {"serial": row.serial_number, "user_id": _choose_user_id(row), "device_id": row.device_id}
    otps = row.otps
    assert otps is not None, "rows without OTPs are refused"  # noqa: S101
    if isinstance(otps, OtpPair):
        return PairRow(otp1=otps.first.reveal(), otp2=otps.second.reveal() if otps.second else None, **ids)
    kind: dict[str, Any] = {"otp_type": otps.otp_type, "digits": otps.digits, "hash_name": otps.hash_algorithm}
    kind |= {"time_step": otps.time_step or 30, "counter": otps.counter}
    return SeedRow(secret=otps.secret.reveal().hex(), **kind, **ids)


def _choose_user_id(row: Row) -> str:
    """The id of a row's person: its own, or one that is made of the name by which the person is looked up."""
    return row.user_id or str(uuid5(NAMESPACE_OID, fold_case(row.username or row.email or row.external_id or "")))


def _name_persons(rows: Iterable[Row]) -> tuple[UserSeed, ...]:
    """Make the persons whom the rows name, so that the simulator finds them by these names. A name that is longer than
    any in PingOne names nobody."""
    from worker.simulator.seeding import UserSeed

    persons: dict[str, UserSeed] = {}
    for row in rows:
        names = {
            name: getattr(row, name) for name, longest in LONGEST.items() if len(getattr(row, name) or "") <= longest
        }
        if any(names.values()):
            user_id = _choose_user_id(row)
            persons.setdefault(user_id, UserSeed(user_id=user_id, **names))
    return tuple(persons.values())


def _read_own_rows(shipment: Shipment) -> list[Row]:
    """Read the rows that can be rehearsed. The others are printed once the rest is loaded, or here if there is none.
    Raises UnusableFile if none is left."""
    rows, refusals = list[Row](), RefusedRows()
    for row in shipment.rows():
        if isinstance(row, RowError):
            refusals.add(row)
        elif row.otps is None or explain_missing_ids(row, may_pair=False):
            refusals.add(RowError(row.row_number, COMES_BACK, row.serial_number, RowFault.ORIGIN_UNFIT))
        else:
            rows.append(row)
    if not rows:
        refusals.print(write_command("check", shipment.path, ["--offline", "--json"]))
        raise UnusableFile(shipment.path, explain_none_good(refusals.count), "Mend them first")
    return rows
