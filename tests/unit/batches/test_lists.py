"""Lists of tokens and devices: how many tokens the next job imports, an inventory that is read to its end or not at
all, a chunk that several threads ask about, and whether a device is still there and the record's own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest

from models.inventory_job import JobState
from worker.batches import long_list
from worker.batches.imports import choose_size, find_tokens
from worker.batches.long_list import LongList, taking
from worker.batches.removal import Heir, Sight, find_heir, see, see_by_token
from worker.config.environment import Environment
from worker.pace.search import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Reads
from worker.pingone.devices import Pairing, UserDevice
from worker.pingone.errors import Answer, OutcomeUnknown
from worker.pingone.inventory import InventoryToken
from worker.pingone.wire import Page


@pytest.mark.parametrize(
    ("last_state", "last_size", "size"),
    [
        # Fewer after a failure, down to one.
        (JobState.FAILED, 500, 250),
        (JobState.FAILED, 3, 1),
        (JobState.FAILED, 1, 1),
        # More again after a success, up to the setting.
        (JobState.DONE, 1, 2),
        (JobState.DONE, 125, 250),
        (JobState.DONE, 400, 500),
        # The setting was lowered meanwhile.
        (JobState.FAILED, 5000, 250),
        (JobState.DONE, 5000, 500),
    ],
)
def test_fewer_go_after_a_failure_and_more_after_a_success(last_state, last_size, size):
    assert choose_size(last_state, last_size, 500) == size


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


@pytest.mark.parametrize(
    "third",
    [("third", "ab3", "second"), ("third", "ab3", "third"), ("third", "ab2", "fourth")],
    ids=["to the one before", "to itself", "by another address"],
)
def test_a_list_that_leads_back_or_of_which_a_page_comes_again_is_no_whole_list(third: Any) -> None:
    reads = make_list((None, "ab1", "second"), ("second", "ab2", "third"), third)
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
    heard = list[tuple[object, ...]]()
    find_tokens(
        make_list(*THREE_PAGES), {"ab1"}, CALL, lambda what, done, total=None: heard.append((what, done, total))
    )
    assert heard == [("Reading the inventory", 1, None), ("Reading the inventory", 2, None)]


THREADS = 4


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_after_a_failure_or_ctrl_c_nothing_further_is_asked_and_what_is_under_way_is_written_down(
    monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    is_ending = threading.Event()

    class Pool(ThreadPoolExecutor):
        """One whose threads hear that nothing more is to be begun."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            is_ending.set()
            super().shutdown(wait=wait)

    monkeypatch.setattr(long_list, "ThreadPoolExecutor", Pool)
    if failure is KeyboardInterrupt:
        # It comes to the main thread, which waits for the others.
        monkeypatch.setattr(long_list, "as_completed", Mock(side_effect=failure))
    asked, written = list[int](), list[int]()

    def ask(thing: int) -> int:
        asked.append(thing)
        if thing == 0 and failure is RuntimeError:
            raise failure
        is_ending.wait(30)
        return thing

    things = LongList(taking(range(100), 100), ask, lambda thing, _: written.append(thing), THREADS)
    with pytest.raises(failure):
        things.advance()

    # The thread of the one that failed may have begun another before that was known.
    assert len(asked) <= THREADS + 1
    assert sorted(written) == sorted(asked)[failure is RuntimeError :]


DEVICE = UserDevice("d1", "OATH_TOKEN", "ACTIVE", "S1")


@pytest.mark.parametrize(
    ("device", "sight"),
    [
        (DEVICE, Sight.OURS),
        (UserDevice("D1", "OATH_TOKEN", None, "s1"), Sight.OURS),
        (UserDevice("d1", "OATH_TOKEN", "ACTIVE", "S2"), Sight.FOREIGN),
        (UserDevice("d1", "SMS", "ACTIVE"), Sight.FOREIGN),
        (UserDevice("d1", "OATH_TOKEN"), Sight.UNNAMED),
        (UserDevice("d1", None, None, "S1"), Sight.UNNAMED),
        (UserDevice("d2", "OATH_TOKEN", "ACTIVE", "S1"), Sight.MISSING),
        (None, Sight.MISSING),
    ],
)
def test_only_an_oath_token_of_the_same_serial_number_is_ours(device: UserDevice | None, sight: Sight) -> None:
    devices = [UserDevice("other", "SMS"), *([device] if device else [])]
    assert see(devices, "d1", "S1") is sight


@pytest.mark.parametrize(
    ("found", "before", "sight"),
    [
        (Pairing("D1", "u"), Sight.UNNAMED, Sight.OURS),
        (Pairing("d2", "u"), Sight.UNNAMED, Sight.FOREIGN),
        (None, Sight.UNNAMED, Sight.FOREIGN),
        (None, Sight.MISSING, Sight.MISSING),
        (Pairing("d2", "u"), Sight.MISSING, Sight.MISSING),
        # The list lags behind: it is not known to be gone.
        (Pairing("d1", "u"), Sight.MISSING, Sight.UNNAMED),
    ],
)
def test_the_token_decides_what_the_list_leaves_open(found: Pairing | None, before: Sight, sight: Sight) -> None:
    assert see_by_token(found, before, "d1") is sight


@pytest.mark.parametrize(
    ("statuses", "removed", "heir"),
    [
        ("A", "0", Heir.NONE),
        ("AA", "0", Heir.NEXT),
        ("AA", "1", None),
        ("AA", "01", Heir.NONE),
        ("WA", "1", Heir.NONE),
        ("AW", "0", Heir.NONE),
        ("WA", "0", None),
        ("W", "0", None),
        ("", "0", None),
    ],
)
def test_the_first_active_device_is_asked_for_until_it_goes(statuses: str, removed: str, heir: Heir | None) -> None:
    """A: active, W: waiting; each named by its place."""
    devices = [
        UserDevice(f"D{place}", status={"A": "ACTIVE", "W": "ACTIVATION_REQUIRED"}[status])
        for place, status in enumerate(statuses)
    ]
    assert find_heir(devices, {f"d{place}" for place in removed}) is heir
