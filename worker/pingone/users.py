"""Users, found by their names: the request's address, and what is read of the answer. Pure.

https://developer.pingidentity.com/pingone-api/platform/users.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from models.person import NAMES
from worker.config.environment import Environment
from worker.pingone.errors import PingOneError, TooManyTerms
from worker.pingone.wire import (
    Envelope,
    Page,
    build_equation,
    build_url,
    choose_error,
    find_part,
    parse_page,
    read_id,
    read_text,
    read_truth,
)

# The column of each attribute.
_COLUMNS = {attribute: column for column, attribute in NAMES.items()}
# Users in one answer, of 1,000 that PingOne permits: more than are found by 40 names, unless many share an address.
USERS_PER_PAGE = 200


class UserAttribute(StrEnum):
    """What users are found by, in the words of PingOne's filters."""

    USERNAME = "username"  # unique
    EMAIL = "email"  # several users may have the same
    EXTERNAL_ID = "externalId"  # not promised to be unique

    @property
    def column(self) -> str:
        """The column of a record, the field of a row and of a User that have this name of the person."""
        return _COLUMNS[self]


@dataclass(frozen=True)
class User:
    """A user, as PingOne answers. None: not known. Its repr leaves out who it is."""

    id: str
    username: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    external_id: str | None = field(default=None, repr=False)
    is_enabled: bool | None = None
    can_authenticate: bool | None = None
    is_locked: bool | None = None

    def find(self, attribute: UserAttribute) -> str | None:
        """Find this user's value of an attribute, to compare it with the name that was asked for."""
        value: str | None = getattr(self, attribute.column)
        return value


def fold_case(name: str) -> str:
    """What a name has in common with all that differ from it in capitals alone: PingOne's user of one is that of all.
    `casefold` would go further, and take Weiss for Weiß, who is another person."""
    return name.lower()


def build_users_url(environment: Environment, attribute: UserAttribute, names: Sequence[str]) -> str:
    """Build the address of the users with one of these names. Raises ValueError if there is none, or an empty one: a
    filter without terms would list everybody.
    https://docs.pingidentity.com/pingone/directory/p1_scim_filter_language.html"""
    if not names:
        raise ValueError("no names to find users by")
    filter_ = " or ".join(f"({build_equation(attribute, name)})" for name in names)
    return build_url(environment, "users", query={"limit": str(USERS_PER_PAGE), "filter": filter_})


def parse_users(envelope: Envelope, *, environment: Environment) -> Page[User]:
    """Read a page of users from an answer. A user outside the populations that our roles are limited to is not in it.
    Raises TooManyTerms where the filter was too long for PingOne, or for a server before it."""
    return parse_page(envelope, environment=environment, name="users", read_item=_read_user, choose=_choose_error)


def _choose_error(envelope: Envelope) -> PingOneError:
    """Choose the error for an answer that is no page of users. A 400 that is not PingOne's own comes from a server that
    takes no header of this length."""
    status, answer = envelope.answer.status, envelope.answer
    is_too_long = status in (414, 431) or (status == 400 and not envelope.is_from_pingone)
    if is_too_long or (status == 400 and "INVALID_FILTER" in envelope.codes):
        return TooManyTerms(answer)
    return choose_error(envelope)


def _read_user(fields: Mapping[str, Any]) -> User | None:
    user_id = read_id(fields.get("id"))
    if user_id is None:
        return None
    status = find_part(fields, "account", "status")
    return User(
        id=user_id,
        username=read_text(fields.get("username")),
        email=read_text(fields.get("email")),
        external_id=read_text(fields.get("externalId")),
        is_enabled=read_truth(fields.get("enabled")),
        can_authenticate=read_truth(find_part(fields, "account", "canAuthenticate")),
        is_locked=status == "LOCKED" if status in ("LOCKED", "OK") else None,
    )
