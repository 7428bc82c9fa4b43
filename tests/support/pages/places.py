"""Where the commands of a page are typed: a folder with a fresh home, and a simulated tenant beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fleets.real_fleet import plain_env
from support.pages.typed import Typed, read_typed, type_lines
from support.processes.command_desk import CommandDesk
from support.servers.simulator import Simulator
from worker.simulator.shipment import Box, BoxKind, MadeShipment, make_box


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
