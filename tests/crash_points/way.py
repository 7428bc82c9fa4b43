"""A way of a record: the steps that a worker takes on it, and what a death at each of them may cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from support.data.shipments import OtpType

from crash_points.stage import Stage
from worker.simulator.shipment import Kind

POSTGRESQL, SQLITE = "postgresql", "sqlite"
BOTH = (POSTGRESQL, SQLITE)

End = tuple[str, str | None]
ACTIVE: End = ("active", None)
CANCELLED: End = ("cancelled", None)


def dead(reason: str) -> End:
    return ("dead_letter", reason)


@dataclass(frozen=True)
class Stretch:
    """Steps at which a death costs the same: OTP posts that PingOne gets in all, and how the record ends; where they
    are not named, as if nobody had died. `is_unclear`: the record calls a device ours that somebody else made at the
    same time, since its own request to pair may have made it. `is_tried`: somebody dies at each of these;
    False: nobody does, since another way goes through them in the same state."""

    steps: tuple[str, ...]
    posts: int | None = None
    end: End | None = None
    is_unclear: bool = False
    is_tried: bool = True


def known(steps: tuple[str, ...]) -> Stretch:
    """Steps at which nobody dies, since another way goes through them in the same state."""
    return Stretch(steps, is_tried=False)


@dataclass(frozen=True)
class Way:
    """What a worker does with a record that brings a pair, or a seed of this type.

    `posts` and `end` are of a record with which nobody died. `prepare` brings every record to where a worker gets
    its message; `mend` ends what stood in the way, before others do the rest. At the end of one that `pauses` its batch
    is paused, so that each record has a batch of its own. `lacks_device`: the record brings none, and its device is
    made. `simulated` are settings of the simulator. `databases`: those on which it is tried."""

    stretches: tuple[Stretch, ...]
    databases: tuple[str, ...]
    kind: Kind = "in_step"
    otp_type: OtpType | None = None
    posts: int = 1
    end: End = ACTIVE
    pauses: bool = False
    lacks_device: bool = False
    simulated: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Stage], list[int]] = Stage.enqueue
    mend: Callable[[Stage], None] = lambda _: None

    @property
    def steps(self) -> list[str]:
        return [step for stretch in self.stretches for step in stretch.steps]

    @property
    def deaths(self) -> dict[int, Stretch]:
        """The numbers of the steps at which somebody dies, each with its stretch."""
        stretches = [stretch for stretch in self.stretches for _ in stretch.steps]
        return {number: stretch for number, stretch in enumerate(stretches) if stretch.is_tried}

    def find_cost(self, stretch: Stretch) -> tuple[int, End]:
        """Posts and end for a death at a step of this stretch."""
        return self.posts if stretch.posts is None else stretch.posts, stretch.end or self.end
