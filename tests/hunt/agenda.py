"""When something is due, anywhere in a world: so that time can pass over what nobody would notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.batch import BatchState
from models.record import Status

if TYPE_CHECKING:
    from hunt.scenario import World


class Agenda:
    """The beat ticks every second. Told are the ticks that may find something to do, and a few others."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._next_tick_at = 0.0

    def tick_soon(self) -> None:
        self._next_tick_at = self._world.clock.monotonic() + self._world.settings.tick

    def ticked_in_vain(self) -> None:
        """Until something changes, or is due, the next ticks would find as little."""
        self._next_tick_at = 0.0
        self._next_tick_at = self.next_moment()

    def is_tick_due(self) -> bool:
        if self._world.clock.monotonic() < self._next_tick_at:
            return False
        return self.is_any_due() or self._world.dice.chance("tick", 0.005)

    def is_any_due(self) -> bool:
        """For a tick."""
        books, now = self._world.ledger, self._world.clock.text()
        if any(batch.changes_at is not None and batch.changes_at <= now for batch in books.batches.values()):
            return True
        for row in books.rows.values():
            if row.lease_until is not None and row.lease_until < now:
                return True
            is_stopped = books.batches[row.batch_id].state == BatchState.PAUSED
            if row.status == Status.PENDING and row.scheduled_at <= now and not is_stopped:
                return True
        return False

    def is_finished(self) -> bool:
        return all(row.is_final for row in self._world.ledger.rows.values())

    def next_moment(self) -> float:
        """On the processes' clock; a second from now where nothing is due."""
        world = self._world
        now, moment_of = world.clock.monotonic(), world.clock.moment_of
        rows = [row for row in world.ledger.rows.values() if not row.is_final]
        moments = [self._next_tick_at, world.pace.held_until]
        moments += [strand.wakes_at for strand in world.strands.alive()]
        moments += [call.acts_at or 0.0 for call in world.network.on_their_way]
        moments += [message.arrives_at for message in world.broker.messages]
        moments += [moment_of(row.scheduled_at) for row in rows]
        # A lease has run out when its end is past.
        moments += [moment_of(row.lease_until) + 0.001 for row in rows if row.lease_until]
        moments += [moment_of(batch.changes_at) for batch in world.ledger.batches.values() if batch.changes_at]
        return min((moment for moment in moments if moment > now), default=now + 1.0)
