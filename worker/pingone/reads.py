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
from worker.pingone.devices import UserDevice, build_user_devices_url, parse_user_devices
from worker.pingone.errors import OutcomeUnknown
from worker.pingone.inventory import (
    InventoryToken,
    build_serial_number_url,
    build_token_url,
    build_tokens_url,
    parse_token,
    parse_tokens,
)
from worker.pingone.pages import Page, check_onward, parse_page
from worker.pingone.users import User, UserAttribute, build_users_url, parse_users
from worker.pingone.wire import (
    build_read_request,
    build_url,
    choose_error,
    find_part,
    open_envelope,
    read_count,
    read_id,
    read_number,
    read_text,
    read_truth,
    read_word,
)

T = TypeVar("T")


class Reads:
    """Reads of one environment, for one thread; `client_of` gives the thread's client for a rate group.

    Every read may raise any PingOneError, and SlotTooFar. After a 429 it waits as PingOne asks, up to
    OATHBULK_LONGEST_HOLD and a few seconds; `list_devices` up to a minute. After a lost answer it is made again, for up
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

    def list_tokens(self, *, after: Page[InventoryToken] | None = None, call: Call) -> Iterator[Page[InventoryToken]]:
        """Go through the inventory, page by page as the caller asks for the next one: up to 100,000 tokens, paired ones
        with device and user. After a failure it can be gone on with `after` the last page that came."""
        url = after.next_url if after else build_tokens_url(self._environment)
        parse = partial(parse_tokens, environment=self._environment)
        return self._read_pages(RateGroup.INVENTORY, url, parse, call)

    def find_token(self, serial_number: str, *, with_devices: bool = True, call: Call) -> InventoryToken | None:
        """Find the token with this serial number; None if the inventory has none. Raises ExpandRefused where PingOne
        does not tell the device in this way: then ask without, and `read_token` with the token's id."""
        url = build_serial_number_url(self._environment, serial_number, with_devices=with_devices)
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
        url = build_token_url(self._environment, token_id)
        return self._read(RateGroup.INVENTORY, url, partial(parse_token, token_id=token_id), call)

    def read_policies(self, *, call: Call) -> list[Policy]:
        """Read the device authentication policies."""
        url = build_policies_url(self._environment)
        parse = partial(parse_policies, environment=self._environment)
        return [policy for page in self._read_pages(RateGroup.CONFIGURATION, url, parse, call) for policy in page.items]

    def read_mfa_settings(self, *, call: Call) -> MfaSettings:
        """Read the MFA settings."""
        url = build_mfa_settings_url(self._environment)
        return self._read(RateGroup.CONFIGURATION, url, parse_mfa_settings, call)

    def read_capabilities(self, *, call: Call) -> Capabilities:
        """Read what the license permits."""
        url = build_capabilities_url(self._environment)
        return self._read(RateGroup.CONFIGURATION, url, parse_capabilities, call)

    def list_devices(self, user_id: str, *, call: Call) -> list[UserDevice]:
        """List the devices of a user, of every type."""
        url = build_user_devices_url(self._environment, user_id)
        parse = partial(parse_user_devices, environment=self._environment)
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


# Devices that a user may have where the MFA settings do not say.
DEFAULT_MAX_DEVICES = 5
# Seconds in the units of a cool-down.
_SECONDS = {"SECONDS": 1, "MINUTES": 60, "HOURS": 3600}
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
    # Users may not pair tokens themselves; whether administrators may is not published.
    is_pairing_disabled: bool | None = None
    # Wrong OTPs after which a device is locked, and for how many seconds.
    failure_count: int | None = None
    cool_down: float | None = None
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
    # Whether MFA is on for new users.
    is_mfa_enabled_for_new_users: bool | None = None


@dataclass(frozen=True)
class Capabilities:
    """What the license of an environment permits. It is not published whether a worker application sees any of it."""

    # None: not known.
    can_use_oath_token: bool | None = None
    # Requests a second that the license grants, by rate group, as far as it says.
    rates: Mapping[RateGroup, float] = field(default_factory=dict)


def build_policies_url(environment: Environment) -> str:
    """Build the address of the policies."""
    return build_url(environment, "deviceAuthenticationPolicies")


def build_mfa_settings_url(environment: Environment) -> str:
    """Build the address of the MFA settings."""
    return build_url(environment, "mfaSettings")


def build_capabilities_url(environment: Environment) -> str:
    """Build the address of the capabilities."""
    return build_url(environment, "capabilities")


def parse_policies(status: int, headers: Mapping[str, str], body: bytes, *, environment: Environment) -> Page[Policy]:
    """Read a page of policies from an answer.
    https://developer.pingidentity.com/pingone-api/mfa/device-authentication-policy/create-device-authentication-policy.html"""
    name = "deviceAuthenticationPolicies"
    return parse_page(status, headers, body, environment=environment, name=name, read_item=_read_policy)


def parse_mfa_settings(status: int, headers: Mapping[str, str], body: bytes) -> MfaSettings:
    """Read the MFA settings from an answer: the operation readMFASettings of the MFA SDK."""
    return _parse(status, headers, body, {"pairing", "lockout", "users"}, _read_mfa_settings)


def parse_capabilities(status: int, headers: Mapping[str, str], body: bytes) -> Capabilities:
    """Read the capabilities from an answer: the schema EnvironmentCapabilities of PingOne's Go client."""
    return _parse(status, headers, body, {"canUseOATHToken", "licenseQuantities"}, _read_capabilities)


def _parse(
    status: int, headers: Mapping[str, str], body: bytes, names: set[str], read: Callable[[Mapping[str, Any]], T]
) -> T:
    """Read an object from a 2xx answer that has one of these fields, or links at least: other JSON is not PingOne's."""
    envelope = open_envelope(status, headers, body)
    fields = envelope.fields or {}
    if not 200 <= status < 300 or not fields.keys() & (names | {"_links"}):
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
        is_pairing_disabled=read_truth(find_part(token, "pairingDisabled")),
        failure_count=read_count(find_part(token, "otp", "failure", "count")),
        cool_down=_read_duration(find_part(token, "otp", "failure", "coolDown")),
        new_device_notification=read_word(fields.get("newDeviceNotification")),
    )


def _read_duration(value: object) -> float | None:
    """Read a duration with its unit, in seconds."""
    duration, unit = read_number(find_part(value, "duration")), read_word(find_part(value, "timeUnit"))
    return duration * _SECONDS[unit] if duration is not None and unit in _SECONDS else None


def _read_mfa_settings(fields: Mapping[str, Any]) -> MfaSettings:
    most, lockout = find_part(fields, "pairing", "maxAllowedDevices"), fields.get("lockout")
    return MfaSettings(
        max_devices=DEFAULT_MAX_DEVICES if most is None else read_count(most),
        has_account_lock=lockout is not None,
        lockout_failures=read_count(find_part(lockout, "failureCount")),
        lockout_seconds=read_number(find_part(lockout, "durationSeconds")),
        is_mfa_enabled_for_new_users=read_truth(find_part(fields, "users", "mfaEnabled")),
    )


def _read_capabilities(fields: Mapping[str, Any]) -> Capabilities:
    limits = {
        group: read_number(find_part(fields, "licenseQuantities", name, "limit")) for group, (name, _) in _RATES.items()
    }
    return Capabilities(
        can_use_oath_token=read_truth(fields.get("canUseOATHToken")),
        rates={group: limit / _RATES[group][1] for group, limit in limits.items() if limit is not None},
    )
