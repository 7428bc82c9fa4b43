"""Finds what people are to be told of batches, puts it into words, and writes a notice of it.

How the batches stand is compared with what was told last, so it does not matter where a worker was killed: what was not
written down is found at the next look. A pause that is over before anybody looks is not told.

Only words of ours, the names that people gave, and counts are told. What PingOne or a machine answered may name a user
or a token, so a batch's `detail` is left out.

A worker claims a notice and commits, posts it outside of any transaction, and settles. One that is killed in between
does not come back; when its lease has run out, another sends the same notice again, with the same id."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlalchemy import Connection, and_, case, func, insert, null, or_, select, text, update
from sqlalchemy.exc import IntegrityError

from models.batch import Batch, BatchState
from models.notice import LONGEST_ERROR, WAITS, Event, Notice
from models.reason import PASSING, PAUSE_CURES, PauseReason
from worker.batches.commands import LicenseOf
from worker.config.settings import ConfigError, Settings
from worker.database.engine import Database
from worker.observability.wording import agree, count_things, escape_line
from worker.pingone.errors import PingOneError
from worker.pingone.transport import Transport
from worker.pingone.wire import Request, open_envelope
from worker.reports.facts import LONGEST_REST, REST, BatchStatus, read_in
from worker.reports.sentences import count_active
from worker.reports.stall import Cause, Stall
from worker.rules.hours import format_time

# A batch of which nothing was told yet, and that was finished for longer than this, is no news: a webhook that was set
# today is not told of last year's batches.
NEWS_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class LastTold:
    """What was told last about a batch, and when that was written down. `number`: how many notices it had."""

    event: str
    reason: str | None
    at: datetime
    number: int = 1


def find_event(status: BatchStatus, running_since: datetime, told: LastTold | None) -> Event | None:
    """Find what people are to be told now; None: nothing that they do not know. `running_since`: when the batch was
    loaded, or last began to run again. A cancelled batch is not told of, for a person has just cancelled it."""
    if status.state == BatchState.CANCELLED:
        return None
    if status.state == "finished":
        return Event.FINISHED if _is_new_end(status, running_since, told) else None
    if status.state == BatchState.PAUSED:
        event = Event.PAUSED_FOR_NOW if status.reason in PASSING else Event.PAUSED
        return None if told and (told.event, told.reason) == (event, status.reason) else event
    # A batch that only tries whether an outage is over has not gone on before PingOne answers.
    if status.outage:
        return None
    if status.stall:
        return None if told and told.event == Event.STALLED else Event.STALLED
    return None if told is None or told.event == Event.RESUMED else Event.RESUMED


def _is_new_end(status: BatchStatus, running_since: datetime, told: LastTold | None) -> bool:
    """Whether the batch's end was not told yet. A batch that was told to be finished may have been replayed and
    finished again before anybody looked."""
    finished_at = _find_end(status)
    if told is None:
        return status.read_at - finished_at < NEWS_FOR
    return told.event != Event.FINISHED or min(running_since, finished_at) > told.at


def _find_end(status: BatchStatus) -> datetime:
    """When a finished batch ended; a batch without a record did so when it was loaded."""
    return status.finished_at or status.created_at


# The last notice of a batch. What was told to be finished, and has not run since, is no news, and is not looked at.
_LAST_TOLD = select(func.max(Notice.occurrence)).where(Notice.batch_id == Batch.id).correlate(Batch).scalar_subquery()
_MAY_BE_NEWS = (
    select(Batch.id, Batch.name, Batch.running_since, Notice.event, Notice.facts, Notice.occurrence, Notice.created_at)
    .outerjoin(Notice, and_(Notice.batch_id == Batch.id, Notice.occurrence == _LAST_TOLD))
    .where(
        Batch.state != BatchState.CANCELLED,
        or_(Notice.id.is_(None), Notice.event != Event.FINISHED, Batch.running_since > Notice.created_at),
    )
)


class Recorder:
    """Finds what is to be told, and writes it down; for one thread. `clock` counts seconds. `only_batch`: the id of the
    one batch that is told of, since nobody asked for work on others here; None: all are."""

    def __init__(
        self,
        database: Database,
        license_of: LicenseOf,
        clock: Callable[[], float] = time.monotonic,
        *,
        only_batch: int | None = None,
    ) -> None:
        self._database = database
        self._license_of = license_of
        self._clock = clock
        self._may_be_news = _MAY_BE_NEWS if only_batch is None else _MAY_BE_NEWS.where(Batch.id == only_batch)
        self._next_look_at: float | None = None

    def record(self) -> int:
        """Write a notice of everything that is new, and return how many. Nothing where it is too early for another
        look: to count the records of large batches takes time."""
        began_at = self._clock()
        if self._next_look_at is not None and began_at < self._next_look_at:
            return 0
        with self._database.reading_snapshot() as connection:
            news = list(self._find_news(connection))
        now = self._clock()
        self._next_look_at = now + min(REST * (now - began_at), LONGEST_REST)
        return sum(map(self._write, news))

    def _find_news(self, connection: Connection) -> Iterator[dict[str, Any]]:
        """Find what is new, as rows of the table of notices, those of the earliest batch first."""
        batches = {batch.name: batch for batch in connection.execute(self._may_be_news)}
        statuses = read_in(self._database, connection, self._license_of, Batch.name.in_(batches)) if batches else []
        for status in reversed(statuses):
            batch = batches[status.name]
            told = (
                LastTold(batch.event, batch.facts["reason"], batch.created_at, batch.occurrence)
                if batch.event
                else None
            )
            if event := find_event(status, batch.running_since, told):
                at = _find_end(status) if event == Event.FINISHED else status.read_at
                yield {
                    "batch_id": batch.id,
                    "batch": batch.name,
                    "event": event,
                    "occurrence": (told.number if told else 0) + 1,
                    "facts": describe(event, status, at, status.stall),
                }

    def _write(self, notice: dict[str, Any]) -> bool:
        """Write a notice; False where another worker has written that number of this batch first. What it did not see
        is found at the next look."""
        now = self._database.now()
        try:
            with self._database.writing() as connection:
                connection.execute(insert(Notice).values(notice | {"created_at": now, "next_try_at": now}))
        except IntegrityError:
            return False
        return True


# Chat tools read commands such as <!channel> in a text; these look alike and are none.
_NO_MARKUP = str.maketrans({"<": "‹", ">": "›", "&": "+"})
# What keeps work from moving, where `status` would quote what a machine answered.
_STALLS = {
    Cause.HOLD: "All workers hold.",
    Cause.BROKER: "The broker cannot be used.",
    Cause.SICK: "No worker is well.",
}


def describe(event: Event, status: BatchStatus, occurred_at: datetime, stall: Stall | None = None) -> dict[str, Any]:
    """Say all that the webhook is told but for the notice's id. `stall`: why the work of the batch does not move."""
    reason, cure = _find_reason(event, status, stall)
    resumes_at = status.resumes_at if event == Event.PAUSED_FOR_NOW else None
    return {
        "text": write_text(event, status, cure, stall),
        "event": event,
        "batch": status.name,
        "environment": status.environment,
        "total": status.total,
        "rows": status.rows,
        "tokens_active": status.tokens_active,
        "counts": status.counts,
        "reason": reason,
        "cure": cure,
        "resumes_at": resumes_at and resumes_at.isoformat(),
        "occurred_at": occurred_at.isoformat(),
    }


