"""Histories of a token for tests, as values: no database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from models.attempt import AttemptLine
from models.batch import Batch
from models.record import Record
from models.record_states import Status
from worker.fleet import KnownProcess
from worker.reports.search import Read
from worker.reports.stall import Fleet
from worker.reports.token_history import PastRecord, TokenHistory

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
USER = "3f0c8a52-8a4e-4f0e-9b1d-0c5a6e7f8091"
DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
AT_WORK = Fleet([KnownProcess("host:1", True, NOW, 1.0, None, None, None)])


def make_row(fields: dict[str, Any]) -> Read:
    """A row with these columns, as if it had been read."""
    return IteratorResult(SimpleResultMetaData(list(fields)), iter([tuple(fields.values())])).one()


def past_attempt(**fields: Any) -> Read:
    empty = dict.fromkeys(AttemptLine.__table__.columns.keys())
    usual = {"number": 1, "ended_at": NOW, "outcome": "active", "requests": 1, "otp_posts": 1}
    return make_row(empty | usual | fields)


def past_record(
    status: Status = Status.PENDING, batch: Mapping[str, Any] = MappingProxyType({}), attempts: Any = (), **fields: Any
) -> PastRecord:
    """A record of batch `july`, or of the batch whose fields are given."""
    usual: dict[str, Any] = {
        **dict.fromkeys(Record.__table__.columns.keys()),
        **{"id": 8, "batch_id": 1, "row_number": 9, "serial_number": "MADE7", "user_id": USER, "device_id": DEVICE},
        **{"is_in_inventory": True, "is_token_made": False, "is_device_made": False, "status": status},
        **{"scheduled_at": NOW, "otp_type": "hotp", "has_second_otp": True},
        **{"otp1_state": "unsent", "otp1_posts": 0, "otp2_state": "unsent", "otp2_posts": 0},
        **{"has_seed": False, "are_otps_kept": True, "is_replayable": False},
        **{"posts_forgiven": 0, "counted_attempts": 0, "requests": 0},
    }
    of_batch = dict.fromkeys(Batch.__table__.columns.keys()) | {"name": "july", "file": "july.csv", "state": "running"}
    return PastRecord(make_row(usual | fields), make_row(of_batch | dict(batch)), attempts)


def refused_line(**fields: Any) -> Read:
    usual = {"batch": "july", "file": "july.csv", "row_number": 17, "environment": "default", "environment_id": "id"}
    said = {"serial_number": "MADE7", "reason": "otps_unfit", "detail": "otp1 is missing: write it there"}
    return make_row(usual | said | fields)


def history_of(*records: PastRecord, **fields: Any) -> TokenHistory:
    usual = {"environment": "default", "environment_id": "id", "serial_number": "MADE7", "now": NOW, "fleet": AT_WORK}
    return TokenHistory(**usual | fields, records=list(records))
