"""How batches stand, a token's history, the page of a batch, and what its metrics are made of: as values, without a
database. Each test changes what it is about."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from models.attempt import AttemptLine
from models.batch import Batch, BatchState
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import Status
from worker.fleet import KnownProcess
from worker.pace.known_pace import Hold, KnownPace
from worker.reports.batch_history import BatchHistory, BatchOrigin, Command, PauseSpan, Timeline
from worker.reports.facts import BatchStatus
from worker.reports.metrics import AttemptGroup, make_metrics
from worker.reports.search import Read
from worker.reports.stall import Fleet
from worker.reports.token_history import PastRecord, TokenHistory

LOADED = datetime(2024, 11, 24, 12, 0, tzinfo=UTC)
NOTHING = {str(status): 0 for status in Status}
FLEET = Fleet([KnownProcess("host:1", True, LOADED, 1.0, None, None, None)])


def batch(state: str = "running", pace: float = 0.0, **counts: int) -> BatchStatus:
    return BatchStatus(
        name="pallet-7",
        environment="default",
        state=state,
        reason=None,
        detail=None,
        total=sum(counts.values()),
        rows_refused=0,
        counts=NOTHING | counts,
        dead_letters={},
        resynced=0,
        attempts=0,
        otp_posts=0,
        requests=0,
        rate_limited=0,
        created_at=LOADED,
        finished_at=None,
        pace=pace,
        next_due_at=None,
        fleet=FLEET,
    )


RUNNING = batch(pace=10.0, pending=500, queued=60, activating=40, active=400)
PAUSED = replace(
    batch("paused", pending=9, active=1), reason="credentials", detail="PingOne refused the credentials. Check them."
)
CANCELLED = batch("cancelled", cancelled=6, active=4)
FINISHED = replace(batch("finished", active=10), finished_at=LOADED + timedelta(minutes=1, seconds=35))
SOME_LEFT = replace(
    batch("finished", active=7, dead_letter=3),
    finished_at=LOADED + timedelta(hours=2, minutes=5),
    dead_letters={"locked": 1, "invalid_otp": 2},
)


NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
USER = "3f0c8a52-8a4e-4f0e-9b1d-0c5a6e7f8091"
DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
AT_WORK = Fleet([KnownProcess("host:1", True, NOW, 1.0, None, None, None)])


def make_row(fields: dict[str, Any]) -> Read:
    """A row with these columns, as if it had been read."""
    return IteratorResult(SimpleResultMetaData(list(fields)), iter([tuple(fields.values())])).one()


def past_attempt(**fields: Any) -> Read:
    empty = dict.fromkeys(AttemptLine.__table__.columns.keys())
    usual = {"number": 1, "ended_at": NOW, "outcome": "active"}
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
    said["is_closed"] = False
    return make_row(usual | said | fields)


def history_of(*records: PastRecord, **fields: Any) -> TokenHistory:
    usual = {"environment": "default", "environment_id": "id", "serial_number": "MADE7", "now": NOW, "fleet": AT_WORK}
    return TokenHistory(**usual | fields, records=list(records))


LOADED_AT = datetime(2026, 3, 1, 21, 30, tzinfo=UTC)


def minutes(number: float) -> datetime:
    """The time so many minutes after the batch was loaded."""
    return LOADED_AT + timedelta(minutes=number)


def make_command(at: datetime, actor: str, action: str, ticket: str | None, facts: dict[str, Any]) -> Command:
    """A line of the audit."""
    return make_row({"at": at, "actor": actor, "action": action, "ticket": ticket, "facts": facts})


def make_history(**fields: Any) -> BatchHistory:
    """A batch of which three tokens are active."""
    history = BatchHistory(
        timeline=make_timeline((1, 2, 3)),
        origin=BatchOrigin("shipment.csv", "ab" * 32, "default", "tenant-1", LOADED_AT, "alice", "CHG-1"),
        commands=(make_command(LOADED_AT, "alice", "load", "CHG-1", {"total": 4, "canary": None}),),
    )
    return replace(history, **fields)


def make_timeline(active_at: tuple[float, ...], *pauses: PauseSpan) -> Timeline:
    """Tokens that became active so many minutes after the batch was loaded."""
    moments = tuple((minutes(at), count) for count, at in enumerate(active_at, 1))
    return Timeline(LOADED_AT, minutes(max(active_at, default=1)), moments, pauses)


READ_AT = datetime(2026, 5, 4, 13, tzinfo=UTC)
# Values by the name of a sample and its labels, in the order of the labels' names.
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(eq=False)
class MadeUp:
    """What metrics are made of; stands in for the collector, and reads nothing."""

    statuses: list[BatchStatus]
    attempts: list[AttemptGroup]
    paces: dict[str, KnownPace]
    fleet: Fleet
    lost_notices: int
    backup_age: float | None = 3600.0

    def collect(self) -> Iterator[Metric]:
        return make_metrics(*(getattr(self, each.name) for each in fields(self)))


def make_process(name: str, sick: str | None = None, tick: float | None = None) -> KnownProcess:
    return KnownProcess(name, sick is None, READ_AT, tick, READ_AT if sick else None, sick, "mend it" if sick else None)


def make_reading() -> MadeUp:
    """A reading of which every metric has a sample."""
    running = replace(
        batch(dead_letter=5, active=15, pending=80),
        name="july",
        dead_letters={str(Reason.LOCKED): 5},
        old_devices=2,
        still_for=75.0,
        read_at=READ_AT,
        next_due_at=READ_AT - timedelta(seconds=90),
        fleet=Fleet(broker="out of reach"),
    )
    paused = replace(
        batch(str(BatchState.PAUSED), pending=3), name="august", environment="second", reason=PauseReason.CREDENTIALS
    )
    attempts = [
        AttemptGroup("july", "default", "active", 15, 91_000, (0, *12 * [14], 15)),
        AttemptGroup("july", "default", "retry", 4, 0, (*14 * [0],)),
    ]
    hold = Hold(READ_AT, READ_AT, "PingOne asked for it", 12.5)
    paces = {"default": KnownPace("license", 40.0, 50.0, share=0.6, hold=hold), "second": KnownPace("other")}
    fleet = Fleet([make_process("a", tick=3.0), make_process("b", sick="network"), make_process("c", tick=8.0)])
    return MadeUp([running, paused], attempts, paces, fleet, 1)


def write_metrics(collector: Any) -> str:
    """The metrics as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry).decode()


def parse_metrics(text: str) -> Samples:
    """The samples of such a text."""
    families = text_string_to_metric_families(text)
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }
