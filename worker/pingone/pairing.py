"""Pairs tokens with users, unpairs them, and looks up whom a token is paired with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from worker.config.environment import Environment
from worker.pace.rate_groups import RateGroup
from worker.pingone.client import Call, Client
from worker.pingone.devices import (
    OATH_TOKEN,
    PairedDevice,
    Pairing,
    build_pairing_request,
    build_unpair_request,
    parse_pairing,
    parse_unpaired,
)
from worker.pingone.errors import ExpandRefused, Forbidden, StatusRefused
from worker.pingone.inventory import InventoryToken
from worker.pingone.reads import Reads


@dataclass
class PairingHabits:
    """What an environment takes, as its answers have shown; one object a process, for every thread. It only ever goes
    from True to False, so that no lock is needed."""

    takes_status: bool = True
    # Whether a filter by serial number shows the token's device too.
    shows_devices_with_filter: bool = True


class Pairings:
    """Pairings in one environment, for one thread; `client_of` gives the thread's client for a rate group.

    `status` is the one that devices are made with (ACTIVATION_REQUIRED or ACTIVE); None leaves it to PingOne. Every
    call may raise any PingOneError, and SlotTooFar. A pairing is never made again here after OutcomeUnknown: look it up
    first. A ValueError says that an id is empty, or leads elsewhere; then nothing was sent."""

    def __init__(
        self,
        environment: Environment,
        client_of: Callable[[RateGroup], Client],
        *,
        status: str | None,
        habits: PairingHabits | None = None,
    ) -> None:
        self._environment = environment
        self._client_of = client_of
        self._reads = Reads(environment, client_of)
        self._status = status
        self._habits = habits or PairingHabits()

    def pair(self, user_id: str, serial_number: str, *, call: Call) -> PairedDevice:
        """Pair the token with the user, and return the device, which may be ACTIVE already.

        A refused status is left out from then on, and the request made again at once, for it made nothing: with a slot
        of its own, and after `call.permit`. Raises TokenNotInInventory, AlreadyPaired, MethodOff, TooManyDevices,
        AccountNotUsable, LicenseExceeded; NotFound for an unknown user."""
        status = self._status if self._habits.takes_status else None
        try:
            return self._pair(user_id, serial_number, status, call)
        except StatusRefused:
            if status is None:
                raise
        self._habits.takes_status = False
        return self._pair(user_id, serial_number, None, call)

    def unpair(self, user_id: str, device_id: str, *, call: Call) -> bool:
        """Remove the device from the user; the token stays in the inventory. Returns whether there was one: False where
        it was gone already."""
        request = build_unpair_request(
            self._environment,
            user_id,
            device_id,
        )
        return self._client_of(RateGroup.MFA).perform(request, parse_unpaired, call)

    def find_pairing(self, serial_number: str, user_id: str, *, call: Call) -> Pairing | None:
        """Look up whom the token is paired with; None if it is paired with nobody, as far as can be seen.

        Where the inventory may not be read, the devices of this user are: then None only says that the token is not
        paired with this one. Raises NotFound where PingOne shows the token in one place and not in another; Forbidden
        where the devices do not tell their serial numbers either. A slot in hand is one of RateGroup.MFA, and kept for
        a call of that group."""
        try:
            with _keep_slot(call):
                token = self._find_token(serial_number, call)
        except Forbidden as forbidden:
            return self._find_among_devices(serial_number, user_id, forbidden, call)
        return Pairing(token.device_id, token.user_id, token.id) if token and token.device_id else None

    def _pair(self, user_id: str, serial_number: str, status: str | None, call: Call) -> PairedDevice:
        request = build_pairing_request(
            self._environment,
            user_id,
            serial_number,
            status=status,
        )
        parse = partial(parse_pairing, serial_number=serial_number, user_id=user_id)
        return self._client_of(RateGroup.MFA).perform(request, parse, call)

    def _find_token(self, serial_number: str, call: Call) -> InventoryToken | None:
        """Find the token with its device, by serial number if that shows both, or else by its id.

        Whether a filter goes together with devices is not published, and "no device" lets a token be paired: so it is
        believed only when the token's own page says so too."""
        token = self._find_by_serial_number(serial_number, call)
        if token is None or token.user_id is not None:
            return token
        # Where that is not found, the token may be revoked or not be seen everywhere yet: then nothing is known.
        whole = self._reads.read_token(token.id, call=call)
        if whole.device_id is not None and token.device_id is None:
            self._habits.shows_devices_with_filter = False
        return whole

    def _find_by_serial_number(self, serial_number: str, call: Call) -> InventoryToken | None:
        if self._habits.shows_devices_with_filter:
            try:
                return self._reads.find_token(serial_number, call=call)
            except ExpandRefused:
                self._habits.shows_devices_with_filter = False
        return self._reads.find_token(serial_number, with_devices=False, call=call)

    def _find_among_devices(self, serial_number: str, user_id: str, forbidden: Forbidden, call: Call) -> Pairing | None:
        tokens = [each for each in self._reads.list_devices(user_id, call=call) if each.type == OATH_TOKEN]
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
