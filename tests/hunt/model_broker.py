"""The queue: messages wait here, and are lost, doubled, delayed, reordered and wiped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from hunt.clock import Clock
from hunt.dice import Dice
from hunt.strands import Strands


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
