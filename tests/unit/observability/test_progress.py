"""How long work tells how far it is."""

from __future__ import annotations

import pytest

from worker.observability.progress import telling


@pytest.mark.parametrize(("items", "told"), [(0, []), (3, []), (4, [3]), (10, [3, 6, 9])])
def test_it_is_told_after_so_many_items_if_more_are_to_come(items: int, told: list[int]) -> None:
    heard = list[tuple[str, int, int | None]]()

    assert list(telling(range(items), lambda *step: heard.append(step), "Reading rows", 10, each=3)) == [*range(items)]

    assert heard == [("Reading rows", done, 10) for done in told]
