"""What is said of the pace of a license."""

from __future__ import annotations

import pytest

from worker.pace.known_pace import KnownPace
from worker.reports.sentences.pace import describe_pace


@pytest.mark.parametrize(("share", "said"), [(0.6, "60 %"), (0.996, "99.6 %"), (0.004, "0.4 %")])
def test_a_share_of_the_ceiling_is_never_rounded_to_nothing_or_to_all(share: float, said: str) -> None:
    *_, line = describe_pace(KnownPace("license", 40.0, 50.0, share=share))
    assert line == f"Ours are {said} of that; the rest is left to people who sign on."
