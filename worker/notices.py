"""Tells people, by a webhook, when a batch finishes, pauses, stalls or goes on.

How the batches stand is compared with what was told last, so it does not matter where a worker was killed. The batch
takes the notice down before it is posted: of several workers one posts it, and a killed one's notice is lost rather
than told twice.

Only words of ours, the names that people gave, and counts are told. What PingOne or a machine answered may name a user
or a token, so a batch's `detail` is left out."""

import hashlib
import hmac
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

import tenacity
from pydantic import SecretStr
from sqlalchemy import Connection, func, or_, select, update

from models.batch import Batch, BatchState
from models.reason import PASSING, PAUSE_CURES, PauseReason
from worker.batches.commands import LicenseOf
from worker.config.settings import ConfigError, Settings
from worker.database.engine import Database
from worker.observability.wording import agree
from worker.pingone.errors import PingOneError
from worker.pingone.transport import Transport
from worker.pingone.wire import Request
from worker.reports.facts import BatchStatus, count_active, read_in
from worker.reports.stall import Cause, Stall
from worker.rules.hours import format_time

# A batch of which nothing was told yet, and that was finished for longer than this, is no news: a webhook that was set
# today is not told of last year's batches.
NEWS_FOR = timedelta(hours=24)
# A post is tried so often, with 2, 4 and 8 seconds between the tries.
_TRIES = 4
_BETWEEN_TRIES = tenacity.wait_exponential(multiplier=2)
# Seconds for one post.
DEADLINE = 10.0
# Bytes of an answer that are read; nothing is made of it.
LARGEST_ANSWER = 64 * 1024

# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)


class Event(StrEnum):
    """What happened to a batch."""

    # All of its records are final.
    FINISHED = "finished"
    # It is paused until a person resumes it.
    PAUSED = "paused"
    # It is paused for an outage, a quota or its hours, and goes on by itself.
    PAUSED_FOR_NOW = "paused_for_now"
    # It goes on after a pause or a stall, or records of it go again after it was finished.
    RESUMED = "resumed"
    # Due work does not move, as `oathbulk status` says it.
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class LastNotice:
    """What was told last of a batch, as in `paused credentials`, and when."""

    notice: str
    at: datetime

    @property
    def event(self) -> str:
        """The event, without the reason of a pause."""
        return self.notice.partition(" ")[0]


def find_event(status: BatchStatus, running_since: datetime, last: LastNotice | None) -> Event | None:
    """Find what people are to be told now; None: nothing that they do not know. `running_since`: when the batch was
    loaded, or last began to run again. A cancelled batch is not told of, for a person has just cancelled it."""
    if status.state == BatchState.CANCELLED:
        return None
    if status.state == "finished":
        return Event.FINISHED if _is_new_end(status, running_since, last) else None
    if status.state == BatchState.PAUSED:
        event = Event.PAUSED_FOR_NOW if status.reason in PASSING else Event.PAUSED
        return None if last and last.notice == name_notice(event, status) else event
    # A batch that only tries whether an outage is over has not gone on before PingOne answers.
    if status.outage:
        return None
    if status.stall:
        return None if last and last.event == Event.STALLED else Event.STALLED
    return None if last is None or last.event == Event.RESUMED else Event.RESUMED


def name_notice(event: Event, status: BatchStatus) -> str:
    """Name what is told: another reason of a pause is news."""
    return f"{event} {status.reason}" if status.state == BatchState.PAUSED else str(event)


def _is_new_end(status: BatchStatus, running_since: datetime, last: LastNotice | None) -> bool:
    """Whether the batch's end was not told yet. A batch that was told to be finished may have been replayed and
    finished again before anybody looked."""
    finished_at = _find_end(status)
    if last is None:
        return status.read_at - finished_at < NEWS_FOR
    return last.event != Event.FINISHED or min(running_since, finished_at) > last.at


def _find_end(status: BatchStatus) -> datetime:
    """When a finished batch ended; a batch without a record did so when it was loaded."""
    return status.finished_at or status.created_at


# Chat tools read commands such as <!channel> in a text; these look alike and are none.
_NO_MARKUP = str.maketrans({"<": "‹", ">": "›", "&": "+"})
# What keeps work from moving, where `status` would quote what a machine answered.
_STALLS = {
    Cause.HOLD: "All workers hold.",
    Cause.BROKER: "The broker cannot be used.",
    Cause.SICK: "No worker is well.",
}


def describe(event: Event, status: BatchStatus, occurred_at: datetime, stall: Stall | None = None) -> dict[str, Any]:
    """Say all that the webhook is told. `stall`: why the work of the batch does not move."""
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
        # The same for each try, since an answer may get lost.
        "id": uuid.uuid4().hex,
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


# What was told to be finished, and has not run since, is no news, and is not looked at.
_MAY_BE_NEWS = select(Batch.id, Batch.name, Batch.running_since, Batch.notice, Batch.notice_at).where(
    Batch.state != BatchState.CANCELLED,
    or_(Batch.notice.is_(None), Batch.notice != Event.FINISHED, Batch.running_since > Batch.notice_at),
)


