"""Tells people what became of their batches: finds what is new, writes it down, and sends what waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from worker.batches.commands import LicenseOf
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.notices.deliveries import ClaimedNotice, Deliveries, choose_delay
from worker.notices.recording import Recorder, StallWatch
from worker.notices.webhook import Reply, Webhook

# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)

# Notices that one run sends at most; the next run, a few seconds later, sends the others.
MOST_IN_A_RUN = 20


class Posts(Protocol):
    """Where notices are posted."""

    def post(self, notice_id: int, facts: dict[str, object]) -> Reply:
        """Post a notice, and say what came of it."""
        ...


class Notifier:
    """Does nothing without a webhook. Thread-safe: of several runs at the same time in a process, one works."""

    def __init__(
        self,
        recorder: Recorder,
        stalls: StallWatch,
        deliveries: Deliveries,
        webhook: Posts | None,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._recorder = recorder
        self._stalls = stalls
        self._deliveries = deliveries
        self._webhook = webhook
        self._is_stopping = is_stopping
        self._running = threading.Lock()

    def run(self) -> None:
        """Write down what is new, and send what is due, until one is not taken."""
        if self._webhook is None or not self._running.acquire(blocking=False):
            return
        try:
            self._recorder.record(self._stalls.find())
            self._deliver(self._webhook)
        finally:
            self._running.release()

    def _deliver(self, webhook: Posts) -> None:
        for _ in range(MOST_IN_A_RUN):
            if self._is_stopping() or not self._deliveries.has_due():
                return
            claimed = self._deliveries.claim()
            if claimed is None or not self._send(webhook, claimed):
                return

    def _send(self, webhook: Posts, claimed: ClaimedNotice) -> bool:
        """Post a notice and settle it. False if it was not taken: others would not be taken now either."""
        reply = webhook.post(claimed.id, claimed.facts)
        if reply.error is None:
            self._deliveries.settle_delivered(claimed)
            return True
        delay = choose_delay(claimed.tries, reply.status, reply.retry_after)
        self._deliveries.settle_failed(claimed, reply.error, delay)
        log.warning(
            "Notice %d was not delivered (%s). It is sent again; `oathbulk doctor` tells more", claimed.id, reply.error
        )
        return False


def make_webhook(settings: Settings) -> Webhook | None:
    """Make the webhook that the settings name; None if they name none."""
    return Webhook(settings.webhook_url, settings.webhook_secret) if settings.webhook_url else None


def make_notifier(
    settings: Settings,
    database: Database,
    license_of: LicenseOf,
    is_stopping: Callable[[], bool] = lambda: False,
    *,
    only_batch: int | None = None,
) -> Notifier:
    """Put a notifier together for this process. `only_batch`: the id of the batch on which it works alone."""
    return Notifier(
        Recorder(database),
        StallWatch(database, license_of, only_batch=only_batch),
        Deliveries(database),
        make_webhook(settings),
        is_stopping=is_stopping,
    )
