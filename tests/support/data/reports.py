"""Reports of batches for tests, without a database: a small one, in which each test changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from models.reason import CURES, Reason
from models.row_fault import FAULT_CURES, RowFault
from support.data.histories import refused_line
from worker.reports.batch_report.contents import (
    Command,
    Origin,
    Pause,
    ReasonGroup,
    RefusedGroup,
    Report,
    RowCounts,
    State,
    StepColumn,
    StepShare,
    Timeline,
    TokenLine,
    Versions,
)
from worker.reports.batch_report.durations import DurationLine, Durations

LOADED_AT = datetime(2026, 3, 1, 21, 30, tzinfo=UTC)


def minutes(number: float) -> datetime:
    """The time so many minutes after the batch was loaded."""
    return LOADED_AT + timedelta(minutes=number)


def make_token(number: int, **columns: Any) -> TokenLine:
    """A token that became active at its first attempt."""
    usual: dict[str, Any] = {
        "serial_number": f"MADE{number:06}",
        "row_number": number + 1,
        "person": f"person{number}",
        "lot": "L-1",
        "status": "active",
        "reason": None,
        "attempts": 1,
        "is_out_of_step": False,
        "finalized_at": minutes(number),
    }
    return TokenLine(**usual | columns)


def make_group(reason: Reason, count: int = 1, *tokens: TokenLine) -> ReasonGroup:
    """Dead letters of a reason."""
    named = tokens or (make_token(count, status="dead_letter", reason=reason),)
    return ReasonGroup(reason, count, CURES[reason], named)


def make_refused(count: int = 1, **fields: Any) -> RefusedGroup:
    """The refused rows of one reason, of which one is told."""
    row = refused_line(serial_number="MADE000017")
    cure = FAULT_CURES[RowFault.OTPS_UNFIT]
    return replace(RefusedGroup(RowFault.OTPS_UNFIT, count, cure, (row,)), **fields)


def make_report(**fields: Any) -> Report:
    """A batch of five rows: three tokens are active, one was given up, one row was refused."""
    tokens = (
        *(make_token(number) for number in (1, 2, 3)),
        make_token(4, status="dead_letter", reason="locked", is_out_of_step=None),
    )
    report = Report(
        batch="shipment",
        made_at=minutes(30),
        state=State("finished", None, None, is_passing=False),
        counts=RowCounts(active=3, dead_letter=1, refused=1),
        refused=(make_refused(),),
        dead_letters=(make_group(Reason.LOCKED, 1, tokens[3]),),
        timeline=make_timeline((1, 2, 3)),
        durations=Durations(DurationLine(3, 0.2, 0.4, 0.5), DurationLine(0), DurationLine(3, 0.2, 0.4, 0.5)),
        in_step=StepShare("all tokens", 3, 1),
        step_columns=(StepColumn("lot", (StepShare("L-1", 3, 1),)),),
        tokens=tokens,
        origin=Origin("shipment.csv", "ab" * 32, "default", "tenant-1", LOADED_AT, "alice", "CHG-1", None),
        commands=(Command(LOADED_AT, "alice", "load", "CHG-1", {"total": 4, "canary": None}),),
        versions=Versions("1.2.3", "0008"),
    )
    return replace(report, **fields)


def make_timeline(active_at: tuple[float, ...], *pauses: Pause) -> Timeline:
    """Tokens that became active so many minutes after the batch was loaded."""
    moments = tuple((minutes(at), count) for count, at in enumerate(active_at, 1))
    return Timeline(LOADED_AT, minutes(max(active_at, default=1)), moments, pauses)
