"""The calls to an environment by their purpose: reads before a batch begins, jobs on the inventory, pairings; and the
clients of one process that make these calls, one for each thread, environment and rate group, with access tokens that
all threads share."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from worker.clocks import PingOneClock
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.license_paces import Paces
from worker.pace.search import RateGroup
from worker.pingone.auth import AccessTokens
from worker.pingone.client import Call, Client, Parse
from worker.pingone.configuration import (
    Capabilities,
    MfaSettings,
    Policy,
    parse_capabilities,
    parse_mfa_settings,
    parse_policies,
)
from worker.pingone.devices import (
    OATH_TOKEN,
    PairedDevice,
    Pairing,
    User,
    UserAttribute,
    UserDevice,
    build_pairing_request,
    build_unpair_request,
    build_users_url,
    parse_pairing,
    parse_unpaired,
    parse_user_devices,
    parse_users,
)
from worker.pingone.errors import ExpandRefused, Forbidden, NotFound, OutcomeUnknown, StatusRefused
from worker.pingone.inventory import (
    EXPAND_DEVICES,
    ImportJob,
    InventoryToken,
    NewToken,
    build_import_request,
    build_revocation_request,
    parse_job,
    parse_started_job,
    parse_token,
    parse_tokens,
)
from worker.pingone.transport import LARGEST_BODY, LARGEST_PAGE
from worker.pingone.wire import Page, Request, build_equation, build_url, check_onward

T = TypeVar("T")
# Makes a read, and waits for its slot as long as its caller can wait. Raises whatever the read raises.
MakeRead = Callable[[Callable[[], Any]], Any]


class Calls:
    """Calls to one environment, for one thread. `client_of` gives the thread's client for a rate group."""

    def __init__(self, environment: Environment, client_of: Callable[[RateGroup], Client]) -> None:
        self._environment = environment
        self._client_of = client_of


class Reads(Calls):
    """Reads of one environment, for one thread.

    Every read may raise any PingOneError, and SlotTooFar. After a 429 it waits as PingOne asks, up to
    `Tuning.longest_hold` and a few seconds; `list_devices` up to a minute. After a lost answer it is repeated for up to
    a minute, unless it belongs to a lease. Forbidden means that our roles do not permit this read, which is tried only
    once: its answer stays unknown, without other consequences. A ValueError says that an id or name is empty; then
    nothing was sent."""

    def find_users(self, attribute: UserAttribute, names: Sequence[str], *, call: Call) -> list[User]:
        """Find the users with one of these names, all in one request. Users who are not found do not exist, or are
        outside the populations of our roles. Raises TooManyTerms: then ask for half of them."""
        url = build_users_url(self._environment, attribute, names)
        return [user for page in self._read_pages(RateGroup.DIRECTORY, url, parse_users, call) for user in page.items]

    def list_tokens(self, make_read: MakeRead = lambda read: read(), *, call: Call) -> Iterator[Page[InventoryToken]]:
        """Go through the inventory, page by page as the caller asks: up to 100,000 tokens, paired ones with device and
        user. `make_read` makes the read of each page; by default it does not wait for a distant slot."""
        url = build_url(self._environment, "oathTokens", query=EXPAND_DEVICES)
        return self._read_pages(RateGroup.INVENTORY, url, parse_tokens, call, make_read)

    def find_token(self, serial_number: str, *, with_devices: bool = True, call: Call) -> InventoryToken | None:
        """Find the token with this serial number; None if the inventory has none. Raises ExpandRefused if PingOne does
        not show the device this way: then ask without it, and use `read_token` with the token's id."""
        query = {"filter": build_equation("serialNumber", serial_number)} | (EXPAND_DEVICES if with_devices else {})
        url = build_url(self._environment, "oathTokens", query=query)
        parse = partial(parse_tokens, is_filtered_with_devices=with_devices)
        # Serial numbers are unique, so one page is enough: the first with an item, or else the last.
        pages = self._read_pages(RateGroup.INVENTORY, url, parse, call)
        page = next(page for page in pages if page.items or page.next_url is None)
        # PingOne's filter decided that this is the token; whether the filter is case-sensitive is not published.
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
        pages = self._read_pages(RateGroup.CONFIGURATION, url, parse_policies, call)
        return [policy for page in pages for policy in page.items]

    def read_mfa_settings(self, *, call: Call) -> MfaSettings:
        """Read the MFA settings."""
        return self._read(
            RateGroup.CONFIGURATION, build_url(self._environment, "mfaSettings"), parse_mfa_settings, call
        )

    def read_capabilities(self, *, call: Call) -> Capabilities:
        """Read what the license permits."""
        return self._read(
            RateGroup.CONFIGURATION, build_url(self._environment, "capabilities"), parse_capabilities, call
        )

    def list_devices(self, user_id: str, *, call: Call) -> list[UserDevice]:
        """List the devices of a user, of every type."""
        url = build_url(self._environment, "users", user_id, "devices")
        pages = self._read_pages(RateGroup.MFA, url, parse_user_devices, call)
        return [device for page in pages for device in page.items]

    def _read_pages(
        self,
        group: RateGroup,
        url: str | None,
        parse: Callable[..., Page[T]],
        call: Call,
        make_read: MakeRead = lambda read: read(),
    ) -> Iterator[Page[T]]:
        """Read a list from this address to its end, page by page, each parsed by `parse` for our environment. Raises
        OutcomeUnknown if a page leads back to an earlier one, since the rest of the list is unknown then."""
        known, before = set[str](), None
        parse_page = partial(parse, environment=self._environment)
        while url is not None:
            known.add(url)
            # One page at a time, so that waiting for a slot does not restart the list.
            page: Page[T] = make_read(partial(self._read, group, url, parse_page, call))
            check_onward(page, before, known)
            yield page
            url, before = page.next_url, page

    def _read(self, group: RateGroup, url: str, parse: Parse[T], call: Call) -> T:
        return self._client_of(group).perform(Request("GET", url), parse, call, repeats_forbidden=False)


