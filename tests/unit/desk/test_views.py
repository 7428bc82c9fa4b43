"""What is read from an address, and from a form before anything is commanded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.data.facts import batch

from models.audit import LONGEST_TICKET
from worker.desk.app import COMMANDS, Order, Unfit, link_to, read_sought
from worker.pace.paces import KnownPace
from worker.reports.search import Sought

PALLET = batch(pending=3)


class Installed:
    """An installation that only notes what is commanded."""

    settings = SimpleNamespace(is_embedded_database=False)

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []

    def batches(self, *who: str | None) -> Installed:
        self.commands.append(who)
        return self

    pace_commands = batches

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *arguments: self.commands.append((name, *arguments)) or 3  # type: ignore[func-returns-value]


def give(command: str, name: str = "pallet-7", **fields: str) -> tuple[list[tuple[Any, ...]], str]:
    """Give a command on this batch: what was done in whose name, and what is said of it."""
    installed: Any = Installed()
    status = replace(PALLET, name=name, license_pace=KnownPace("the-license"))
    said = COMMANDS[command](Order(installed, status, "alice", fields))
    return installed.commands, said


@pytest.mark.parametrize(
    "text", ["", " ", "nan", "inf", "-inf", "60%", "-1", "0.009", "1e-300", "1e9", "sixty", "1,5", "0x10", "1 2"]
)
@pytest.mark.parametrize(("choice", "field", "most"), [("share", "share", "100"), ("fixed", "rate", "100,000")])
def test_what_is_no_number_within_bounds_is_refused_with_the_bounds(
    text: str, choice: str, field: str, most: str
) -> None:
    for fields in ({field: text}, {}):
        with pytest.raises(Unfit, match=f"The {field} is a number from 0.01 to {most}."):
            give("pace", pace=choice, **fields)


@pytest.mark.parametrize(
    ("command", "fields", "done", "said"),
    [
        ("pace", {"pace": "share", "share": " 100 "}, ("set_share", "the-license", 1.0), "keeps to 100 % of what"),
        ("pace", {"pace": "share", "share": "0.01"}, ("set_share", "the-license", 0.0001), "keeps to 0.01 % of what"),
        ("pace", {"pace": "fixed", "rate": "100000"}, ("fix", "the-license", 100_000.0), "100000 requests a second"),
        ("pace", {"pace": "fixed", "rate": "0.01"}, ("fix", "the-license", 0.01), "stays at 0.01 requests a second"),
        # A number beside another choice does not matter.
        ("pace", {"pace": "adapt", "share": "nan"}, ("adapt", "the-license"), "looks for the limit again"),
        ("pace", {"pace": "lift"}, ("lift", "the-license"), "The hold of license the-license ends within seconds."),
        ("pause", {}, ("pause", "pallet-7"), "pallet-7 is paused. A resume lets it go on."),
        ("cancel", {"typed_name": " pallet-7 "}, ("cancel", "pallet-7"), "pallet-7 is cancelled: 3 records."),
        ("cancel", {"name": " x ", "typed_name": "x"}, ("cancel", " x "), "is cancelled: 3 records."),
    ],
)
def test_a_command_that_fits_is_done_in_the_persons_name_and_told(
    command: str, fields: dict[str, str], done: tuple[Any, ...], said: str
) -> None:
    for ticket, kept in ((" CHG-7 ", "CHG-7"), ("   ", None), ("x" * LONGEST_TICKET, "x" * LONGEST_TICKET)):
        commands, told = give(command, ticket=ticket, **fields)
        assert commands == [(kept, "alice"), done]
        assert said in told


@pytest.mark.parametrize(
    ("command", "fields", "said"),
    [
        ("pace", {}, "one of the four"),
        ("pace", {"pace": "SHARE", "share": "60", "rate": "5"}, "one of the four"),
        *(
            ("cancel", {"typed_name": typed}, "type the name of the batch: pallet-7")
            for typed in ("", "pallet", "PALLET-7", "pallet-77", "pallet -7")
        ),
        ("cancel", {}, "type the name of the batch: pallet-7"),
        *(("replay", {"reason": reason}, "no such reason") for reason in ("nothing", "LOCKED", "locked' OR 1=1 --")),
        *(
            (command, {"ticket": ticket, "pace": "adapt", "typed_name": "pallet-7"}, "ticket has at most 200 char")
            for command in COMMANDS
            for ticket in ("x" * (LONGEST_TICKET + 1), "CHG\x00", "CHG\n7", "CHG\u202e7")
        ),
    ],
)
def test_what_does_not_fit_is_refused(command: str, fields: dict[str, str], said: str) -> None:
    with pytest.raises(Unfit, match=said):
        give(command, **fields)


def test_a_search_leaves_out_what_is_empty_or_what_there_is_none_of() -> None:
    assert read_sought({"text": "  ", "batch": "", "status": "broken", "reason": "nothing"}) is None
    assert read_sought({"text": " ACME ", "batch": ""}) == Sought(text="ACME")
    found = read_sought({"status": "dead_letter", "reason": "locked", "batch": "july"})
    assert found == Sought(status="dead_letter", reason="locked", batch="july")


@pytest.mark.parametrize("name", ["a/b", "a?b", "a&name=c", "a#b", "50%", "a b", "a+b", "é", '"', "../x"])
def test_any_name_can_stand_in_an_address(name: str) -> None:
    parts = urlsplit(link_to("/batch", name=name, form=""))
    assert (parts.path, parse_qs(parts.query)) == ("/batch", {"name": [name]})