class Notifier:
    """Tells the webhook what is new; does nothing without one. Thread-safe. `only_batch`: the id of the one batch that
    is told of, since nobody asked for work on others here; None: all are."""

    def __init__(
        self,
        database: Database,
        license_of: LicenseOf,
        webhook: "Webhook | None",
        is_stopping: Callable[[], bool] = lambda: False,
        *,
        only_batch: int | None = None,
    ) -> None:
        self._database = database
        self._license_of = license_of
        self._webhook = webhook
        self._may_be_news = _MAY_BE_NEWS if only_batch is None else _MAY_BE_NEWS.where(Batch.id == only_batch)
        self._tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(NotTaken),
            stop=lambda state: state.attempt_number >= _TRIES or is_stopping(),
            wait=_BETWEEN_TRIES,
            sleep=lambda seconds: time.sleep(seconds),
            reraise=True,
        )

    def send_notices(self) -> None:
        """Tell what is new."""
        if self._webhook is None:
            return
        with self._database.reading_snapshot() as connection:
            news = list(self._find_news(connection))
        for batch_id, last, notice, facts in news:
            if self._take_down(batch_id, last, notice):
                self._post(self._webhook, batch_id, facts)

    def _find_news(self, connection: Connection) -> Iterator[tuple[int, LastNotice | None, str, dict[str, Any]]]:
        """Find what is new, the earliest batch first: its id, what was told before, what is told now, with the
        facts."""
        batches = {batch.name: batch for batch in connection.execute(self._may_be_news)}
        statuses = read_in(self._database, connection, self._license_of, Batch.name.in_(batches)) if batches else []
        for status in reversed(statuses):
            batch = batches[status.name]
            last = LastNotice(batch.notice, batch.notice_at) if batch.notice else None
            if event := find_event(status, batch.running_since, last):
                at = _find_end(status) if event == Event.FINISHED else status.read_at
                yield batch.id, last, name_notice(event, status), describe(event, status, at, status.stall)

    def _take_down(self, batch_id: int, last: LastNotice | None, notice: str) -> bool:
        """Write down what is about to be told; False where another worker was first."""
        unchanged = Batch.notice_at.is_not_distinct_from(last and last.at)
        values = {"notice": notice, "notice_at": self._database.now(), "notice_error": None}
        with self._database.writing() as connection:
            changed = connection.execute(update(Batch).where(Batch.id == batch_id, unchanged).values(values))
        return changed.rowcount == 1

    def _post(self, webhook: "Webhook", batch_id: int, facts: dict[str, Any]) -> None:
        """Post a notice, a few times if it is not taken; what became of it stands in the log and with the batch."""
        try:
            self._tries(webhook.post, facts)
        except NotTaken as error:
            log.warning("The webhook did not take a notice, which is lost: %s (%s)", facts["text"], error)
            with self._database.writing() as connection:
                connection.execute(update(Batch).where(Batch.id == batch_id).values(notice_error=str(error)))
        else:
            log.info("The webhook took a notice: %s", facts["text"])


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
    return Notifier(database, license_of, webhook, is_stopping, only_batch=only_batch)


class NotTaken(Exception):
    """The webhook did not take a notice; the message says why in a few words, and names neither URL nor answer."""


class Webhook:
    """The URL that is told, and the secret by which the receiver knows us."""

    def __init__(self, url: SecretStr, secret: SecretStr | None, *, deadline: float = DEADLINE) -> None:
        self._url = url
        self._secret = secret
        self._deadline = deadline

    def post(self, facts: dict[str, Any]) -> None:
        """Post a notice. A redirect is not followed. Raises NotTaken."""
        body = json.dumps(facts, ensure_ascii=False).encode()
        # The server may close the connection once it has answered, so that the next post needs one of its own.
        headers = {"Content-Type": "application/json", "User-Agent": "oathbulk", "Connection": "close"}
        if self._secret is not None:
            headers["X-Oathbulk-Signature"] = sign(self._secret, body)
        request = Request("POST", self._url.get_secret_value(), headers, body)
        try:
            with closing(Transport(request.url, deadline=self._deadline, largest_body=LARGEST_ANSWER)) as transport:
                status, _, _ = transport.exchange(request)
        except ConfigError as error:
            raise NotTaken("the proxy or the certificates of this process cannot be used") from error
        except PingOneError as error:
            raise NotTaken(type(error).__name__) from error
        if not 200 <= status < 300:
            raise NotTaken(f"HTTP {status}")


def sign(secret: SecretStr, body: bytes) -> str:
    """Sign a body: HMAC-SHA256 under the secret, in hexadecimal, behind the name of the hash."""
    return f"sha256={hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()}"


def redact_url(url: SecretStr) -> str:
    """The URL's scheme and host, which may be printed; the rest of it may be a secret."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(url.get_secret_value()))


def explain_deliveries(connection: Connection) -> tuple[str, bool]:
    """Say whether the last notice of each batch was delivered; and whether all were."""
    counts = select(func.count(Batch.notice_at), func.count(Batch.notice_error), func.max(Batch.notice_error))
    batches, failed, error = connection.execute(counts).one()
    if not batches:
        return "nothing was told yet", True
    if not failed:
        return f"the last notice of {batches} {agree(batches, 'batch', 'batches')} was taken", True
    return (
        f"the last notice of {failed} of {batches} {agree(batches, 'batch', 'batches')} was not taken ({error})",
        False,
    )
