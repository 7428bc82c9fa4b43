"""The inventory's list, read to its end or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from support.data.progress import Heard

from worker.batches.tokens import find_tokens
from worker.config.environment import Environment
from worker.pace.errors import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Reads
from worker.pingone.errors import Answer, OutcomeUnknown
from worker.pingone.inventory import InventoryToken
from worker.pingone.wire import Page

CALL = Call("session", "transaction")
ENVIRONMENT = Environment.model_validate(
    {"name": "default", "environment_id": "e", "client_id": "c", "client_secret": "s"}
)


class List(Reads):
    """Reads of an inventory. `pages`: the address of each, its only token, and the address of the next; the first one's
    is None. `failures` are raised, one by one, where a page is asked for."""

    def __init__(self, *pages: tuple[str | None, str, str | None], failures: dict[str | None, list[Exception]]) -> None:
        super().__init__(ENVIRONMENT, client_of=pytest.fail)  # type: ignore[arg-type]
        self.pages = {address: (serial, following) for address, serial, following in pages}
        self.failures = failures
        self.asked = list[str | None]()

    def _read(self, _group: object, url: str, *_: object) -> Any:
        address = url if url in self.pages else None
        self.asked.append(address)
        if self.failures.get(address):
            raise self.failures[address].pop(0)
        serial, following = self.pages[address]
        return Page((InventoryToken(id=f"id-{serial}", serial_number=serial),), following, Answer(200))


def make_list(*pages: tuple[str | None, str, str | None], **failures: list[Exception]) -> Any:
    return List(*pages, failures=dict(failures))


THREE_PAGES = ((None, "Ab1", "second"), ("second", "ab2", "third"), ("third", "ab3", None))


def read(reads: Any) -> list[str | None]:
    return [token.serial_number for page in reads.list_tokens(call=CALL) for token in page.items]


def test_a_list_of_which_a_page_comes_again_under_another_address_is_no_whole_list() -> None:
    reads = make_list((None, "ab1", "second"), ("second", "ab2", "third"), ("third", "ab2", "fourth"))
    with pytest.raises(OutcomeUnknown, match="lead back to one of them"):
        read(reads)


@pytest.mark.parametrize("back_to", ["second", "third"])
def test_a_list_that_leads_back_is_no_whole_list(back_to: str) -> None:
    reads = make_list((None, "ab1", "second"), ("second", "ab2", "third"), ("third", "ab3", back_to))
    with pytest.raises(OutcomeUnknown, match="lead back to one of them"):
        find_tokens(reads, {"ab1"}, CALL)
    assert len(reads.asked) == 3


def test_tokens_are_found_in_whatever_letters_they_are_listed() -> None:
    assert find_tokens(make_list(*THREE_PAGES), {"ab1", "ab3", "ab4"}, CALL).keys() == {"ab1", "ab3"}


def test_one_who_waits_for_slots_goes_on_where_the_slot_was_far() -> None:
    far = SlotTooFar(0.001)
    reads = make_list(*THREE_PAGES, second=[far], third=[far])
    assert len(find_tokens(reads, {"ab1", "ab2", "ab3"}, CALL)) == 3
    with pytest.raises(SlotTooFar):
        read(make_list(*THREE_PAGES, second=[far]))


def test_it_is_told_how_many_tokens_were_read_where_more_are_to_come() -> None:
    heard = Heard()

    find_tokens(make_list(*THREE_PAGES), {"ab1"}, CALL, heard)

    assert heard == [("Reading the inventory", 1, None), ("Reading the inventory", 2, None)]
