"""Reports the progress of long work to a listener: the work itself knows no terminal."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")

# Rows of a file or a database between two reports: as many as take a second or less.
ROWS_EACH = 1000


class OnProgress(Protocol):
    """Receives the progress of a step."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Receive how many things of the step `what`, such as "Removing devices", are done. `total`: how many there
        are; None if unknown."""


def tell_nobody(what: str, done: int, total: int | None = None) -> None:
    """Do nothing, if nobody wants to know the progress."""


def telling(
    items: Iterable[T], on_progress: OnProgress, what: str, total: int | None = None, *, each: int = ROWS_EACH
) -> Iterator[T]:
    """Go through the items, and report the number done after each `each` of them."""
    for done, item in enumerate(items):
        if done and done % each == 0:
            on_progress(what, done, total)
        yield item