def write_text(event: Event, status: BatchStatus, cure: str | None, stall: Stall | None) -> str:
    """Write the line that a chat tool shows as it is."""
    counted = count_active(status.tokens_active, status.rows)
    others = status.tokens_left
    left = f"{others:,} {agree(others, 'is', 'are')} not"
    more = f"Next: oathbulk status {quote(status.name)}"
    match event:
        case Event.FINISHED if not others:
            text = f"{status.name} is finished: {counted}."
        case Event.FINISHED:
            text = f"{status.name} is finished: {counted}, {left}. {more}"
        case Event.PAUSED:
            text = f"{status.name} is paused until a person resumes it ({status.reason}): {counted}. {cure} {more}"
        case Event.PAUSED_FOR_NOW:
            until = f" until {format_time(status.resumes_at)}" if status.resumes_at else ""
            text = f"{status.name} is paused for now{until} ({status.reason}): {counted}. {cure}"
        case Event.STALLED:
            does_not = _STALLS.get(stall.cause, stall.detail) if stall else ""
            text = f"{status.name} does not move: {does_not} {cure} {more}"
        case Event.RESUMED:
            text = f"{status.name} goes on: {counted}, {left}."
    return text.translate(_NO_MARKUP)


def _find_reason(event: Event, status: BatchStatus, stall: Stall | None) -> tuple[str | None, str | None]:
    """Find the one word why the batch does not go on, and what to do about it."""
    if event == Event.STALLED and stall is not None:
        return stall.cause, stall.cure.replace("BATCH", quote(status.name))
    if event == Event.FINISHED or status.state != BatchState.PAUSED or status.reason is None:
        return None, None
    reason = PauseReason(status.reason)
    cure = PAUSE_CURES[reason]
    # Where another cause than usual has paused it, the detail has another cure. It may name people, and is not told.
    is_usual = reason in (PauseReason.PERSON, *PASSING) or cure in (status.detail or cure)
    return reason, cure if is_usual else "Its cause and cure stand in its status."


# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)

# Refusals that pass by themselves: Request Timeout and Too Many Requests.
_PASSING = (408, 429)
# Seconds after which a notice that was not delivered is given up.
GIVEN_UP_AFTER = 86_400.0
# Seconds for which a worker may hold a notice: several times as long as a post takes.
LEASE = 60.0
# Notices that one run sends at most; the next run, a few seconds later, sends the others.
MOST_IN_A_RUN = 20


def choose_delay(tries: int, status: int | None, retry_after: float | None) -> float:
    """Seconds until the next try, after so many tries. `status`: of HTTP, None without an answer; `retry_after`:
    seconds for which the webhook asked."""
    # A redirect, which is not followed, or such as 401, 404 or 410: the same notice is not taken later either.
    is_refusal = status is not None and 300 <= status < 500 and status not in _PASSING
    # After a refusal a person has to mend its URL or its receiver first; a webhook that is back is told soon.
    first, longest = (300, 3600) if is_refusal else (5, 300)
    delay: int = min(longest, first * 2 ** (tries - 1))
    return max(delay, retry_after or 0.0)


@dataclass(frozen=True, slots=True)
class ClaimedNotice:
    """A notice that this worker alone may send now. `tries`: this one included."""

    id: int
    facts: dict[str, Any]
    tries: int


