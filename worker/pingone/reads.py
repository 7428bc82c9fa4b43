"""What PingOne knows before a batch begins: users and their devices, the inventory of tokens, and how the environment
is configured.

The sources of what is configured are the vendor's pages and its public SDKs:
https://developer.pingidentity.com/pingone-api/mfa/device-authentication-policy.html
https://github.com/patrickcping/pingone-go-sdk-v2/blob/main/mfa/generate/pingone-mfa.yml
https://github.com/pingidentity/pingone-go-client/blob/main/pingone/api/openapi.yaml
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from worker.config.environment import Environment
from worker.pace.rate_groups import RateGroup
from worker.pingone.client import Call, Client, Parse
from worker.pingone.devices import UserDevice, parse_user_devices
from worker.pingone.errors import OutcomeUnknown
from worker.pingone.inventory import EXPAND_DEVICES, InventoryToken, parse_token, parse_tokens
from worker.pingone.pages import Page, build_equation, check_onward, parse_page
from worker.pingone.users import User, UserAttribute, build_users_url, parse_users
from worker.pingone.wire import (
    Envelope,
    Request,
    build_url,
    choose_error,
    find_part,
    read_count,
    read_id,
    read_number,
    read_text,
    read_truth,
    read_word,
)

T = TypeVar("T")
# Makes a read, and waits for its slot as long as its caller can wait. It raises what the read raises.
MakeRead = Callable[[Callable[[], Any]], Any]


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
        url = build_users_url(self._environment, attribute, names)
        parse = partial(parse_users, environment=self._environment)
        return [user for page in self._read_pages(RateGroup.DIRECTORY, url, parse, call) for user in page.items]

    def list_tokens(self, make_read: MakeRead = lambda read: read(), *, call: Call) -> Iterator[Page[InventoryToken]]:
        """Go through the inventory, page by page as the caller asks for the next one: up to 100,000 tokens, paired ones
        with device and user. `make_read` makes the read of each page; by default it does not wait for a slot that is
        far."""
        url = build_url(self._environment, "oathTokens", query=EXPAND_DEVICES)
        parse = partial(parse_tokens, environment=self._environment)
        return self._read_pages(RateGroup.INVENTORY, url, parse, call, make_read)

    def find_token(self, serial_number: str, *, with_devices: bool = True, call: Call) -> InventoryToken | None:
        """Find the token with this serial number; None if the inventory has none. Raises ExpandRefused where PingOne
        does not tell the device in this way: then ask without, and `read_token` with the token's id."""
        query = {"filter": build_equation("serialNumber", serial_number)} | (EXPAND_DEVICES if with_devices else {})
        url = build_url(self._environment, "oathTokens", query=query)
        parse = partial(parse_tokens, environment=self._environment, is_filtered_with_devices=with_devices)
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
        url = build_url(self._environment, "oathTokens", token_id, query=EXPAND_DEVICES)
        return self._read(RateGroup.INVENTORY, url, partial(parse_token, token_id=token_id), call)

    def read_policies(self, *, call: Call) -> list[Policy]:
        """Read the device authentication policies."""
        url = build_url(self._environment, "deviceAuthenticationPolicies")
        parse = partial(parse_policies, environment=self._environment)
        return [policy for page in self._read_pages(RateGroup.CONFIGURATION, url, parse, call) for policy in page.items]

    def read_mfa_settings(self, *, call: Call) -> MfaSettings:
        """Read the MFA settings."""
        return self._read(
            RateGroup.CONFIGURATION, build_url(self._environment, "mfaSettings"), parse_mfa_settings, call
        )

    def read_capabilities(self, *, call: Call) -> Capabilities:
        """Read what the license permits."""
        url = build_url(self._environment, "capabilities")
        return self._read(RateGroup.CONFIGURATION, url, parse_capabilities, call)

    def list_devices(self, user_id: str, *, call: Call) -> list[UserDevice]:
        """List the devices of a user, of every type."""
        url = build_url(self._environment, "users", user_id, "devices")
        parse = partial(parse_user_devices, environment=self._environment)
        return [device for page in self._read_pages(RateGroup.MFA, url, parse, call) for device in page.items]

    def _read_pages(
        self,
        group: RateGroup,
        url: str | None,
        parse: Parse[Page[T]],
        call: Call,
        make_read: MakeRead = lambda read: read(),
    ) -> Iterator[Page[T]]:
        """Read a list from this address to its end, page by page. Raises OutcomeUnknown if the pages lead back to one
        of them, since the rest of the list is not known then."""
        known, before = set[str](), None
        while url is not None:
            known.add(url)
            # One page at a time, so that a wait for a slot does not begin the list anew.
            page: Page[T] = make_read(partial(self._read, group, url, parse, call))
            check_onward(page, before, known)
            yield page
            url, before = page.next_url, page

    def _read(self, group: RateGroup, url: str, parse: Parse[T], call: Call) -> T:
        request = Request("GET", url)
        return self._client_of(group).perform(request, parse, call, repeats_forbidden=False)


