"""Reads the list of PingOne's inventory, page by page: many tokens at once cost less than one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.slots import call_patiently
from worker.pingone.client import Call
from worker.pingone.inventory import InventoryToken
from worker.pingone.pages import Page, check_onward
from worker.pingone.reads import Reads

TokenPage = Page[InventoryToken]
# Makes a read, and waits for its slot as long as its caller can wait. It raises what the read raises.
MakeRead = Callable[[Callable[[], TokenPage]], TokenPage]


def list_pages(
    reads: Reads, call: Call, make_read: MakeRead = lambda read: read(), on_progress: OnProgress = tell_nobody
) -> Iterator[TokenPage]:
    """Read the whole inventory, page by page as the caller asks for the next one. `make_read` makes each read; by
    default it does not wait for a slot that is far. Raises any PingOneError, OutcomeUnknown also where the pages lead
    back to one of them, since the rest of the list is not known then; and SlotTooFar."""
    page: TokenPage | None = None
    known, count = set[str](), 0
    while page is None or page.next_url:
        # One page at a time, so that a wait for a slot does not begin the list anew.
        following = make_read(partial(_read_page, reads, page, call))
        check_onward(following, page, known)
        if following.next_url:
            known.add(following.next_url)
        page = following
        count += len(page.items)
        if page.next_url:
            # PingOne does not tell how many there are.
            on_progress("Reading the inventory", count)
        yield page


def find_tokens(
    reads: Reads, serial_numbers: Collection[str], call: Call, on_progress: OnProgress = tell_nobody
) -> dict[str, InventoryToken]:
    """Read the whole list, and keep the tokens with these serial numbers (in small letters), by serial number. It waits
    for its slots however long that takes. Raises any PingOneError, and PaceOutOfReach."""
    return {
        token.serial_number.lower(): token
        for page in list_pages(reads, call, call_patiently, on_progress)
        for token in page.items
        if token.serial_number is not None and token.serial_number.lower() in serial_numbers
    }


def _read_page(reads: Reads, after: TokenPage | None, call: Call) -> TokenPage:
    return next(reads.list_tokens(after=after, call=call))
