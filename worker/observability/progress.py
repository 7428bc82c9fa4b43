"""Tells how far long work is, to whoever listens: the work itself knows no terminal."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")

# Rows of a file or a database after which it is told how far the work is: as many as take a second or less.
ROWS_EACH = 1000


class OnProgress(Protocol):
    """Hears how far a step of some work is."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Hear that of the step `what`, such as "Removing devices", so many things are done. `total`: how many there
        are; None where that is not known."""


def tell_nobody(what: str, done: int, total: int | None = None) -> None:
    """Do nothing, where nobody wants to hear how far the work is."""


def telling(
    items: Iterable[T], on_progress: OnProgress, what: str, total: int | None = None, *, each: int = ROWS_EACH
) -> Iterator[T]:
    """Go through the items, and tell after `each` so many of them how many are done."""
    for done, item in enumerate(items):
        if done and done % each == 0:
            on_progress(what, done, total)
        yield item
