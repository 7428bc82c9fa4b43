"""The pages name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("README.md", "CONTRIBUTING.md", "tests/README.md", "docs/**/*.md")
    for path in CHECKOUT.glob(pattern)
)
# A file or directory of the checkout, as a page writes it.
NAMED = re.compile(r"(?<![\w./-])(?:worker|models|migrations|tests|docs)/[\w./-]*[\w/]")
# What the reader is to choose, or a version of before.
EXAMPLES = ("NNNN",)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_files_that_are_there(page: str) -> None:
    named = set(NAMED.findall((CHECKOUT / page).read_text(encoding="utf-8")))
    missing = sorted(
        path for path in named if not (CHECKOUT / path).exists() and not any(example in path for example in EXAMPLES)
    )
    assert missing == []


def test_the_map_of_changes_has_twenty_ways_in() -> None:
    text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("## Where do I change …")[1].split("## ")[0]
    assert sum(line.startswith("| ") for line in table.splitlines()) >= 21
