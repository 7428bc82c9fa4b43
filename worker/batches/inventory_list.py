"""Finds tokens in PingOne's inventory by reading its list, page by page: many at once cost less than one by one."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from worker.pace.patience import call_patiently
from worker.pingone.client import Call
from worker.pingone.inventory import InventoryToken
from worker.pingone.pages import Page
from worker.pingone.reads import Reads


def find_tokens(reads: Reads, serial_numbers: Collection[str], call: Call) -> dict[str, InventoryToken]:
    """Read the whole list, and keep the tokens with these serial numbers (in small letters), by serial number. It waits
    for its slots however long that takes. Raises any PingOneError, and PaceOutOfReach."""
    found: dict[str, InventoryToken] = {}
    page: Page[InventoryToken] | None = None
    known: set[str | None] = {None}
    while True:
        # One page at a time, so that a wait for a slot does not begin the list anew.
        page = call_patiently(partial(_read_page, reads, page, call))
        for token in page.items:
            if token.serial_number is not None and token.serial_number.lower() in serial_numbers:
                found[token.serial_number.lower()] = token
        if page.next_url in known:
            return found
        known.add(page.next_url)


def _read_page(reads: Reads, after: Page[InventoryToken] | None, call: Call) -> Page[InventoryToken]:
    return next(reads.list_tokens(after=after, call=call))
