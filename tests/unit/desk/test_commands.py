"""What is read from a form before anything is commanded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.data.facts import batch

from models.audit import LONGEST_TICKET
from worker.desk.views import COMMANDS, Order, Unfit
from worker.pace.paces import KnownPace

STATUS = replace(batch(pending=3), license_pace=KnownPace("the-license"))


class Taken:
    """Takes commands, and keeps them."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def take(*arguments: Any) -> int:
            self.commands.append((name, *arguments))
            return 3

        return take


class Installed:
    """An installation on which nothing is done. `who`: the ticket and the person of each command."""

    settings = SimpleNamespace(is_embedded_database=False)

    def __init__(self) -> None:
        self.taken = Taken()
        self.who: list[tuple[str | None, str]] = []

    def batches(self, ticket: str | None, person: str) -> Taken:
        self.who.append((ticket, person))
        return self.taken

    pace_commands = batches


def give(command: str, **fields: str) -> tuple[Installed, str]:
    """Give a command on the batch `pallet-7`: where it went, and what is said of it."""
    installed: Any = Installed()
    return installed, COMMANDS[command](Order(installed, STATUS, "alice", fields))


# Numbers.


@pytest.mark.parametrize(
    "text", ["", " ", "nan", "inf", "-inf", "1e9", "60%", "-1", "0", "0.009", "1e-300", "sixty", "1,5", "0x10", "1 2"]
)
@pytest.mark.parametrize(("choice", "field", "most"), [("share", "share", "100"), ("fixed", "rate", "100,000")])
def test_what_is_no_number_within_bounds_is_refused_with_the_bounds(
    text: str, choice: str, field: str, most: str
) -> None:
    for fields in ({field: text}, {}):
        with pytest.raises(Unfit, match=f"The {field} is a number from 0.01 to {most}."):
            give("pace", pace=choice, **fields)


def test_numbers_are_taken_up_to_their_bounds() -> None:
    for text, share in (("60", 0.6), (" 100 ", 1.0), ("0.01", 0.0001), ("٦٠", 0.6)):
        installed, said = give("pace", pace="share", share=text)
        assert installed.taken.commands == [("set_share", "the-license", pytest.approx(share))]
    assert said == "License the-license keeps to 60 % of what PingOne permits, from the next second on."
    for text, rate in (("100000", 100_000.0), ("2.5", 2.5), ("0.01", 0.01)):
        installed, said = give("pace", pace="fixed", rate=text)
        assert installed.taken.commands == [("fix", "the-license", rate)]
    assert said == "License the-license stays at 0.01 requests a second, from the next second on."


@pytest.mark.parametrize("choice", ["", "all", "SHARE"])
def test_a_pace_needs_one_of_the_choices(choice: str) -> None:
    with pytest.raises(Unfit, match="one of the four"):
        give("pace", pace=choice, share="60", rate="5")
    with pytest.raises(Unfit, match="one of the four"):
        give("pace")


def test_a_number_beside_another_choice_does_not_matter() -> None:
    installed, _ = give("pace", pace="adapt", share="nan", rate="")
    assert installed.taken.commands == [("adapt", "the-license")]
    installed, _ = give("pace", pace="lift")
    assert installed.taken.commands == [("lift", "the-license")]


# Who, and why.


def test_a_command_goes_under_the_name_of_the_person_and_the_ticket() -> None:
    installed, said = give("pause", ticket=" CHG-7 ")
    assert installed.who == [("CHG-7", "alice")]
    assert installed.taken.commands == [("pause", "pallet-7")]
    assert said == "pallet-7 is paused. A resume lets it go on."


@pytest.mark.parametrize("fields", [{}, {"ticket": ""}, {"ticket": "   "}])
def test_a_ticket_need_not_be_given(fields: dict[str, str]) -> None:
    installed, _ = give("pause", **fields)
    assert installed.who == [(None, "alice")]


@pytest.mark.parametrize("ticket", ["x" * (LONGEST_TICKET + 1), "CHG\x00", "CHG\n7", "CHG\u202e7"])
def test_a_ticket_that_the_audit_cannot_take_is_refused(ticket: str) -> None:
    for command in COMMANDS:
        with pytest.raises(Unfit, match="ticket has at most 200 characters"):
            give(command, ticket=ticket, pace="adapt", typed_name="pallet-7")
    installed, _ = give("pause", ticket="x" * LONGEST_TICKET)
    assert installed.who == [("x" * LONGEST_TICKET, "alice")]


# What has to be typed or chosen.


@pytest.mark.parametrize("typed", [None, "", "pallet", "PALLET-7", "pallet-77", "pallet -7"])
def test_a_batch_is_cancelled_only_by_who_types_its_name(typed: str | None) -> None:
    with pytest.raises(Unfit, match="type the name of the batch: pallet-7"):
        give("cancel", **({} if typed is None else {"typed_name": typed}))
    installed, said = give("cancel", typed_name=" pallet-7 ")
    assert installed.taken.commands == [("cancel", "pallet-7")]
    assert said.startswith("pallet-7 is cancelled: 3 records.")


def test_a_name_with_spaces_around_it_can_be_typed() -> None:
    installed: Any = Installed()
    spaced = Order(installed, replace(STATUS, name=" pallet "), "alice", {"typed_name": " pallet "})
    COMMANDS["cancel"](spaced)
    assert installed.taken.commands == [("cancel", " pallet ")]


@pytest.mark.parametrize("reason", ["nothing", "LOCKED", "locked ", "locked' OR 1=1 --"])
def test_a_reason_that_there_is_none_of_is_refused(reason: str) -> None:
    with pytest.raises(Unfit, match="no such reason"):
        give("replay", reason=reason)