# Devices that a user may have where the MFA settings do not say.
DEFAULT_MAX_DEVICES = 5
# What a license grants each rate group, in PingOne's words, and in how many seconds. The inventory's is not published.
_RATES = {
    RateGroup.MFA: ("rlgMfaRps", 1),
    RateGroup.DIRECTORY: ("rlgDirAccessRps", 1),
    RateGroup.CONFIGURATION: ("rlgConfigRpm", 60),
}


@dataclass(frozen=True)
class Policy:
    """A device authentication policy. None: not known. In a new policy OATH tokens are off."""

    id: str
    name: str | None = None
    # It is in force where a pairing names no policy.
    is_default: bool | None = None
    is_oath_enabled: bool | None = None
    # Wrong OTPs after which a device is locked.
    failure_count: int | None = None
    # NONE, EMAIL_THEN_SMS, SMS_THEN_EMAIL, or a word that we do not know; None where the policy says nothing of it, so
    # that PingOne's default holds.
    new_device_notification: str | None = None


@dataclass(frozen=True)
class MfaSettings:
    """The MFA settings of an environment. None: not known."""

    max_devices: int | None = None
    # Whether wrong OTPs lock the user's account; then after how many, and for how many seconds.
    has_account_lock: bool | None = None
    lockout_failures: int | None = None
    lockout_seconds: float | None = None


@dataclass(frozen=True)
class Capabilities:
    """What the license of an environment permits. It is not published whether a worker application sees any of it."""

    # None: not known.
    can_use_oath_token: bool | None = None
    # Requests a second that the license grants, by rate group, as far as it says.
    rates: Mapping[RateGroup, float] = field(default_factory=dict)


def parse_policies(envelope: Envelope, *, environment: Environment) -> Page[Policy]:
    """Read a page of policies from an answer.
    https://developer.pingidentity.com/pingone-api/mfa/device-authentication-policy/create-device-authentication-policy.html"""
    name = "deviceAuthenticationPolicies"
    return parse_page(envelope, environment=environment, name=name, read_item=_read_policy)


def parse_mfa_settings(envelope: Envelope) -> MfaSettings:
    """Read the MFA settings from an answer: the operation readMFASettings of the MFA SDK."""
    return _parse(envelope, {"pairing", "lockout", "users"}, _read_mfa_settings)


def parse_capabilities(envelope: Envelope) -> Capabilities:
    """Read the capabilities from an answer: the schema EnvironmentCapabilities of PingOne's Go client."""
    return _parse(envelope, {"canUseOATHToken", "licenseQuantities"}, _read_capabilities)


def _parse(envelope: Envelope, names: set[str], read: Callable[[Mapping[str, Any]], T]) -> T:
    """Read an object from a 2xx answer that has one of these fields, or links at least: other JSON is not PingOne's."""
    fields = envelope.fields
    if not envelope.is_success or not fields.keys() & (names | {"_links"}):
        raise choose_error(envelope)
    return read(fields)


def _read_policy(fields: Mapping[str, Any]) -> Policy | None:
    policy_id = read_id(fields.get("id"))
    if policy_id is None:
        return None
    token = fields.get("oathToken")
    return Policy(
        id=policy_id,
        name=read_text(fields.get("name")),
        is_default=read_truth(fields.get("default")),
        is_oath_enabled=read_truth(find_part(token, "enabled")),
        failure_count=read_count(find_part(token, "otp", "failure", "count")),
        new_device_notification=read_word(fields.get("newDeviceNotification")),
    )


def _read_mfa_settings(fields: Mapping[str, Any]) -> MfaSettings:
    most, lockout = find_part(fields, "pairing", "maxAllowedDevices"), fields.get("lockout")
    return MfaSettings(
        max_devices=DEFAULT_MAX_DEVICES if most is None else read_count(most),
        has_account_lock=lockout is not None,
        lockout_failures=read_count(find_part(lockout, "failureCount")),
        lockout_seconds=read_number(find_part(lockout, "durationSeconds")),
    )


def _read_capabilities(fields: Mapping[str, Any]) -> Capabilities:
    limits = {
        group: read_number(find_part(fields, "licenseQuantities", name, "limit")) for group, (name, _) in _RATES.items()
    }
    return Capabilities(
        can_use_oath_token=read_truth(fields.get("canUseOATHToken")),
        rates={group: limit / _RATES[group][1] for group, limit in limits.items() if limit is not None},
    )
