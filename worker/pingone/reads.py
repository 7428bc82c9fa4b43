"""What PingOne knows before a batch begins: users, the inventory of tokens, policies and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from worker.config.environment import Environment
from worker.pace.rate_groups import RateGroup
from worker.pingone import configuration, inventory, user_devices, users
from worker.pingone.client import Call, Client
from worker.pingone.configuration import Capabilities, MfaSettings, Policy
from worker.pingone.errors import OutcomeUnknown
from worker.pingone.inventory import InventoryToken
from worker.pingone.pages import Page, check_onward
from worker.pingone.user_devices import UserDevice
from worker.pingone.users import User, UserAttribute
from worker.pingone.wire import build_read_request

T = TypeVar("T")

# Makes a result of an answer's status, headers and body, or raises the error that they stand for.
Parse = Callable[[int, Mapping[str, str], bytes], T]


class Reads:
    """Reads of one environment, for one thread; `client_of` gives the thread's client for a rate group.

    Every read may raise any PingOneError, and SlotTooFar. After a 429 it waits as PingOne asks, up to
    `Tuning.longest_hold` and a few seconds; `list_devices` up to a minute. After a lost answer it is made again, for up
    to a minute, unless it goes on behalf of a lease. Forbidden says that our roles do not permit this read, which is
    asked once: then what it would tell is not known, and nothing else follows. A ValueError says that an id or name is
    empty; then nothing was sent."""

    def __init__(self, environment: Environment, client_of: Callable[[RateGroup], Client]) -> None:
        self._environment = environment
        self._client_of = client_of

    def find_users(self, attribute: UserAttribute, names: Sequence[str], *, call: Call) -> list[User]:
        """Find the users with one of these names, all in one request: NAMES_PER_REQUEST are safe. Who is not found
        does not exist, or is outside the populations of our roles. Raises TooManyTerms: ask for half of them."""
        url = users.build_users_url(self._environment, attribute, names)
        parse = partial(users.parse_users, environment=self._environment)
        return [user for page in self._read_pages(RateGroup.DIRECTORY, url, parse, call) for user in page.items]

    def list_tokens(self, *, after: Page[InventoryToken] | None = None, call: Call) -> Iterator[Page[InventoryToken]]:
        """Go through the inventory, page by page as the caller asks for the next one: up to 100,000 tokens, paired ones
        with device and user. After a failure it can be gone on with `after` the last page that came."""
        url = after.next_url if after else inventory.build_tokens_url(self._environment)
        parse = partial(inventory.parse_tokens, environment=self._environment)
        return self._read_pages(RateGroup.INVENTORY, url, parse, call)

    def find_token(self, serial_number: str, *, with_devices: bool = True, call: Call) -> InventoryToken | None:
        """Find the token with this serial number; None if the inventory has none. Raises ExpandRefused where PingOne
        does not tell the device in this way: then ask without, and `read_token` with the token's id."""
        url = inventory.build_serial_number_url(self._environment, serial_number, with_devices=with_devices)
        parse = partial(inventory.parse_tokens, environment=self._environment, is_filtered_with_devices=with_devices)
        # A serial number is unique, so that one page is enough: the first that has an item, or else the last.
        pages = self._read_pages(RateGroup.INVENTORY, url, parse, call)
        page = next(page for page in pages if page.items or page.next_url is None)
        # PingOne's filter decided that it is this one; whether it tells small letters from capitals is not published.
        wanted = serial_number.casefold()
        found = next((token for token in page.items if (token.serial_number or "").casefold() == wanted), None)
        if page.items and found is None:
            raise OutcomeUnknown(replace(page.answer, message="the answer is about other tokens"))
        return found

    def read_token(self, token_id: str, *, call: Call) -> InventoryToken:
        """Read the token with this id, with device and user if it is paired."""
        url = inventory.build_token_url(self._environment, token_id)
        return self._read(RateGroup.INVENTORY, url, partial(inventory.parse_token, token_id=token_id), call)

    def read_policies(self, *, call: Call) -> list[Policy]:
        """Read the device authentication policies."""
        url = configuration.build_policies_url(self._environment)
        parse = partial(configuration.parse_policies, environment=self._environment)
        return [policy for page in self._read_pages(RateGroup.CONFIGURATION, url, parse, call) for policy in page.items]

    def read_mfa_settings(self, *, call: Call) -> MfaSettings:
        """Read the MFA settings."""
        url = configuration.build_mfa_settings_url(self._environment)
        return self._read(RateGroup.CONFIGURATION, url, configuration.parse_mfa_settings, call)

    def read_capabilities(self, *, call: Call) -> Capabilities:
        """Read what the license permits."""
        url = configuration.build_capabilities_url(self._environment)
        return self._read(RateGroup.CONFIGURATION, url, configuration.parse_capabilities, call)

    def list_devices(self, user_id: str, *, call: Call) -> list[UserDevice]:
        """List the devices of a user, of every type."""
        url = user_devices.build_user_devices_url(self._environment, user_id)
        parse = partial(user_devices.parse_user_devices, environment=self._environment)
        return [device for page in self._read_pages(RateGroup.MFA, url, parse, call) for device in page.items]

    def _read_pages(self, group: RateGroup, url: str | None, parse: Parse[Page[T]], call: Call) -> Iterator[Page[T]]:
        """Read a list from this address to its end, page by page. Raises OutcomeUnknown if the pages lead back to one
        of them."""
        known, before = set[str](), None
        while url is not None:
            known.add(url)
            page = self._read(group, url, parse, call)
            check_onward(page, before, known)
            yield page
            url, before = page.next_url, page

    def _read(self, group: RateGroup, url: str, parse: Parse[T], call: Call) -> T:
        request = build_read_request(url, session_id=call.session_id, transaction_id=call.transaction_id)
        return self._client_of(group).perform(request, parse, call, repeats_forbidden=False)
