"""What stands in Redis: the queue, whose messages are lost, doubled, delayed, reordered and wiped; and the fleet's
pace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from hunt.schedule import Clock, Dice, Strands
from worker.pace.redis_state import Reading
from worker.pace.search import SlotTooFar
from worker.pace.slots import Slot

# Seconds for which a slot that nobody used is still good.
SPARE_KEPT = 0.1


@dataclass(frozen=True)
class Message:
    record_id: int
    environment: str
    arrives_at: float


class ModelBroker:
    """Keeps worker.dispatch's Broker interface. `published` is told of every id that is about to go out."""

    def __init__(self, clock: Clock, strands: Strands, dice: Dice, published: Callable[[object, object], None]) -> None:
        self._clock = clock
        self._strands = strands
        self._dice = dice
        self._published = published
        self.messages: list[Message] = []
        # Set by a wipe.
        self.is_empty = True

    def is_new(self) -> bool:
        self._may_be_out_of_reach()
        was_empty, self.is_empty = self.is_empty, False
        self._strands.switch()
        return was_empty

    def count_waiting(self) -> int:
        self._may_be_out_of_reach()
        return len(self.messages)

    def publish(self, ids: Sequence[int], environment: str, *, is_ahead: bool = False, labels: object = None) -> None:
        for record_id in ids:
            self._published(record_id, environment)
            self._may_be_out_of_reach()
            self._put(record_id, environment)
            self._strands.switch()
        self._may_be_out_of_reach()

    def put_back(self, message: Message) -> None:
        """Its worker died before it was done with it."""
        self._put(message.record_id, message.environment)

    def has_message(self) -> bool:
        now = self._clock.monotonic()
        return any(message.arrives_at <= now for message in self.messages)

    def take(self) -> Message:
        now = self._clock.monotonic()
        there = [message for message in self.messages if message.arrives_at <= now]
        message = self._dice.pick("message", there) if self._dice.happens("reordered", 0.5) else there[0]
        self.messages.remove(message)
        return message

    def _put(self, record_id: int, environment: str) -> None:
        if self._dice.happens("message_lost", 0.06):
            return
        copies = 2 if self._dice.happens("message_doubled", 0.1) else 1
        for _ in range(copies):
            delay = self._dice.between("delay", 0.0, 90.0) if self._dice.happens("message_delayed", 0.1) else 0.0
            self.messages.append(Message(record_id, environment, self._clock.monotonic() + delay))

    def _may_be_out_of_reach(self) -> None:
        if self._dice.happens("broker_out_of_reach", 0.03):
            raise redis.ConnectionError("out of reach")


class ModelPace:
    """What worker.pace.slots.Pace promises: slots an interval apart, none in a hold, none beyond `furthest`."""

    license = "license"
    # Seconds.
    longest_hold = 120.0

    def __init__(self, clock: Clock, strands: Strands, dice: Dice, rate: float, furthest: float) -> None:
        self.rate = rate
        self._clock = clock
        self._strands = strands
        self._dice = dice
        self._furthest = furthest
        self._next_at = self.held_until = 0.0
        self._spare: Slot | None = None

    def wait(self) -> Slot:
        self._strands.switch()
        if self._dice.happens("redis_out_of_reach", 0.02):
            raise SlotTooFar(self._furthest * 2)
        now = self._clock.monotonic()
        spare, self._spare = self._spare, None
        if spare is not None and now - spare.due <= SPARE_KEPT and self.held_until <= spare.due:
            return spare
        slot = max(now, self._next_at, self.held_until)
        if slot - now > self._furthest:
            raise SlotTooFar(slot - now)
        self._next_at = slot + 1 / self.rate
        self._strands.sleep_until(slot)
        return Slot(round(slot * 1e6), self.rate, slot)

    def give_back(self, slot: Slot) -> None:
        self._spare = slot

    def wait_to_leave(self, slot: Slot) -> None:
        """Here nothing bunches."""

    def report_answer(self, slot: Slot) -> None:
        """The rate stays as it is."""

    def report_refusal(self, slot: Slot, seconds: float, why: str = "") -> None:
        self.hold(seconds, why)

    def report_undelivered(self, seconds: float, why: str) -> None:
        """All processes reach PingOne over one network here."""
        self.hold(seconds, why)

    def hold(self, seconds: float, why: str = "") -> None:
        if seconds > 0:
            until = self._clock.monotonic() + min(seconds, self.longest_hold)
            self.held_until = max(self.held_until, until)

    def read_hold_left(self) -> float:
        if self._dice.happens("redis_out_of_reach", 0.02):
            raise redis.ConnectionError("out of reach")
        return max(0.0, self.held_until - self._clock.monotonic())

    def read(self) -> Reading:
        """Nobody looks for the limit here, so nothing is found that would be kept."""
        now = self._clock.monotonic()
        return Reading(None, version=0, answers=0, last=now, now=now, held_until=self.held_until, next_slot=now)

    def forget(self) -> None:
        self._next_at = self.held_until = 0.0
