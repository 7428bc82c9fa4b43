"""A page taken apart: its blocks, the code between backticks, its links and the anchors of its headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
# All pages, by their paths in the checkout. CHANGELOG.md is none: it names what earlier versions had.
PAGES = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("README.md", "CONTRIBUTING.md", ".github/*.md", "tests/README.md", "docs/**/*.md")
    for path in CHECKOUT.glob(pattern)
)
# Kinds of blocks whose lines are typed; in a `console` those that begin with `$ `.
TYPED = ("sh", "console")

_FENCE = re.compile(r"^ *```(\w*)$")
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """Lines between two fences. `kind` is the word behind the first: `sh`, `console`, `json`; may be empty."""

    kind: str
    lines: tuple[str, ...]

    @property
    def typed(self) -> list[str]:
        """The lines that are typed: of a `console` those with a prompt, without it; of `sh` all but comments."""
        if self.kind == "console":
            return [line.removeprefix("$ ") for line in self.lines if line.startswith("$ ")]
        return [line for line in self.lines if line.strip() and line[0] != "#"] if self.kind == "sh" else []


def read_page(page: str) -> str:
    """Read the text of a page, by its path in the checkout; or of a section, by the anchor of its heading behind the
    path, as `docs/commands.md#doctor`."""
    path, _, anchor = page.partition("#")
    text = (CHECKOUT / path).read_text(encoding="utf-8")
    return find_sections(text)[anchor] if anchor else text


def find_sections(text: str) -> dict[str, str]:
    """Find the sections of a page by the anchors of their headings (`##`), in their order; under an empty name, what
    stands before the first."""
    sections, is_outside, name = {"": ""}, True, ""
    for line in text.splitlines(keepends=True):
        is_outside ^= _FENCE.match(line.rstrip("\n")) is not None
        if is_outside and line.startswith("## "):
            (name,) = find_anchors(line)
        sections[name] = sections.get(name, "") + line
    return sections


def find_blocks(text: str) -> list[Block]:
    """Find the blocks of a page, in their order."""
    blocks, kind, lines = list[Block](), "", None
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if lines is None and fence:
            kind, lines = fence[1], list[str]()
        elif fence:
            blocks.append(Block(kind, tuple(lines or ())))
            lines = None
        elif lines is not None:
            lines.append(line)
    assert lines is None, "a block is never closed"
    return blocks


def find_spans(text: str) -> list[str]:
    """Find what stands between backticks, outside of blocks."""
    return _SPAN.findall(_cut_blocks(text))


def find_code(text: str) -> list[str]:
    """Find whatever stands there as code, line by line; of blocks in the languages of others nothing."""
    blocks = [block for block in find_blocks(text) if block.kind in ("", *TYPED)]
    return [line for block in blocks for line in block.typed or block.lines] + find_spans(text)


def find_links(text: str) -> list[str]:
    """Find where its links lead, but for those to the web."""
    found = _LINK.findall(_SPAN.sub("", _cut_blocks(text)))
    return [link for link in found if not link.startswith(("https://", "http://"))]


def find_anchors(text: str) -> set[str]:
    """Find the anchors of its headings, as GitHub and most renderers make them."""
    headings = re.findall(r"^#+ (.+)$", _cut_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_listed_keys() -> dict[str, set[str]]:
    """Find the keys of `--json` that docs/json.md lists, by the commands in its headings; a smaller heading says where
    they are."""
    listed: dict[str, set[str]] = {}
    for section in read_page("docs/json.md").split("\n## ")[1:]:
        heading, *parts = section.split("\n### ")
        for command in find_code(heading.partition("\n")[0]):
            for inside, text in [("", heading), *(part.split("\n", 1) for part in parts)]:
                path = "".join(f"{name}." for name in find_code(inside))
                cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
                keys = {path + key for cell in cells for key in find_code(cell)}
                listed.setdefault(command.split()[0], set()).update(keys)
    return listed


def _cut_blocks(text: str) -> str:
    return "\n".join(_lines_outside(text))


def _lines_outside(text: str) -> Iterator[str]:
    is_outside = True
    for line in text.splitlines():
        if _FENCE.match(line):
            is_outside = not is_outside
        elif is_outside:
            yield line
