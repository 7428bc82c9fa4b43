"""Under which names the desk answers."""

from __future__ import annotations

import pytest

from worker.cli.desk import list_own_names


@pytest.mark.parametrize(
    ("address", "names"),
    [
        (("127.0.0.1", 8765), ["127.0.0.1:8765", "localhost:8765"]),
        (("0.0.0.0", 8765), ["0.0.0.0:8765", "localhost:8765", "127.0.0.1:8765"]),
        (("::1", 8765, 0, 0), ["[::1]:8765", "localhost:8765", "127.0.0.1:8765"]),
        (("127.0.0.1", 80), ["127.0.0.1", "localhost"]),
    ],
    ids=["loopback", "all addresses", "IPv6", "the port that browsers leave out"],
)
def test_the_desk_answers_to_what_a_browser_writes_for_its_socket(address: tuple[str, int], names: list[str]) -> None:
    assert list_own_names(address) == names
