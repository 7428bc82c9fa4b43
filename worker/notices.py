"""Notifies people, by a webhook, when a batch finishes, pauses, stalls or resumes.

The state of each batch is compared with the last notice about it, so it does not matter where a worker was killed. A
notice is recorded with its batch before it is posted. So only one of several workers posts it, and if that worker is
killed, the notice is lost rather than sent twice.

A notice contains only our own words, names that people gave, and counts. Answers from PingOne or a machine may name a
user or a token, so a batch's `detail` is left out."""

import hmac
import json
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from enum import StrEnum
from shlex import quote
from typing import Any

import tenacity
from pydantic import SecretStr
from sqlalchemy import Connection, Row, func, or_, select, update

from models.batch import Batch, BatchState
from models.reason import PASSING, PAUSE_CURES, PauseReason
from worker.batches.commands import LicenseOf
from worker.config.settings import ConfigError, Settings
from worker.database.engine import Database
from worker.observability.wording import agree
from worker.pingone.errors import PingOneError
from worker.pingone.transport import Transport
from worker.pingone.wire import Request
from worker.reports.facts import BatchStatus, count_active, describe_rows, read_in
from worker.rules.hours import format_time

# A batch that has had no notice, and finished longer ago than this, is not news: a webhook that was set today does not
# get last year's batches.
NEWS_FOR = timedelta(hours=24)
# Number of tries to post a notice, with 2, 4 and 8 seconds between them.
_TRIES = 4
_BETWEEN_TRIES = tenacity.wait_exponential(multiplier=2)
# Seconds for one post.
DEADLINE = 10.0
# Maximum bytes of an answer that are read; the content is ignored.
LARGEST_ANSWER = 64 * 1024

# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)


class Event(StrEnum):
    """What happened to a batch."""

    # All of its records are final.
    FINISHED = "finished"
    # It is paused until someone resumes it.
    PAUSED = "paused"
    # It is paused for an outage, a quota or its hours, and continues by itself.
    PAUSED_FOR_NOW = "paused_for_now"
    # It continues after a pause or a stall, or some of its records run again after it was finished.
    RESUMED = "resumed"
    # Due work is stalled, as `oathbulk status` reports.
    STALLED = "stalled"


def find_event(status: BatchStatus, batch: Row[*tuple[Any, ...]]) -> Event | None:
    """Find the event to notify people of; None if there is no news. `batch`, a row of _MAY_BE_NEWS, says when it was
    loaded or last began to run again, and what the last notice was."""
    event = _find_present(status)
    if event is None:
        return None
    if batch.notice is None:
        is_old = event == Event.FINISHED and status.read_at - _find_end(status) >= NEWS_FOR
        return None if is_old or event == Event.RESUMED else event
    # After the notice that it finished, a batch may have been replayed and finished again before anybody looked.
    is_again = event == Event.FINISHED and min(batch.running_since, _find_end(status)) > batch.notice_at
    return event if is_again or batch.notice != name_notice(event, status) else None


def _find_present(status: BatchStatus) -> Event | None:
    """Find the event that fits the batch's present status; None if it calls for no notice."""
    match status.state:
        case "finished":
            return Event.FINISHED
        case BatchState.PAUSED:
            return Event.PAUSED_FOR_NOW if status.reason in PASSING else Event.PAUSED
        case BatchState.RUNNING if not status.outage:
            return Event.STALLED if status.stall else Event.RESUMED
    # A person has just cancelled it; or it only probes whether an outage is over.
    return None


def name_notice(event: Event, status: BatchStatus) -> str:
    """Name a notice; a pause for another reason is a new notice."""
    return f"{event} {status.reason}" if status.state == BatchState.PAUSED else str(event)


def _find_end(status: BatchStatus) -> datetime:
    """Find when a finished batch ended; a batch without records ended when it was loaded."""
    return status.finished_at or status.created_at


# Chat tools interpret commands such as <!channel> in a text; these characters look alike and do nothing.
_NO_MARKUP = str.maketrans({"<": "‹", ">": "›", "&": "+"})
# How the text begins, after the batch's name. The cause of a stall is one word, since a machine's answer may name a
# user.
_BEGINNINGS = {
    Event.FINISHED: "is finished",
    Event.PAUSED: "is paused until someone resumes it",
    Event.PAUSED_FOR_NOW: "is paused temporarily",
    Event.RESUMED: "continues",
    Event.STALLED: "is stalled",
}


def describe(event: Event, status: BatchStatus) -> dict[str, Any]:
    """Build the facts that the webhook gets; `text` is the line that a chat tool shows unchanged."""
    reason, cure = _find_reason(event, status)
    resumes_at = status.resumes_at if event == Event.PAUSED_FOR_NOW else None
    until = f" until {format_time(resumes_at)}" if resumes_at else ""
    why = f" ({reason})" if reason else ""
    rows = "; ".join(filter(None, (count_active(status), describe_rows(status))))
    text = f"{status.name} {_BEGINNINGS[event]}{until}{why}: {rows}."
    look = f"Next: oathbulk status {quote(status.name)}" if status.active < status.rows else ""
    return {
        "text": " ".join(filter(None, (text, cure, look))).translate(_NO_MARKUP),
        "event": event,
        "batch": status.name,
        "environment": status.environment,
        "total": status.total,
        **status.rows_to_json(),
        "counts": status.counts,
        "reason": reason,
        "cure": cure,
        "resumes_at": resumes_at and resumes_at.isoformat(),
        "occurred_at": (_find_end(status) if event == Event.FINISHED else status.read_at).isoformat(),
        # The same for each try, so that a receiver recognizes a repeated notice.
        "id": uuid.uuid4().hex,
    }