class Outbox:
    """Claims and settles notices; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        due = select(Notice.id, Notice.facts, Notice.tries)
        due = due.where(text(f"notice.{WAITS}"), Notice.next_try_at <= database.now())
        self._due = due.order_by(Notice.id).limit(1)

    def claim(self) -> ClaimedNotice | None:
        """Claim the oldest notice that is due; None if none is, or others have them."""
        # There is none at nearly every look, so that none has to wait for the database's only writer.
        with self._database.reading() as connection:
            if connection.execute(self._due).one_or_none() is None:
                return None
        with self._database.writing() as connection:
            # Locked, and what another worker has just locked is left out.
            due = connection.execute(self._due.with_for_update(skip_locked=True)).one_or_none()
            if due is None:
                return None
            claim = {"next_try_at": self._database.now(LEASE), "tries": due.tries + 1}
            connection.execute(update(Notice).where(Notice.id == due.id).values(claim))
            return ClaimedNotice(due.id, due.facts, due.tries + 1)

    def settle_delivered(self, claimed: ClaimedNotice) -> None:
        """Write down that the webhook took the notice, whoever has claimed it since."""
        taken = {"delivered_at": self._database.now(), "next_try_at": None, "last_error": None}
        with self._database.writing() as connection:
            mine = update(Notice).where(Notice.id == claimed.id, Notice.delivered_at.is_(None))
            connection.execute(mine.values(taken))

    def settle_failed(self, claimed: ClaimedNotice, error: str, delay: float) -> None:
        """Write down what went wrong, and let the notice wait for so many seconds; or give it up, if it would be too
        old by then. Does nothing where another worker has claimed it meanwhile."""
        next_try_at = self._database.now(delay)
        is_too_old = next_try_at > self._database.later(Notice.created_at, GIVEN_UP_AFTER)
        failed = {
            "next_try_at": case((is_too_old, null()), else_=next_try_at),
            "last_error": escape_line(error)[:LONGEST_ERROR],
        }
        mine = (Notice.id == claimed.id, Notice.tries == claimed.tries, Notice.delivered_at.is_(None))
        with self._database.writing() as connection:
            connection.execute(update(Notice).where(*mine).values(failed))


class Notifier:
    """Does nothing without a webhook. Thread-safe: of several runs at the same time in a process, one works."""

    def __init__(
        self,
        recorder: Recorder,
        outbox: Outbox,
        webhook: Webhook | None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._recorder = recorder
        self._outbox = outbox
        self._webhook = webhook
        self._is_stopping = is_stopping
        self._running = threading.Lock()

    def send_notices(self) -> None:
        """Write down what is new, and send what is due, until one is not taken."""
        if self._webhook is None or not self._running.acquire(blocking=False):
            return
        try:
            self._recorder.record()
            self._deliver(self._webhook)
        finally:
            self._running.release()

    def _deliver(self, webhook: Webhook) -> None:
        """Send notices, until one is not taken: others would not be taken now either."""
        for _ in range(MOST_IN_A_RUN):
            claimed = None if self._is_stopping() else self._outbox.claim()
            if claimed is None:
                return
            reply = webhook.post(claimed.id, claimed.facts)
            if reply.error is not None:
                delay = choose_delay(claimed.tries, reply.status, reply.retry_after)
                self._outbox.settle_failed(claimed, reply.error, delay)
                log.warning(
                    "Notice %d was not delivered (%s). It is sent again; `oathbulk doctor` tells more",
                    claimed.id,
                    reply.error,
                )
                return
            self._outbox.settle_delivered(claimed)


def make_notifier(
    settings: Settings,
    database: Database,
    license_of: LicenseOf,
    is_stopping: Callable[[], bool] = lambda: False,
    *,
    only_batch: int | None = None,
) -> Notifier:
    """Put a notifier together for this process. `only_batch`: the id of the batch on which it works alone."""
    webhook = Webhook(settings.webhook_url, settings.webhook_secret) if settings.webhook_url else None
    return Notifier(Recorder(database, license_of, only_batch=only_batch), Outbox(database), webhook, is_stopping)


_IS_WAITING = Notice.next_try_at.is_not(None)
_IS_GIVEN_UP = Notice.next_try_at.is_(None) & Notice.delivered_at.is_(None)


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """How many notices were delivered, wait, and were given up after 24 hours; what went wrong last, and when the last
    one was delivered. `lost`: those given up that were written since then."""

    delivered: int
    waiting: int
    given_up: int
    lost: int
    last_delivered_at: datetime | None
    last_error: str | None

    @property
    def is_well(self) -> bool:
        """Whether notices are delivered, as far as is known."""
        return not self.lost and self.last_error is None

    def __str__(self) -> str:
        if not self.delivered + self.waiting + self.given_up:
            return "nothing was told yet"
        last = f", the last one at {format_time(self.last_delivered_at)}" if self.last_delivered_at else ""
        parts = [f"{count_things(self.delivered, 'notice')} delivered{last}"]
        if self.waiting:
            parts.append(
                f"{self.waiting} to be sent" + (f" (last error: {self.last_error})" if self.last_error else "")
            )
        if self.given_up:
            parts.append(f"{self.given_up} given up after 24 hours")
        cure = "" if self.is_well else "; see whether the URL is right and its server takes the notices"
        return ", ".join(parts) + cure


def read_deliveries(connection: Connection) -> DeliveryReport:
    """Read how the deliveries went so far."""
    delivered, waiting, given_up, last_delivered_at = connection.execute(
        select(
            func.count(Notice.delivered_at),
            func.count().filter(_IS_WAITING),
            func.count().filter(_IS_GIVEN_UP),
            func.max(Notice.delivered_at),
        )
    ).one()
    lost = select(func.count()).where(_IS_GIVEN_UP)
    if last_delivered_at is not None:
        lost = lost.where(Notice.created_at > last_delivered_at)
    failing = select(Notice.last_error).where(_IS_WAITING, Notice.last_error.is_not(None))
    return DeliveryReport(
        delivered,
        waiting,
        given_up,
        connection.scalar(lost) or 0,
        last_delivered_at,
        connection.scalar(failing.order_by(Notice.id.desc()).limit(1)),
    )


# Seconds for one post.
DEADLINE = 10.0
# Bytes of an answer that are read; nothing is made of it.
LARGEST_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a post. `status`: of HTTP, None without an answer; `error`: what went wrong, in a short line, None
    if the notice was taken; `retry_after`: seconds for which the webhook asked."""

    status: int | None
    error: str | None = None
    retry_after: float | None = None


