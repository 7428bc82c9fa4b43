"""When something is due, anywhere in a scenario: so that time can pass over what nobody would notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.batch import BatchState
from models.record_states import Status

if TYPE_CHECKING:
    from hunt.scenario import Scenario


class Agenda:
    """The beat ticks every second. Told are the ticks that may find something to do, and a few others."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._next_tick_at = 0.0

    def tick_soon(self) -> None:
        self._next_tick_at = self._scenario.clock.monotonic() + self._scenario.settings.tuning.tick

    def ticked_in_vain(self) -> None:
        """Until something changes, or is due, the next ticks would find as little."""
        self._next_tick_at = 0.0
        self._next_tick_at = self.next_moment()

    def is_tick_due(self) -> bool:
        if self._scenario.clock.monotonic() < self._next_tick_at:
            return False
        return self.is_any_due() or self._scenario.dice.chance("tick", 0.005)

    def is_any_due(self) -> bool:
        """For a tick."""
        committed, now = self._scenario.step_judge, self._now()
        if any(batch.changes_at is not None and batch.changes_at <= now for batch in committed.batches.values()):
            return True
        for row in committed.rows.values():
            if row.lease_until is not None and row.lease_until < now:
                return True
            is_stopped = committed.batches[row.batch_id].state == BatchState.PAUSED
            is_ready = row.is_prepared or row.needs_read
            if row.status == Status.PENDING and is_ready and row.scheduled_at <= now and not is_stopped:
                return True
        return False

    def is_preparation_due(self) -> bool:
        committed, now = self._scenario.step_judge, self._now()
        for row in committed.rows.values():
            batch = committed.batches[row.batch_id]
            is_free = batch.prepared_until is None or batch.prepared_until <= now
            is_lacking = row.status == Status.PENDING and not row.is_prepared
            if is_lacking and is_free and batch.state == BatchState.RUNNING:
                return True
        return False

    def _now(self) -> str:
        """The database's time, as its columns write it down: what is due in this very millisecond is due."""
        return f"{self._scenario.clock.text()}000"

    def is_finished(self) -> bool:
        return all(row.is_final for row in self._scenario.step_judge.rows.values())

    def next_moment(self) -> float:
        """On the processes' clock; a second from now where nothing is due."""
        scenario = self._scenario
        now, moment_of = scenario.clock.monotonic(), scenario.clock.moment_of
        batches = scenario.step_judge.batches.values()
        rows = [row for row in scenario.step_judge.rows.values() if not row.is_final]
        moments = [self._next_tick_at, scenario.pace.held_until]
        moments += [strand.wakes_at for strand in scenario.strands.alive()]
        moments += [call.acts_at or 0.0 for call in scenario.network.on_their_way]
        moments += [message.arrives_at for message in scenario.broker.messages]
        moments += [moment_of(row.scheduled_at) for row in rows]
        # A lease has run out when its end is past.
        moments += [moment_of(row.lease_until) + 0.001 for row in rows if row.lease_until]
        moments += [moment_of(batch.changes_at) for batch in batches if batch.changes_at]
        moments += [moment_of(batch.prepared_until) for batch in batches if batch.prepared_until]
        return min((moment for moment in moments if moment > now), default=now + 1.0)