def _find_reason(event: Event, status: BatchStatus) -> tuple[str | None, str | None]:
    """Find why the batch does not continue, in one word, and what to do about it."""
    if event == Event.STALLED and status.stall:
        return status.stall.cause, status.stall.cure.replace("BATCH", quote(status.name))
    if status.state != BatchState.PAUSED or status.reason is None:
        return None, None
    reason = PauseReason(status.reason)
    cure = PAUSE_CURES[reason]
    # If the batch paused for an unusual cause, the detail has another cure. It may name people, so it is not sent.
    is_usual = reason in (PauseReason.PERSON, *PASSING) or cure in (status.detail or cure)
    return reason, cure if is_usual else "Its status shows the cause and the cure."


class NotTaken(Exception):
    """The webhook did not accept a notice; the message says why in a few words, and names neither the URL nor the
    answer."""


class Webhook:
    """The URL that gets notices, and the secret by which the receiver recognizes us."""

    def __init__(self, url: SecretStr, secret: SecretStr | None, *, deadline: float = DEADLINE) -> None:
        self._url = url
        self._secret = secret
        self._deadline = deadline

    def post(self, facts: dict[str, Any]) -> None:
        """Post a notice. A redirect is not followed. Raises NotTaken."""
        body = json.dumps(facts, ensure_ascii=False).encode()
        # The server may close the connection after its answer, so the next post needs its own connection.
        headers = {"Content-Type": "application/json", "User-Agent": "oathbulk", "Connection": "close"}
        if self._secret is not None:
            mac = hmac.digest(self._secret.get_secret_value().encode(), body, "sha256")
            headers["X-Oathbulk-Signature"] = f"sha256={mac.hex()}"
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


def make_webhook(settings: Settings) -> Webhook | None:
    """Make the webhook from the settings; None if none is set."""
    return Webhook(settings.webhook_url, settings.webhook_secret) if settings.webhook_url else None


# A batch whose last notice says that it finished, and that has not run since, is not news, so it is not read.
_MAY_BE_NEWS = select(Batch.id, Batch.name, Batch.running_since, Batch.notice, Batch.notice_at).where(
    Batch.state != BatchState.CANCELLED,
    or_(Batch.notice.is_(None), Batch.notice != Event.FINISHED, Batch.running_since > Batch.notice_at),
)


class Notifier:
    """Notifies the webhook of news; does nothing without a webhook. Thread-safe. `only_batch`: the id of the only batch
    to send notices about, since this process does no work on others; None: all batches."""

    def __init__(
        self,
        database: Database,
        license_of: LicenseOf,
        webhook: Webhook | None,
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
        """Send notices about everything new."""
        if self._webhook is None:
            return
        with self._database.reading_snapshot() as connection:
            batches = {batch.name: batch for batch in connection.execute(self._may_be_news)}
            statuses = read_in(self._database, connection, self._license_of, Batch.name.in_(batches)) if batches else []
        for status in reversed(statuses):
            batch = batches[status.name]
            event = find_event(status, batch)
            if event and self._take_down(batch, name_notice(event, status)):
                self._post(self._webhook, batch.id, describe(event, status))

    def _take_down(self, batch: Row[*tuple[Any, ...]], notice: str) -> bool:
        """Record the notice that is about to be sent; False if another worker was first."""
        unchanged = Batch.notice_at.is_not_distinct_from(batch.notice_at)
        values = {"notice": notice, "notice_at": self._database.now(), "notice_error": None}
        with self._database.writing() as connection:
            changed = connection.execute(update(Batch).where(Batch.id == batch.id, unchanged).values(values))
        return changed.rowcount == 1

    def _post(self, webhook: Webhook, batch_id: int, facts: dict[str, Any]) -> None:
        """Post a notice, with a few tries; the result is in the log and in the row of the batch."""
        try:
            self._tries(webhook.post, facts)
        except NotTaken as error:
            log.warning("The webhook did not accept a notice, so the notice is lost: %s (%s)", facts["text"], error)
            with self._database.writing() as connection:
                connection.execute(update(Batch).where(Batch.id == batch_id).values(notice_error=str(error)))
        else:
            log.info("The webhook accepted a notice: %s", facts["text"])


def explain_losses(connection: Connection) -> str | None:
    """Name the batches whose last notice the webhook did not accept; None if it accepted all."""
    lost, error = connection.execute(select(func.count(Batch.notice_error), func.max(Batch.notice_error))).one()
    batches = agree(lost, "batch", "batches")
    return f"the webhook did not accept the latest notice about {lost} {batches} ({error})" if lost else None
