"""How a call fails; each error is named by what the caller may do next.

PingOneError
├── NotDelivered          no byte of the request went out: the same call may be made again
│   └── TooLateToSend     the caller's own deadline for sending had passed; no sign of an outage
├── NotActedOn            PingOne answered and did nothing: the same call may be made again
│   ├── RateLimited       over the license's rate
│   ├── Unauthorized      the access token was refused, and so was a fresh one
│   ├── Forbidden         missing roles, or throttling in disguise
│   │   └── LicenseExceeded   the license permits no further device: neither a role nor waiting helps
│   ├── NotFound          no such device, or not yet
│   └── ProtocolFault     our request was malformed: wrong method or media type
│       └── ForeignLink   the next page is outside our environment's API, and was not requested
├── OutcomeUnknown        the request went out, but no readable answer came: read the device before anything else
│   └── OtherDevice       the answer is about something else, and belongs to another request
├── ResyncRequired        the OTP is out of step: the next one completes the activation
├── InvalidOtp            the OTP was refused
├── Rejected              any other refusal
│   ├── TooManyTerms      the filter is too long: ask for half of it at a time (a single term is Rejected)
│   ├── ExpandRefused     a filter and `expand` cannot be combined: use only one of them
│   ├── TooManyTokens     the list is too long: send half of it at a time (a single token is Rejected)
│   ├── InventoryFull     the environment has the maximum number of tokens: revoke some first
│   ├── AlreadyImported   a token in the list exists: send half of it at a time, and compare the last one
│   ├── BadToken          one token of the list is refused, and none was made: send the others without it
│   ├── TokenNotInInventory   no token has this serial number: import it, then pair
│   ├── AlreadyPaired     the token is paired with somebody: look up with whom
│   ├── MethodOff         the policy does not permit OATH tokens: switch them on, then pair
│   ├── TooManyDevices    the user has the maximum number of devices: remove one first
│   ├── AccountNotUsable  the user is disabled or locked: an administrator has to change that first
│   └── StatusRefused     no device may be created with a status: pair without one
└── CredentialsRefused    the token endpoint refused the client id or secret
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Answer:
    """What PingOne said, safe for a log and a database: short printable text, free of OTPs and secrets."""

    # The HTTP status.
    status: int | None = None
    # `code`, and the `details[].code` that decides.
    code: str | None = None
    detail_code: str | None = None
    error_id: str | None = None
    # Finds the call in the vendor's audit log.
    correlation_id: str | None = None
    # The answer's message; if no answer came, what happened instead.
    message: str | None = None

    def __str__(self) -> str:
        parts = [f"HTTP {self.status}" if self.status else None, self.code, self.detail_code, self.message]
        ids = {"error id": self.error_id, "correlation id": self.correlation_id}
        return ", ".join([*filter(None, parts), *(f"{name} {value}" for name, value in ids.items() if value)])


NO_ANSWER = Answer()


class PingOneError(Exception):
    """A call that did not do its job. `retry_after` is in seconds, if a pause was requested. All constructor arguments
    are kept in `args`, so that the error can be copied and pickled."""

    def __init__(self, answer: Answer = NO_ANSWER, retry_after: float | None = None, *details: object) -> None:
        super().__init__(answer, retry_after, *details)
        self.answer, self.retry_after = answer, retry_after

    def __str__(self) -> str:
        return str(self.answer)


class NotDelivered(PingOneError):
    """No byte went out: DNS, the connection, TLS, or the proxy failed, or there was no access token. Only the token
    endpoint can have asked for a pause."""


class TooLateToSend(NotDelivered):
    """The first byte would have gone out after the caller's `send_before`."""


class NotActedOn(PingOneError):
    """PingOne answered, and the answer says that it did nothing."""


class RateLimited(NotActedOn):
    """The request was over the rate; if a quota is used up, `quota_reset_at` says when it is reset, in UTC."""

    def __init__(
        self,
        answer: Answer = NO_ANSWER,
        retry_after: float | None = None,
        quota_reset_at: datetime | None = None,
    ) -> None:
        super().__init__(answer, retry_after, quota_reset_at)
        self.quota_reset_at = quota_reset_at


class Unauthorized(NotActedOn):
    """The access token was refused."""


class Forbidden(NotActedOn):
    """The worker application lacks a role, or the service throttles without saying so."""


class LicenseExceeded(Forbidden):
    """The license permits no further device, or no OATH token. Recognized only for pairings; elsewhere it is
    Forbidden."""


class NotFound(NotActedOn):
    """No such user or device; just after a creation it may not be replicated yet."""


class ProtocolFault(NotActedOn):
    """Wrong method or media type: a bug of this program, the same for every record."""


class ForeignLink(ProtocolFault):
    """The page was read, but the address of the next one leads to another host or environment, where our access token
    is not sent."""


class OutcomeUnknown(PingOneError):
    """The first byte went out and no readable answer came back."""

    @property
    def is_over(self) -> bool:
        """Whether PingOne is done with the request: it answered 2xx itself, but without the device's status. Only 202
        says that it is still working."""
        status = self.answer.status or 0
        return 200 <= status < 300 and status != 202 and self.answer.correlation_id is not None


class OtherDevice(OutcomeUnknown):
    """The answer names another device, user, token or job than the request did."""

    @property
    def is_over(self) -> bool:
        """Never: another request's answer says nothing about this one."""
        return False


class ResyncRequired(PingOneError):
    """EXTRA_OTP_REQUIRED: the next consecutive OTP, sent with `oathResync`, completes the activation."""


class InvalidOtp(PingOneError):
    """INVALID_OTP: the OTP was refused."""


class Rejected(PingOneError):
    """A refusal that no other error describes; the answer has its codes."""


class TooManyTerms(Rejected):
    """The filter has too many terms, or is too long for a server in between: ask for half of it at a time. A filter
    with a single term is `Rejected` instead."""


class ExpandRefused(Rejected):
    """A filter and `expand` do not work together here: ask for the token's devices by its id."""


class TooManyTokens(Rejected):
    """The list of tokens is too long, for PingOne or for a server in between: nothing was done; send half of it at a
    time. A list of one token is `Rejected` instead."""


class InventoryFull(Rejected):
    """The environment has the maximum number of tokens: nothing was done."""


class AlreadyImported(Rejected):
    """The inventory has a token of the list already, and nothing was done."""


class BadToken(Rejected):
    """One token of a list is refused, and with it the whole list: nothing was done."""

    def __init__(self, answer: Answer = NO_ANSWER, index: int | None = None, field: str | None = None) -> None:
        super().__init__(answer)
        self.args = (answer, index, field)
        # Its place in the list, from 0; None if the answer does not say. That PingOne counts from 0 is not published:
        # send the token alone before giving up on it.
        self.index = index
        # Which of its fields is refused, in PingOne's words.
        self.field = field


class TokenNotInInventory(Rejected):
    """The inventory has no token with this serial number, or does not show it yet."""


class AlreadyPaired(Rejected):
    """The token is paired already, with this user or with another."""


class MethodOff(Rejected):
    """The policy does not permit OATH tokens."""


class TooManyDevices(Rejected):
    """The user has the maximum number of devices, or too many that wait for activation."""


class AccountNotUsable(Rejected):
    """ACCOUNT_NOT_USABLE to a pairing: the user is disabled or locked."""


class StatusRefused(Rejected):
    """The `status` for a new device is refused, and no device was made."""


class CredentialsRefused(PingOneError):
    """The token endpoint refused the worker application, or is not a token endpoint at all."""
