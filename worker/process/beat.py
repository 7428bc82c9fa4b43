"""Beat's scheduler: it ticks by a clock that cannot be set, and sends no ticks while no worker takes them. Celery's own
scheduler goes by the wall clock: if that is set back by an hour, the scheduler sends nothing for an hour."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import crontab
from kombu.exceptions import OperationalError

from worker.clocks import boot_time

log = structlog.get_logger()

# Maximum number of waiting ticks; no more are added, since each does the work of all.
MOST_WAITING = 3
# A wall clock that is more than this behind the last run was set back, not merely corrected.
SET_BACK = timedelta(minutes=1)


class SteadyScheduler(Scheduler):  # type: ignore[misc]
    """Sends tasks with an interval by a steady clock, the first time at once, and tasks with a crontab by the wall
    clock."""

    def __init__(self, *args: Any, clock: Callable[[], float] = boot_time, **options: Any) -> None:
        self._clock = clock
        # By the entry's name: when it is due next, by the steady clock.
        self._due_at: dict[str, float] = {}
        super().__init__(*args, **options)

    def tick(self) -> float:
        """Send the tasks that are due. Returns the seconds until the next one is due."""
        for entry in list(self.schedule.values()):
            if isinstance(entry.schedule, crontab):
                self._send_by_wall_clock(entry)
            else:
                self._send_by_steady_clock(entry)
        return min([float(self.max_interval), *(self._wait(entry) for entry in self.schedule.values())])

    def _send_by_steady_clock(self, entry: ScheduleEntry) -> None:
        now = self._clock()
        due_at = self._due_at.get(entry.name, now)
        if now < due_at:
            return
        interval = entry.schedule.run_every.total_seconds()
        # Runs that were missed while the machine slept or the broker was away are skipped.
        self._due_at[entry.name] = due_at + interval if now < due_at + interval else now + interval
        if self._is_taken(entry):
            self._send(entry)

    def _send_by_wall_clock(self, entry: ScheduleEntry) -> None:
        if entry.last_run_at - entry.default_now() > SET_BACK:
            # Otherwise the entry would wait until the clock shows the earlier time again.
            entry.last_run_at = entry.default_now()
        if self.is_due(entry)[0]:
            self._send(entry)

    def _send(self, entry: ScheduleEntry) -> None:
        self.reserve(entry)
        # Logs a failure, and continues.
        self.apply_entry(entry, producer=self.producer)

    def _wait(self, entry: ScheduleEntry) -> float:
        if isinstance(entry.schedule, crontab):
            return float(self.is_due(entry)[1])
        return max(self._due_at[entry.name] - self._clock(), 0.0)

    def _is_taken(self, entry: ScheduleEntry) -> bool:
        """Whether workers take the ticks that are sent: without this check, an hour without workers would fill Redis
        with ticks. Also False if the broker is out of reach, since it would not accept a tick either."""
        queue = self.app.amqp.router.route(entry.options, entry.task)["queue"].name
        # This waits for a broker forever.
        connection = self.producer.connection
        try:
            return int(connection.default_channel.client.llen(queue)) < MOST_WAITING
        except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
            log.error("broker_out_of_reach", error=str(error), cure="none needed once it is back: beat keeps trying")
            return False
