"""Finds batches that go on with a token or device of another batch: what they use stays, whoever made it."""

from __future__ import annotations

from shlex import quote

from sqlalchemy import ColumnElement, Label, func, or_, select, true
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.record import Record
from models.record_states import Status

_OTHER = aliased(Record, name="other")
# PingOne may write a serial number in other letters than a file. Compared as `lower(...)`, no index would be used.
_SPELLINGS = (Record.serial_number, func.lower(Record.serial_number), func.upper(Record.serial_number))


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
        f"there, `oathbulk unpair {named}`, or remove it in PingOne"
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
