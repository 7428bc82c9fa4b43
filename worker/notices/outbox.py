"""The outbox of notices: tells people what became of their batches.

A worker claims a notice and commits, posts it outside of any transaction, and settles. One that is killed in between
does not come back; when its lease has run out, another sends the same notice again, with the same id."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, null, select, text, update
from tenacity import RetryCallState, Retrying, wait_exponential

from models.notice import LONGEST_ERROR, WAITS, Notice
from worker.batches.commands import LicenseOf
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.notices.recording import Recorder
from worker.notices.webhook import Webhook
from worker.observability.counting import count_things
from worker.observability.escaping import escape_line
from worker.rules.hours import format_time

# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)

# Seconds until the next try where the webhook could not be reached, or failed; not longer, so that one that is back is
# told soon.
_PASSES = wait_exponential(multiplier=5.0, max=300.0, exp_base=2.0)
# Seconds until the next try where the webhook refuses the notice: a person has to mend its URL or its receiver first.
_REFUSES = wait_exponential(multiplier=300.0, max=3600.0, exp_base=2.0)
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
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = tries
    return max((_REFUSES if is_refusal(status) else _PASSES)(state), retry_after or 0.0)


def is_refusal(status: int | None) -> bool:
    """Whether this status says that the same notice is not taken later either: a redirect, which is not followed, or
    a refusal such as 401, 404 or 410."""
    return status is not None and 300 <= status < 500 and status not in _PASSING


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

    def run(self) -> None:
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
                why = "Notice %d was not delivered (%s). It is sent again; `oathbulk doctor` tells more"
                log.warning(why, claimed.id, reply.error)
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
