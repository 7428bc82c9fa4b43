"""What a page types, typed, in a folder with a fresh home and a simulated tenant beside it; and what it shows of the
output, compared with what came.

A block of the kind `sh` has lines to type. One of the kind `console` has them behind a prompt, `$ `, each followed by
all that it prints, on stdout and stderr, of which `…` stands for what is left out: alone on a line for lines, otherwise
for a part of its line. A command ends with 0, unless a comment behind it says `ends with N`. Compared is what is the
same each time: MASKS are what is not."""

import re
import shlex
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fleets.real_fleet import plain_env
from support.pages.reading import Block, find_blocks, read_page
from support.processes.command_desk import CommandDesk, Result
from support.servers.simulator import Simulator

from worker.simulator.shipment import Box, BoxKind, MadeShipment, make_box

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


@dataclass(frozen=True)
class Place:
    """A desk, the tenant, and what is in its files."""

    desk: CommandDesk
    pingone: Simulator
    made: MadeShipment

    @property
    def home(self) -> Path:
        """The home of an installation that nobody has put elsewhere."""
        return self.desk.folder / ".local" / "state" / "oathbulk"


Step = Callable[[Place], None]


@dataclass(frozen=True)
class Situation:
    """What is the case when a page begins: what was made up, the name of the file where that is OTP pairs, settings of
    ours and of the simulator; commands typed before, with the codes that they end with; and what is done on the way,
    before the command that begins so, however often it is typed."""

    made: MadeShipment
    before: Mapping[str, int] = field(default_factory=dict)
    on_the_way: Mapping[str, Step] = field(default_factory=dict)
    pairs: str = "pairs.csv"
    settings: Mapping[str, str] = field(default_factory=dict)
    simulated: Mapping[str, Any] = field(default_factory=dict)


def box(tokens: int = 10, **special: int) -> Box:
    """A box of HOTP tokens, since TOTP may have to wait for its next time step."""
    kinds: dict[BoxKind, int] = dict(special)  # type: ignore[arg-type]
    return make_box(tokens, totp=0.0, special=kinds)


@contextmanager
def set_out(folder: Path, situation: Situation) -> Iterator[Place]:
    """Make the place of a situation, with its files in the desk's folder."""
    (outside := folder / "outside").mkdir()
    # Who types is at home here, and has set nothing that would put oathbulk's own home elsewhere.
    person = {"HOME": str(folder / "desk"), "OATHBULK_HOME": "", "XDG_STATE_HOME": ""}
    with (
        Simulator(outside, situation.made, plain_env(), **situation.simulated) as pingone,
        CommandDesk(folder / "desk", pingone.variables, person, situation.settings) as desk,
    ):
        if isinstance(situation.made, Box):
            situation.made.write(desk.folder)
        else:
            situation.made.write_pairs(desk.folder / situation.pairs)
        yield Place(desk, pingone, situation.made)


def type_page(page: str, situation: Situation, folder: Path) -> None:
    """Type all that a page types, and compare what it shows. Nothing is left running."""
    with set_out(folder, situation) as place:
        before = (Typed(line, code) for line, code in situation.before.items())
        for typed in (*before, *read_typed(page)):
            for beginning, act in situation.on_the_way.items():
                if typed.line.startswith(beginning):
                    act(place)
            type_lines(place.desk, typed)
        assert not place.desk.processes()