class InventoryJobs(Calls):
    """Jobs on the inventory of one environment, for one thread.

    Every call may raise any PingOneError, and SlotTooFar. After a 429 it waits as PingOne asks, up to
    `Tuning.longest_hold` and a few seconds. A job is never started again here after OutcomeUnknown: look up first
    whether its tokens are there. A ValueError says that there is no token, a repeated one, or an empty id; then nothing
    was sent. A slot taken in advance must be of RateGroup.INVENTORY."""

    def start_import(self, tokens: Sequence[NewToken], *, call: Call) -> str:
        """Start a job that imports these tokens, and return its id. Raises TooManyTokens: send half of them;
        BadToken: send the others; and AlreadyImported."""
        return self._start(build_import_request(self._environment, tokens), len(tokens), call)

    def start_revocation(self, token_ids: Sequence[str], *, call: Call) -> str:
        """Start a job that revokes the tokens with these ids, none of which may be paired, and return its id. Raises
        TooManyTokens and BadToken, as `start_import` does."""
        return self._start(build_revocation_request(self._environment, token_ids), len(token_ids), call)

    def read_job(self, job_id: str, *, call: Call) -> ImportJob:
        """Ask how far along a job is. PingOne deletes ended jobs, so keep the result when you first see it; NotFound
        means that the job is gone, or was started moments ago and is not visible everywhere yet."""
        # PingOne's own link to the job leads to another path, and is not followed.
        request = Request("GET", build_url(self._environment, "oathJobs", job_id))
        return self._client_of(RateGroup.INVENTORY).perform(request, partial(parse_job, job_id=job_id), call)

    def _start(self, request: Request, count: int, call: Call) -> str:
        """Start a job for a list of this many tokens."""
        return self._client_of(RateGroup.INVENTORY).perform(request, partial(parse_started_job, count=count), call)


@dataclass
class PairingHabits:
    """Which kinds of requests an environment accepts, as its answers have shown; one object for each process. Each
    value only changes from True to False, so no lock is needed."""

    takes_status: bool = True
    # Whether a filter by serial number shows the token's device too.
    shows_devices_with_filter: bool = True


