"""docs/security.md: every test that it names is there, and every line about somebody names one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
A_TEST = re.compile(r"`((?:unit|integration|acceptance|security|containers)/[\w/]+\.py)(?:::(\w+))?`")
NAMED = sorted(set(A_TEST.findall(DOCUMENT)))


def lines_of(heading: str) -> list[str]:
    """Of the table under this heading, without its head."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def test_every_test_that_is_named_is_there_and_every_module_of_security_is_named() -> None:
    """Otherwise nobody would know what it is for."""
    texts = {file: (ROOT / "tests" / file).read_text(encoding="utf-8") for file, _ in NAMED}
    assert [f"{file}::{test}" for file, test in NAMED if test and f"def {test}(" not in texts[file]] == []
    assert {f"security/{path.name}" for path in Path(__file__).parent.glob("test_*.py")} - texts.keys() == set()


@pytest.mark.parametrize("heading", ["Who could reach what", "Parsers of outside bytes"])
def test_every_line_names_its_test(heading: str) -> None:
    lines = lines_of(heading)
    assert len(lines) > 5
    assert [line for line in lines if not A_TEST.search(line)] == []
