"""docs/security.md: each line about an attacker or a parser leads to its tests, and every test that is named exists."""

import re
from pathlib import Path

import pytest
from support.pages.reading import find_sections

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SECTIONS = find_sections((ROOT / "tests" / "security" / "README.md").read_text(encoding="utf-8"))
A_TEST = re.compile(r"^- `((?:unit|integration|acceptance|security|containers)/[\w/]+\.py)(?:::(\w+))?`$", re.MULTILINE)
NAMED = sorted({found for section in SECTIONS.values() for found in A_TEST.findall(section)})


def lines_of(heading: str) -> list[str]:
    """Return the rows of the table under this heading."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def test_every_test_that_is_named_is_there_and_every_module_of_security_is_named() -> None:
    """Otherwise nobody would know what it is for."""
    texts = {file: (ROOT / "tests" / file).read_text(encoding="utf-8") for file, _ in NAMED}
    assert [f"{file}::{test}" for file, test in NAMED if test and f"def {test}(" not in texts[file]] == []
    assert {f"security/{path.name}" for path in Path(__file__).parent.glob("test_*.py")} - texts.keys() == set()


def test_every_section_is_linked_and_every_line_of_it_names_a_test() -> None:
    linked = re.findall(r"\.\./tests/security/README\.md#(\w+)\)", DOCUMENT)
    assert sorted(linked) == sorted(name for name in SECTIONS if name)
    listed = [line for section in SECTIONS.values() for line in section.splitlines() if line.startswith("- ")]
    assert [line for line in listed if not A_TEST.fullmatch(line)] == []


@pytest.mark.parametrize("heading", ["Who could reach what", "Parsers of outside bytes"])
def test_every_line_leads_to_its_tests(heading: str) -> None:
    lines = lines_of(heading)
    assert len(lines) > 5
    anchors = [re.findall(r"\| \[\w+\]\(\.\./tests/security/README\.md#(\w+)\) \|$", line) for line in lines]
    assert [line for line, found in zip(lines, anchors, strict=True) if not A_TEST.search(SECTIONS[found[0]])] == []
