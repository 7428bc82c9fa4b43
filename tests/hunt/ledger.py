"""Every commit and every request, held against the promises at the moment when it happens."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from hunt.clock import SPARE, Clock
from hunt.pingone import EXTRA, Call, ModelDevice
from hunt.strands import Broken
from models.batch import BatchState
from models.reason import PauseReason, Reason
from models.record import FINAL, TRANSITIONS, OtpState, Status
from worker.config import Settings
from worker.decisions import POSTS_PER_OTP

_COLUMNS = """id, batch_id, device_id, status, scheduled_at, lease_id, lease_until, otp1_state, otp1_posts, otp2_state,
    otp2_posts, otp_sent_at, verdict, attempts, attempts_forgiven, reason, finalized_at IS NULL, otps IS NULL"""
_RECORDS = f"SELECT {_COLUMNS} FROM record ORDER BY id"
_BATCHES = "SELECT id, name, state, reason, probe_at FROM batch ORDER BY id"


class Row(NamedTuple):
    """A record as it is committed."""

    id: int
    batch_id: int
    device_id: str
    status: str
    scheduled_at: str
    lease_id: str | None
    lease_until: str | None
    otp1_state: str
    otp1_posts: int
    otp2_state: str
    otp2_posts: int
    otp_sent_at: str | None
    verdict: str | None
    attempts: int
    attempts_forgiven: int
    reason: str | None
    is_not_finalized: bool
    is_without_otps: bool

    def state(self, ordinal: int) -> str:
        return self.otp1_state if ordinal == 1 else self.otp2_state

    def posts(self, ordinal: int) -> int:
        return self.otp1_posts if ordinal == 1 else self.otp2_posts

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def needs_read(self) -> bool:
        return OtpState.SENT in (self.otp1_state, self.otp2_state) or self.verdict is not None


class BatchRow(NamedTuple):
    """A batch as it is committed."""

    id: int
    name: str
    state: str
    reason: str | None
    probe_at: str | None

    @property
    def waits_for_a_person(self) -> bool:
        return self.state == BatchState.PAUSED and self.reason != PauseReason.OUTAGE


class Ledger:
    """What is committed, and PingOne's journal beside it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, journal: list[Call], settings: Settings) -> None:
        self._connection = connection
        self._clock = clock
        self._journal = journal
        self._budget = settings.otp_post_budget
        # A rescue counts on it, give or take the steps of the database's clock.
        self._send_within = settings.send_within + SPARE
        self.rows: dict[int, Row] = {}
        self.batches: dict[int, BatchRow] = {}
        self._leases: set[str] = set()
        self._enqueued: Counter[int] = Counter()
        self._published: Counter[int] = Counter()
        # A person's command, or the replay schedule, is at work: alone it may change a final status.
        self.is_command = False

    def open_books(self, devices: dict[str, ModelDevice]) -> None:
        self._devices = devices
        self._look()
        self.records_of = {row.device_id: row.id for row in self.rows.values()}

    def committed(self) -> None:
        before = self.rows
        self._look()
        if before.keys() != self.rows.keys():
            raise Broken("records came or went")
        for record_id, row in self.rows.items():
            if row != before[record_id]:
                self._check(before[record_id], row)

    def published(self, record_id: object, environment: object) -> None:
        """Promise 1, and commit before publish."""
        if not isinstance(record_id, int) or environment != "default":
            raise Broken(f"a message holds something else than a record's id and environment: {record_id!r}")
        self._published[record_id] += 1
        if self._published[record_id] > self._enqueued[record_id]:
            raise Broken(f"record {record_id} is published before it is committed as queued")

    def arriving(self, call: Call) -> None:
        """A request's first byte is about to go out."""
        row = self.rows[self.records_of[call.device.device_id]]
        if not call.is_post:
            return
        is_held = row.lease_id is not None and call.attempt == f"oathbulk-record-{row.id}-{row.lease_id[:8]}"
        if row.status != Status.ACTIVATING or not is_held:
            raise Broken(f"{call} goes out without a lease: the record is {row.status}")
        if row.state(call.ordinal) != OtpState.SENT:
            raise Broken(f"{call} goes out while its OTP is committed as {row.state(call.ordinal)}")
        marked_at = self._clock.moment_of(row.otp_sent_at or "")
        if call.sent_at > marked_at + self._send_within:
            raise Broken(f"{call} goes out {call.sent_at - marked_at:.1f} s after it was written down as sent")
        posts = self.posts_of(call.device)
        if call.ordinal == 2:
            self._check_second(call, row, posts)
        if sum(post.ordinal == call.ordinal for post in posts) >= POSTS_PER_OTP:
            raise Broken(f"{call} brings its OTP more than {POSTS_PER_OTP} times")
        if len(posts) >= self._budget:
            raise Broken(f"{call} is one post more than the budget of {self._budget}")
        for post in posts:
            # That the answer to OTP 1 is written down was checked above.
            if not (post.ordinal < call.ordinal and post.heard_at) and not self.is_told(post):
                raise Broken(f"{call} goes out while no read has told what became of {post}")

    def _check_second(self, call: Call, row: Row, posts: list[Call]) -> None:
        """Promise 2."""
        if not any(post.ordinal == 1 and post.verdict == EXTRA and post.heard_at is not None for post in posts):
            raise Broken(f"{call} goes out, and PingOne has not asked for OTP 2")
        if row.otp1_state != OtpState.ANSWERED:
            raise Broken(f"{call} goes out while OTP 1 is committed as {row.otp1_state}")

    def posts_of(self, device: ModelDevice) -> list[Call]:
        """Posts on which PingOne acted, or may have acted for all that we could know."""
        return [call for call in self._journal if call.device is device and call.is_post and not call.did_nothing]

    def is_told(self, post: Call) -> bool:
        """A read was answered after the post could change nothing any more."""
        if post.acts_at is not None and post.acted_at is None:
            return False
        over_at = post.sent_at if post.acted_at is None else post.acted_at
        return any(
            call.device is post.device
            and not call.is_post
            and call.number > post.number
            and call.heard_at is not None
            and call.acted_at is not None
            and call.acted_at >= over_at
            for call in self._journal
        )

    def _look(self) -> None:
        self.rows = {values[0]: Row(*values) for values in self._connection.execute(_RECORDS)}
        self.batches = {values[0]: BatchRow(*values) for values in self._connection.execute(_BATCHES)}

    def _check(self, old: Row, new: Row) -> None:
        for charge in (*self._moves(old, new), *self._otps(old, new), *self._ends(new)):
            raise Broken(f"record {new.id}: {charge}")

    def _moves(self, old: Row, new: Row) -> Iterator[str]:
        if old.status != new.status and (old.status, new.status) not in TRANSITIONS:
            yield f"no arrow leads from {old.status} to {new.status}"
        if old.is_final and old.status != new.status and not self.is_command:
            yield f"{old.status} is final, and nobody asked for {new.status}"
        if new.status == Status.QUEUED != old.status:
            self._enqueued[new.id] += 1
        if new.lease_id is not None and new.lease_id != old.lease_id:
            if old.lease_id is not None or new.lease_id in self._leases:
                yield "a lease is taken over, or used twice"
            self._leases.add(new.lease_id)
            state = self.batches[new.batch_id].state
            if state == BatchState.PAUSED or (state == BatchState.CANCELLED and not old.needs_read):
                yield f"it is claimed although its batch is {state}"

    def _otps(self, old: Row, new: Row) -> Iterator[str]:
        for ordinal in (1, 2):
            if old.state(ordinal) == OtpState.ANSWERED != new.state(ordinal):
                yield f"OTP {ordinal} was answered, and is {new.state(ordinal)} again"
            is_marked = new.state(ordinal) == OtpState.SENT != old.state(ordinal) and new.status == Status.ACTIVATING
            if is_marked and self.batches[new.batch_id].state != BatchState.RUNNING:
                yield f"OTP {ordinal} is to go out although the batch does not run"
            sent = sum(post.ordinal == ordinal for post in self.posts_of(self._devices[new.device_id]))
            if sent > new.posts(ordinal):
                yield f"OTP {ordinal} was sent {sent} times, and {new.posts(ordinal)} are written down"

    def _ends(self, new: Row) -> Iterator[str]:
        device = self._devices[new.device_id]
        if new.is_final == new.is_not_finalized:
            yield f"it is {new.status}, and its finalized_at says something else"
        if new.status == Status.ACTIVE:
            if not device.is_active:
                yield "it is active here, and not ACTIVE at PingOne"
            if not new.is_without_otps:
                yield "it is active and keeps its OTPs"
        elif new.is_final:
            # That there is no such device is an answer as well; the record keeps its open fate for a replay.
            if new.needs_read and new.reason != Reason.DEVICE_NOT_FOUND:
                yield f"it is {new.status} although a read is owed"
            for post in self.posts_of(device):
                if post.heard_at is None and not self.is_told(post):
                    yield f"it is {new.status}, and no read has told what became of {post}"


def describe(row: Row) -> str:
    """One line of a tale."""
    otps = f"{row.otp1_state}/{row.otp1_posts} {row.otp2_state}/{row.otp2_posts}"
    lease = f" {row.lease_id[:8]}" if row.lease_id else ""
    return f"{row.status}{lease} {otps} {row.verdict or row.reason or ''} due {row.scheduled_at[11:]}".replace(
        "  ", " "
    )