class Pairings(Reads):
    """Pairings in one environment, for one thread.

    `status` is the status of new devices (ACTIVATION_REQUIRED or ACTIVE); None leaves it to PingOne. Every call may
    raise any PingOneError, and SlotTooFar. A pairing is never made again here after OutcomeUnknown: look it up first. A
    ValueError says that an id is empty, or would lead to another path; then nothing was sent."""

    def __init__(
        self,
        environment: Environment,
        client_of: Callable[[RateGroup], Client],
        *,
        status: str | None,
        habits: PairingHabits | None = None,
    ) -> None:
        super().__init__(environment, client_of)
        self._status = status
        self._habits = habits or PairingHabits()

    def pair(self, user_id: str, serial_number: str, *, call: Call) -> PairedDevice:
        """Pair the token with the user, and return the device, which may be ACTIVE already.

        If PingOne refuses the status, the request made nothing: it is repeated at once without the status, with its own
        slot and after `call.permit`, and later requests omit the status too. Raises TokenNotInInventory, AlreadyPaired,
        MethodOff, TooManyDevices, AccountNotUsable, LicenseExceeded; NotFound for an unknown user."""
        status = self._status if self._habits.takes_status else None
        try:
            return self._pair(user_id, serial_number, status, call)
        except StatusRefused:
            if status is None:
                raise
        self._habits.takes_status = False
        return self._pair(user_id, serial_number, None, call)

    def unpair(self, user_id: str, device_id: str, *, call: Call) -> bool:
        """Remove the device from the user; the token stays in the inventory. Returns whether there was one: False if it
        was already gone."""
        request = build_unpair_request(self._environment, user_id, device_id)
        return self._client_of(RateGroup.MFA).perform(request, parse_unpaired, call)

    def find_pairing(self, serial_number: str, user_id: str, *, call: Call) -> Pairing | None:
        """Look up whom the token is paired with; None if it is paired with nobody, as far as we can see. If we may not
        read the inventory, this user's devices are read: then None only means that the token is not paired with this
        user. Raises NotFound if PingOne shows the token in one place but not in another; Forbidden if the devices do
        not show their serial numbers either. A slot taken in advance must be of RateGroup.MFA, and is kept for a call
        of that group."""
        try:
            with _keep_slot(call):
                token = self._find_token(serial_number, call)
        except Forbidden as forbidden:
            return self._find_among_devices(serial_number, user_id, forbidden, call)
        return Pairing(token.device_id, token.user_id, token.id) if token and token.device_id else None

    def _pair(self, user_id: str, serial_number: str, status: str | None, call: Call) -> PairedDevice:
        request = build_pairing_request(self._environment, user_id, serial_number, status=status)
        parse = partial(parse_pairing, serial_number=serial_number, user_id=user_id)
        return self._client_of(RateGroup.MFA).perform(request, parse, call)

    def _find_token(self, serial_number: str, call: Call) -> InventoryToken | None:
        """Find the token with its device, by serial number if that shows both, otherwise by its id. Whether a filter
        can show devices is not published, and "no device" allows a pairing: so that answer counts only if the token's
        own page confirms it."""
        token = self._find_by_serial_number(serial_number, call)
        if token is None or token.user_id is not None:
            return token
        # If this read does not find the token, it may be revoked or not visible everywhere yet: nothing is known.
        whole = self.read_token(token.id, call=call)
        if whole.device_id is not None and token.device_id is None:
            self._habits.shows_devices_with_filter = False
        return whole

    def _find_by_serial_number(self, serial_number: str, call: Call) -> InventoryToken | None:
        if self._habits.shows_devices_with_filter:
            try:
                return self.find_token(serial_number, call=call)
            except ExpandRefused:
                self._habits.shows_devices_with_filter = False
        return self.find_token(serial_number, with_devices=False, call=call)

    def _find_among_devices(self, serial_number: str, user_id: str, forbidden: Forbidden, call: Call) -> Pairing | None:
        if not user_id:
            raise forbidden
        try:
            tokens = [device for device in self.list_devices(user_id, call=call) if device.type == OATH_TOKEN]
        except NotFound:
            # A user who does not exist has no device.
            return None
        for device in tokens:
            if device.serial_number is not None and device.serial_number.lower() == serial_number.lower():
                return Pairing(device.id, user_id)
        if any(device.serial_number is None for device in tokens):
            raise forbidden
        return None


