"""The report as JSON, for machines. docs/report.md explains each key; none of them goes away."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from worker.pages.sentences import describe_shipment, list_next_steps, list_standing_out
from worker.reports.batch_report.contents import (
    Command,
    ReasonGroup,
    RefusedGroup,
    Report,
    RowCounts,
    StepColumn,
    StepShare,
    Timeline,
    TokenLine,
)
from worker.reports.batch_report.durations import DurationLine


def render_json(report: Report, tokens: Iterable[TokenLine]) -> Iterator[str]:
    """Write the report piece by piece, with all tokens at its end, a line each."""
    yield json.dumps(make_summary(report), indent=2)[: -len("\n}")] + ',\n  "tokens": ['
    for place, token in enumerate(tokens):
        yield ("," if place else "") + "\n    " + json.dumps(make_token(token))
    yield "\n  ]\n}\n"


def make_summary(report: Report) -> dict[str, Any]:
    """All of the report but for its tokens."""
    return {
        "batch": report.batch,
        "made_at": _write_time(report.made_at),
        "zone": "UTC",
        "outcome": describe_shipment(report.batch, report.counts, report.taken_over),
        "next_steps": list_next_steps(report),
        "state": report.state.word,
        "reason": report.state.reason,
        "detail": report.state.detail,
        "counts": _make_counts(report.counts),
        "dead_letters": [_make_reason(group) for group in report.dead_letters],
        "refused": None if report.refused is None else [_make_refused(group) for group in report.refused],
        "timeline": _make_timeline(report.timeline),
        "seconds_to_active": {
            name: _make_durations(getattr(report.durations, name)) for name in ("first_attempt", "more_attempts", "all")
        },
        "out_of_step": _make_share(report.in_step) | {"by_column": [*map(_make_column, report.step_columns)]},
        "standing_out": list_standing_out(report),
        "origin": _make_origin(report),
        "commands": [_make_command(command) for command in report.commands],
        "versions": {"program": report.versions.program, "schema": report.versions.schema},
    }


def make_token(token: TokenLine) -> dict[str, Any]:
    """One token."""
    return {
        "serial": token.serial_number,
        "row": token.row_number,
        "user": token.person,
        "lot": token.lot,
        "status": token.status,
        "reason": token.reason,
        "attempts": token.attempts,
        "out_of_step": token.is_out_of_step,
        "finalized_at": _write_time(token.finalized_at),
    }


def _make_counts(counts: RowCounts) -> dict[str, int]:
    names = ("active", "dead_letter", "cancelled", "open", "refused", "already_active", "rows")
    return {name: getattr(counts, name) for name in names}


def _make_reason(group: ReasonGroup) -> dict[str, Any]:
    return {"reason": group.reason, "count": group.count, "cure": group.cure}


def _make_refused(group: RefusedGroup) -> dict[str, Any]:
    rows = [{"row": row.row_number, "serial": row.serial_number, "detail": row.detail} for row in group.rows]
    return {"reason": group.reason, "count": group.count, "cure": group.cure, "rows": rows}


def _make_timeline(timeline: Timeline) -> dict[str, Any]:
    return {
        "since": _write_time(timeline.since),
        "until": _write_time(timeline.until),
        "active": [{"at": _write_time(at), "tokens": count} for at, count in timeline.moments],
        "pauses": [
            {
                "start": _write_time(pause.start),
                "end": _write_time(pause.end),
                "why": pause.why,
                "is_start_known": pause.is_start_known,
            }
            for pause in timeline.pauses
        ],
    }


def _make_durations(line: DurationLine) -> dict[str, Any]:
    return {"tokens": line.tokens, "p50": line.median, "p95": line.p95, "max": line.longest}


def _make_share(share: StepShare) -> dict[str, Any]:
    return {"tokens": share.tokens, "out_of_step": share.out_of_step, "share": round(share.share, 4)}


def _make_column(column: StepColumn) -> dict[str, Any]:
    groups = [{"value": group.name} | _make_share(group) | {"stands_out": group.stands_out} for group in column.groups]
    return {"column": column.name, "groups": groups}


def _make_origin(report: Report) -> dict[str, Any]:
    origin = report.origin
    files = ("file", "sha256", "list_file", "list_sha256")
    names = (*files, "environment", "environment_id", "loaded_by", "ticket", "parent")
    return {name: getattr(origin, name) for name in names} | {"loaded_at": _write_time(origin.loaded_at)}


def _make_command(command: Command) -> dict[str, Any]:
    return {
        "at": _write_time(command.at),
        "actor": command.actor,
        "action": command.action,
        "ticket": command.ticket,
        "facts": dict(command.facts),
    }


def _write_time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
