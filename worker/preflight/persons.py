"""Persons of a shipment in PingOne: whether they are found by the names that the list gives, and can use an account."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from worker.intake import Row
from worker.pingone.errors import TooManyTerms
from worker.pingone.users import NAMES_PER_REQUEST, User, UserAttribute
from worker.preflight.findings import Finding, Level, Verdicts, name_tokens

# Finds the users with one of these names, all in one request.
FindUsers = Callable[[UserAttribute, Sequence[str]], Sequence[User]]

TEXTS = {
    "user_not_found": "Of persons whom PingOne does not find: {n} of the tokens. Correct their names, or see whether"
    " the worker application's role covers their population.",
    "user_ambiguous": "Of names that several persons have: {n} of the tokens. Give their user ids.",
    "account_not_usable": "Of persons whose account is disabled or locked: {n} of the tokens. Enable or unlock it"
    " first.",
    "other_person": "With a user id that is not the one of the name beside it: {n} of the tokens. Correct one of the"
    " two.",
}


def check_persons(verdicts: Verdicts, find_users: FindUsers) -> list[Finding]:
    """Look every named person up, NAMES_PER_REQUEST to a request. Raises what the reads raise."""
    for attribute in UserAttribute:
        rows = _rows_by_name(verdicts.good, attribute)
        found: dict[str, list[User]] = {}
        for user in _find_all(attribute, list(rows), find_users):
            found.setdefault(user.find(attribute) or "", []).append(user)
        for name, mine in rows.items():
            for row in mine:
                _judge(verdicts, row, found.get(name, []))
    return [
        finding
        for name, text in TEXTS.items()
        for finding in name_tokens(name, Level.ASK, text, verdicts.doubted(name))
    ]


def _rows_by_name(rows: Sequence[Row], attribute: UserAttribute) -> dict[str, list[Row]]:
    """The rows whose person is named by this attribute, and by none that is asked before it."""
    order = list(UserAttribute)
    named: dict[str, list[Row]] = {}
    for row in rows:
        names = {each: _read_name(row, each) for each in order}
        first = next((each for each in order if names[each]), None)
        if first is attribute:
            named.setdefault(names[attribute] or "", []).append(row)
    return named


def _read_name(row: Row, attribute: UserAttribute) -> str | None:
    match attribute:
        case UserAttribute.USERNAME:
            return row.username
        case UserAttribute.EMAIL:
            return row.email
        case UserAttribute.EXTERNAL_ID:
            return row.external_id


def _find_all(attribute: UserAttribute, names: Sequence[str], find_users: FindUsers) -> Iterator[User]:
    """Find all users with these names, in as few requests as PingOne takes."""
    size, left = NAMES_PER_REQUEST, list(names)
    while left:
        try:
            yield from find_users(attribute, left[:size])
        except TooManyTerms:
            if size == 1:
                raise
            size //= 2
            continue
        left = left[size:]


def _judge(verdicts: Verdicts, row: Row, users: Sequence[User]) -> None:
    """Note what is wrong with the person of a row, if anything is."""
    if not users:
        verdicts.doubt(row, "user_not_found", "PingOne finds nobody of this name")
    elif len(users) > 1:
        verdicts.doubt(row, "user_ambiguous", "PingOne finds several persons of this name: give the user id")
    elif row.user_id and users[0].id != row.user_id:
        verdicts.doubt(row, "other_person", "the user id is not that of the name beside it")
    elif users[0].is_enabled is False or users[0].is_locked or users[0].can_authenticate is False:
        verdicts.doubt(row, "account_not_usable", "the person's account is disabled or locked")