@contextmanager
def _keep_slot(call: Call) -> Iterator[None]:
    """Let the calls within this block wait for slots of their own group."""
    slot, call.slot = call.slot, None
    try:
        yield
    finally:
        call.slot = slot


# Seconds during which a call may start another try: after that, an activation returns to the queue.
RETRY_FOR = 10.0
# Seconds beyond the longest hold during which a call of another group may start another try: it has no lease that would
# end, and a limit per minute can make it wait for most of a minute.
READ_RETRY_FOR = 10.0


class Clients:
    """The clients of one process, one for each thread, environment and rate group. Thread-safe. `reread` returns an
    environment with the credentials that are configured now."""

    def __init__(
        self, settings: Settings, paces: Paces, reread: Callable[[Environment], Environment] | None = None
    ) -> None:
        self._settings = settings
        self._paces = paces
        self._reread = reread
        self._lock = threading.Lock()
        self._access_tokens: dict[str, tuple[Environment, AccessTokens]] = {}
        self._clocks: dict[str, PingOneClock] = {}
        self._habits: dict[str, PairingHabits] = {}
        self._thread = threading.local()

    def client(self, environment: Environment, group: RateGroup = RateGroup.MFA) -> Client:
        """The calling thread's own client, at the pace of this rate group: threads that shared one would wait for each
        other."""
        clients: dict[tuple[str, RateGroup], Client] = self._thread.__dict__.setdefault("clients", {})
        if (environment.name, group) not in clients:
            tuning, is_activating = self._settings.tuning, group is RateGroup.MFA
            clients[environment.name, group] = Client(
                environment,
                self.access_tokens(environment),
                self._paces.of(environment, group),
                clock=self.clock(environment),
                deadline=tuning.call_deadline,
                outage_hold=tuning.outage_hold,
                retry_for=RETRY_FOR if is_activating else tuning.longest_hold + READ_RETRY_FOR,
                largest_body=LARGEST_BODY if is_activating else LARGEST_PAGE,
            )
        return clients[environment.name, group]

    def reads(self, environment: Environment) -> Reads:
        """The calling thread's reads of an environment before a batch begins."""
        return Reads(environment, partial(self.client, environment))

    def jobs(self, environment: Environment) -> InventoryJobs:
        """The calling thread's jobs on the inventory, which import and revoke many tokens at a time."""
        return InventoryJobs(environment, partial(self.client, environment))

    def pairings(self, environment: Environment) -> Pairings:
        """The calling thread's pairings. Once an environment has refused a kind of request, no thread tries it
        again."""
        status = None if environment.pairing_status == "omit" else environment.pairing_status
        with self._lock:
            habits = self._habits.setdefault(environment.name, PairingHabits())
        return Pairings(environment, partial(self.client, environment), status=status, habits=habits)

    def clock(self, environment: Environment) -> PingOneClock:
        """The environment's clock, one object for each process: every thread's answers set it for all of them."""
        with self._lock:
            return self._clocks.setdefault(environment.name, PingOneClock())

    def access_tokens(self, environment: Environment) -> AccessTokens:
        """The environment's access tokens, one object for each process: one renewal, however many threads wait for
        it."""
        with self._lock:
            if environment.name not in self._access_tokens:
                deadline, longest_hold = self._settings.tuning.call_deadline, self._settings.tuning.longest_hold
                tokens = AccessTokens(environment, deadline=deadline, longest_hold=longest_hold, reread=self._reread)
                self._access_tokens[environment.name] = environment, tokens
            return self._access_tokens[environment.name][1]

    def end_pauses(self, license: str) -> None:
        """End the pauses that the token endpoints of a license asked for, because a person ended its hold: the next
        call asks them again."""
        with self._lock:
            known = list(self._access_tokens.values())
        for environment, tokens in known:
            if environment.license == license:
                tokens.end_pause()
