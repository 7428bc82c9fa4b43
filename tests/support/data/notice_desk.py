"""What tells people, and a webhook that notes what it gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, select
from support.data.moving_clock import MovingDatabase

from models.notice import Notice
from worker.notices import Notifier, Outbox, Recorder, Reply
from worker.reports.facts import take_environment_for_license

TAKEN = Reply(204)


@dataclass
class RecordingWebhook:
    """Notes each notice by its id and its facts. `answer` makes the next reply, and may do anything meanwhile."""

    posted: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    answer: Callable[[], Reply] = lambda: TAKEN

    @property
    def events(self) -> list[str]:
        return [facts["event"] for _, facts in self.posted]

    @property
    def ids(self) -> list[int]:
        return [notice_id for notice_id, _ in self.posted]

    def post(self, notice_id: int, facts: dict[str, Any]) -> Reply:
        self.posted.append((notice_id, facts))
        return self.answer()


@dataclass
class NoticeDesk:
    """A database, a webhook, and the notifiers of as many processes as a test makes."""

    database: MovingDatabase
    webhook: RecordingWebhook = field(default_factory=RecordingWebhook)

    def make_notifier(self, webhook: Any = None) -> Notifier:
        """The notifier of a process that has just begun, so that it looks at once."""
        return Notifier(self.make_recorder(), Outbox(self.database), webhook or self.webhook)

    def make_recorder(self) -> Recorder:
        return Recorder(self.database, take_environment_for_license)

    def run(self) -> list[str]:
        """What the webhook is told by one run."""
        before = len(self.webhook.posted)
        self.make_notifier().send_notices()
        return self.webhook.events[before:]

    def notices(self) -> Sequence[Row[Any]]:
        with self.database.reading() as connection:
            return connection.execute(select(Notice.__table__).order_by(Notice.id)).all()
