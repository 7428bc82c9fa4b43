"""What is told of the progress of some work."""

from __future__ import annotations


class Heard(list[tuple[str, int, int | None]]):
    """Keeps every step that it hears: what, how many are done, and of how many."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        self.append((what, done, total))
