"""What a batch made, by its records: devices and tokens that may be taken away. What another batch goes on with stays,
whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

from sqlalchemy import ColumnElement, Label, Row, and_, func, or_, select, true
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.inventory_job import InventoryJob, JobKind, JobState
from models.record import Record
from models.record_states import PairingState, Status
from worker.database.engine import Database
from worker.leases.undoing import had_device, had_token

# This batch made a device, and knows its id.
HAS_DEVICE = and_(Record.is_device_made, Record.device_id != "", Record.user_id != "")
# A request to pair may have made one. A final record's token was looked up, so that nothing is open.
HAS_OPEN_PAIRING = and_(
    Record.status == Status.PENDING,
    Record.pairing.in_((PairingState.SENT, PairingState.MISSED)),
    Record.device_id == "",
    Record.user_id != "",
)
# The inventory had the token before this batch.
_HAD_TOKEN_BEFORE = and_(Record.is_in_inventory, ~Record.is_token_made)
# An import of this batch made the token, or may have: it is not known, or the import has not ended.
_MAY_HAVE_TOKEN = or_(Record.is_token_made, and_(Record.import_job_id.is_not(None), ~Record.is_in_inventory))

_OTHER = aliased(Record, name="other")
# PingOne may write a serial number in other letters than a file. Compared as `lower(...)`, no index would be used.
_SPELLINGS = (Record.serial_number, func.lower(Record.serial_number), func.upper(Record.serial_number))


def read_made(database: Database, batch_id: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Read of every record of a batch what it made, or may have made, and what earlier undos took away of that."""
    columns = (Record.id, Record.row_number, Record.serial_number, func.lower(Record.device_id).label("device_id"))
    kinds = {
        "has_device": HAS_DEVICE,
        "has_open_pairing": HAS_OPEN_PAIRING,
        "had_device": had_device(),
        "may_have_token": _MAY_HAVE_TOKEN,
        "had_token": had_token(),
        "had_token_before": _HAD_TOKEN_BEFORE,
    }
    made = select(*columns, *(kind.label(name) for name, kind in kinds.items())).where(Record.batch_id == batch_id)
    with database.reading() as connection:
        return connection.execute(made.order_by(Record.row_number)).all()


def is_import_of_unknown_fate(batch_id: int) -> ColumnElement[bool]:
    """Whether nobody heard what came of the import of a record's token."""
    lost = select(InventoryJob.id).where(
        InventoryJob.batch_id == batch_id,
        InventoryJob.kind == JobKind.IMPORT,
        InventoryJob.state == JobState.LOST,
    )
    return and_(Record.import_job_id.in_(lost), ~Record.is_in_inventory)


def find_batch_with_token() -> Label[str]:
    """The column `other_batch`: the name of a batch whose record of the same token is active or not final; None if
    there is none."""
    return _find_batch(true())


def find_batch_with_device() -> Label[str]:
    """The column `other_batch`: the name of a batch whose record of the same token is not final, or is active on the
    same device, or may be since the record's own device is not known; None if there is none."""
    is_same = or_(Record.device_id == "", func.lower(_OTHER.device_id) == func.lower(Record.device_id))
    return _find_batch(or_(_OTHER.status != Status.ACTIVE, is_same))


def explain_other_batch(name: str) -> str:
    """Say why something stays that another batch uses, and what ends that."""
    named = quote(name)
    return (
        f"batch {name} goes on with this token, so it stays: `oathbulk cancel {named}` ends that; where it is active "
        f"there, `oathbulk undo {named}`, or remove it in PingOne"
    )


def _find_batch(condition: ColumnElement[bool]) -> Label[str]:
    return (
        select(Batch.name)
        .join(_OTHER, _OTHER.batch_id == Batch.id)
        .where(
            _OTHER.environment_id == Record.environment_id,
            _OTHER.serial_number.in_(_SPELLINGS),
            _OTHER.batch_id != Record.batch_id,
            _OTHER.status.not_in((Status.DEAD_LETTER, Status.CANCELLED)),
            condition,
        )
        .order_by(_OTHER.id.desc())
        .limit(1)
        .correlate(Record)
        .scalar_subquery()
        .label("other_batch")
    )
