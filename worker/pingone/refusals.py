"""The refusals that concern what was asked for, each named by what the caller may do next. `errors` has the table of
all failures."""

from __future__ import annotations

from worker.pingone.errors import NO_ANSWER, Answer, PingOneError


class Rejected(PingOneError):
    """A refusal that none of the other names fits; its codes are in the answer."""


class TooManyTerms(Rejected):
    """The filter has too many terms, or is too long for a server on the way: half of it may be asked for at a time. A
    filter of a single term is refused as such."""


class ExpandRefused(Rejected):
    """A filter and `expand` do not go together here: the token's devices have to be asked for by its id."""


class TooManyTokens(Rejected):
    """The list of tokens is too long, for PingOne or for a server on the way: nothing was done, and half of it may be
    sent at a time. A list of one token is refused as such."""


class InventoryFull(Rejected):
    """The environment has as many tokens as it may have: nothing was done."""


class AlreadyImported(Rejected):
    """The inventory has a token of the list already, and nothing was done."""


class BadToken(Rejected):
    """One token of a list is refused, and with it the list: nothing was done."""

    def __init__(self, answer: Answer = NO_ANSWER, index: int | None = None, field: str | None = None) -> None:
        super().__init__(answer, index, field)
        # Its place in the list, from 0; None where the answer does not tell it. That PingOne counts from 0 is not
        # published: send the token by itself before it is given up.
        self.index = index
        # Which of its fields is refused, in PingOne's words.
        self.field = field


class TokenNotInInventory(Rejected):
    """The inventory has no token with this serial number, or does not see it yet."""


class AlreadyPaired(Rejected):
    """The token is paired already, with this user or with another."""


class MethodOff(Rejected):
    """OATH tokens are off in the policy in force."""


class TooManyDevices(Rejected):
    """The user has as many devices as permitted, or too many that wait for activation."""

    def __init__(self, answer: Answer = NO_ANSWER, maximum: int | None = None) -> None:
        super().__init__(answer, maximum)
        # Devices that a user may have, where PingOne says so.
        self.maximum = maximum


class AccountNotUsable(Rejected):
    """ACCOUNT_NOT_USABLE to a pairing: the user is disabled or locked."""


class StatusRefused(Rejected):
    """The `status` that a device was to be made with is refused, and no device was made."""