class Webhook:
    """The URL that is told, and the secret by which the receiver knows us. `clock` reads Unix time."""

    def __init__(
        self,
        url: SecretStr,
        secret: SecretStr | None,
        *,
        deadline: float = DEADLINE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._secret = secret
        self._deadline = deadline
        self._clock = clock

    def post(self, notice_id: int, facts: dict[str, Any]) -> Reply:
        """Post a notice, and say what came of it. A redirect is not followed. Raises nothing that a network, a server
        or a setting may cause."""
        body = json.dumps(facts | {"id": notice_id}, ensure_ascii=False).encode()
        # The server may close the connection once it has answered, so that the next post needs one of its own.
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "oathbulk",
            "Connection": "close",
            "X-Oathbulk-Notice": str(notice_id),
        }
        if self._secret is not None:
            headers["X-Oathbulk-Signature"] = sign(self._secret, int(self._clock()), body)
        request = Request("POST", self._url.get_secret_value(), headers, body)
        try:
            with closing(Transport(request.url, deadline=self._deadline, largest_body=LARGEST_ANSWER)) as transport:
                status, answered, _ = transport.exchange(request)
        except ConfigError:
            return Reply(None, "the proxy or the certificates of this process cannot be used")
        except PingOneError as error:
            # The whole answer did not come, or was too long; its status came, and tells whether the notice was taken.
            is_taken = 200 <= (error.answer.status or 0) < 300
            return Reply(error.answer.status, None if is_taken else type(error).__name__ + _describe(error))
        if 200 <= status < 300:
            return Reply(status)
        return Reply(status, f"HTTP {status}", open_envelope(status, answered, b"").retry_after)


def sign(secret: SecretStr, at: int, body: bytes) -> str:
    """Sign a body that is sent at this Unix time: HMAC-SHA256 over the time, a full stop and the body."""
    key, content = secret.get_secret_value().encode(), f"{at}.".encode() + body
    return f"t={at},v1={hmac.new(key, content, hashlib.sha256).hexdigest()}"


def redact_url(url: SecretStr) -> str:
    """The URL's scheme and host, which may be printed; the rest of it may be a secret."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(url.get_secret_value()))


def _describe(error: PingOneError) -> str:
    """What is known of a failure without an answer: the name of the failure, such as ConnectError."""
    return f" ({error.answer.message.partition(':')[0]})" if error.answer.message else ""
