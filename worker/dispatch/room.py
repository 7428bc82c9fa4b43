"""Shares the room in a license's window among its batches, so that a large batch does not keep a small one waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from worker.dispatch.workload import BatchWork


@dataclass(slots=True)
class Messages:
    """Record ids that are to be published: by the name of their environment, and whether they are to be taken up before
    what waits already."""

    ids: dict[tuple[str, bool], list[int]] = field(default_factory=dict)
    # What people call the records, by id.
    labels: dict[int, str] = field(default_factory=dict)

    def add(self, environment: str, ids: Sequence[int], *, is_ahead: bool = False) -> None:
        if ids:
            self.ids.setdefault((environment, is_ahead), []).extend(ids)

    def add_labels(self, batch: str, labels: Mapping[int, str]) -> None:
        """Add what people call records of this batch."""
        self.labels.update({record_id: f"{batch}, {label}" for record_id, label in labels.items()})

    @property
    def count(self) -> int:
        return sum(map(len, self.ids.values()))

    def to_list(self) -> list[tuple[str, list[int], bool]]:
        """All of them: the name of an environment, its ids, whether they go ahead."""
        return [(environment, ids, is_ahead) for (environment, is_ahead), ids in self.ids.items()]


def share_room(
    room: int, batches: Sequence[BatchWork], counts: Mapping[int, int], enqueue: Callable[[BatchWork, int], int]
) -> None:
    """Let each batch enqueue an equal part of the room, and share again what some leave: those go first that have the
    least in the window. `counts`: records in the window by batch; `enqueue` queues up to so many records of a batch,
    counts them there, and returns how many they were."""
    left = sorted(batches, key=lambda batch: counts.get(batch.batch_id, 0))
    while left and room > 0:
        hungry = []
        equal, rest = divmod(room, len(left))
        for place, batch in enumerate(left):
            # What cannot be divided goes to the first.
            part = equal + (place < rest)
            if batch.most is not None:
                part = min(part, batch.most - counts.get(batch.batch_id, 0))
            taken = enqueue(batch, part) if part > 0 else 0
            room -= taken
            if part and taken == part:
                hungry.append(batch)
        left = hungry
