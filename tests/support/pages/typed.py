"""What a page types, typed; and what it shows of the output, compared with what came.

A block of the kind `sh` has lines to type. One of the kind `console` has them behind a prompt, `$ `, each followed by
all that it prints, on stdout and stderr, of which `…` stands for what is left out: alone on a line for lines, otherwise
for a part of its line. A command ends with 0, unless a comment behind it says `ends with N`. Compared is what is the
same each time: MASKS are what is not."""

from __future__ import annotations

import re
import shlex
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass

from support.pages.reading import Block, find_blocks, read_page
from support.processes.command_desk import CommandDesk, Result

# What differs from one run to the next, and what a page and its test have in its place.
MASKS = (
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?(?: UTC|\+00:00)?", "TIME"),
    (r"\b\d\d:\d\d:\d\d(?: UTC)?", "TIME"),
    (r"\b\d{4}-\d\d-\d\d\b", "DAY"),
    (r"\b\d+(?:\.\d+)? (?:s|min|h)\b(?: \d+ (?:s|min)\b)?", "SPAN"),
    (r"\b[0-9a-f]{4,8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"),
    (r"\b(?=[a-f]*\d)[0-9a-f]{12,}\b", "HASH"),
    (r"\b\d+(?:\.\d+)?(?: requests| records)?(?:/s| a second)", "RATE"),
    (r"\b127\.0\.0\.1:\d+", "ADDRESS"),
    (r"(?:~|\S*)/\.local/state/oathbulk\b", "HOME"),
)
_ENDS_WITH = re.compile(r"#.*\bends with (\d+)")


@dataclass(frozen=True)
class Typed:
    """Lines for the shell, the code that they end with, and what the page shows of the output; None: it shows none."""

    line: str
    code: int = 0
    shown: tuple[str, ...] | None = None


def read_typed(page: str) -> list[Typed]:
    """Read what a page types, in its order. A block of commands of ours alone is typed line by line; another as one."""
    return [typed for block in find_blocks(read_page(page)) for typed in _read_block(block)]


def _read_block(block: Block) -> Iterator[Typed]:
    if block.kind == "console":
        yield from _read_console(block)
    elif all(line.startswith("oathbulk ") for line in block.typed):
        yield from (Typed(line, _read_code(line)) for line in block.typed)
    else:
        yield Typed("\n".join(block.typed))


def _read_console(block: Block) -> Iterator[Typed]:
    starts = [number for number, line in enumerate(block.lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(block.lines)], strict=True):
        line = block.lines[start].removeprefix("$ ")
        yield Typed(line, _read_code(line), block.lines[start + 1 : end])


def _read_code(line: str) -> int:
    found = _ENDS_WITH.search(line)
    return int(found[1]) if found else 0


def type_lines(desk: CommandDesk, typed: Typed) -> str:
    """Type it, and return what it prints. Fails if it ends with another code than the page says, or prints something
    else than the page shows."""
    result = _run(desk, typed.line)
    assert result.code == typed.code, f"{typed.line} ended with {result.code}\n{result.stdout}"
    if typed.shown is not None:
        assert is_shown("\n".join(typed.shown), result.stdout), f"{typed.line}\n{mask(result.stdout)}"
    return result.stdout


def _run(desk: CommandDesk, line: str) -> Result:
    if line.startswith("oathbulk ") and "\n" not in line:
        return desk.type_command(*shlex.split(line, comments=True)[1:])
    path = f"{sysconfig.get_path('scripts')}:{desk.environment['PATH']}"
    return desk.start_program("sh", "-e", "-c", f"exec 2>&1\n{line}", PATH=path).wait()


def is_shown(shown: str, printed: str) -> bool:
    """Whether what a page shows is what was printed, but for MASKS and what stands for `…`."""
    pattern = re.escape(mask(shown)).replace("\\\n", "\n")
    pattern = re.sub(r"(?<![^\n])…(?![^\n])\n?", "(?:.*\n)*", pattern).replace("…", ".*")
    return re.fullmatch(pattern + "\n?", mask(printed)) is not None


def mask(text: str) -> str:
    """Put words in the place of what differs each time."""
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text)
    return text
