"""Persons of a shipment in PingOne: whether they are found by the names that the list gives, and can use an account."""

from __future__ import annotations

from collections.abc import Sequence

from models.reason import Reason
from worker.batches.people import FindUsers, find_all, group_by_name, judge_person
from worker.intake import Row
from worker.observability.progress import OnProgress, tell_nobody
from worker.pingone.users import NAMES_PER_REQUEST, User, UserAttribute, fold_case
from worker.preflight.findings import Finding, Level, Verdicts, name_tokens

TEXTS = {
    "user_not_found": "Of persons whom PingOne does not find: {n} of the tokens. Correct their names, or see whether"
    " the worker application's role covers their population.",
    "user_ambiguous": "Of names that several persons have: {n} of the tokens. Give their user ids.",
    "account_not_usable": "Of persons whose account is disabled or locked: {n} of the tokens. Enable or unlock it"
    " first.",
    "other_person": "With a user id that is not the one of the name beside it: {n} of the tokens. Correct one of the"
    " two.",
}

# What a row's verdict says of its person.
SAYS = {
    Reason.USER_NOT_FOUND: "PingOne finds nobody of this name",
    Reason.USER_AMBIGUOUS: "PingOne finds several persons of this name: give the user id",
    Reason.ACCOUNT_NOT_USABLE: "the person's account is disabled or locked",
}


def check_persons(verdicts: Verdicts, find_users: FindUsers, on_progress: OnProgress = tell_nobody) -> list[Finding]:
    """Look every named person up, NAMES_PER_REQUEST to a request. Raises what the reads raise."""
    named = {attribute: _rows_by_name(verdicts.good, attribute) for attribute in UserAttribute}
    find_users = _tell_progress(find_users, sum(map(len, named.values())), on_progress)
    for attribute, rows in named.items():
        found = group_by_name(attribute, find_all(attribute, list(rows), find_users, NAMES_PER_REQUEST))
        for name, mine in rows.items():
            for row in mine:
                _judge(verdicts, row, found.get(fold_case(name), []))
    return [
        finding
        for name, text in TEXTS.items()
        for finding in name_tokens(name, Level.ASK, text, verdicts.doubted(name))
    ]


def _tell_progress(find_users: FindUsers, total: int, on_progress: OnProgress) -> FindUsers:
    """Make a function that finds users, and tells after each request how many of all names were asked for."""
    done = 0

    def find(attribute: UserAttribute, names: Sequence[str]) -> Sequence[User]:
        nonlocal done
        users = find_users(attribute, names)
        done += len(names)
        if done < total:
            on_progress("Looking persons up", done, total)
        return users

    return find


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


def _judge(verdicts: Verdicts, row: Row, users: Sequence[User]) -> None:
    """Note what is wrong with the person of a row, if anything is; or who it is. Of several persons of one name, a user
    id beside it says which is meant."""
    meant = [user for user in users if user.id.lower() == row.user_id]
    if users and row.user_id and not meant:
        verdicts.doubt(row, "other_person", "the user id is not that of the name beside it")
    elif judged := judge_person(meant or users):
        reason, told = judged
        verdicts.doubt(row, reason, f"{SAYS[reason]}{told and f'. {told}'}")
    else:
        verdicts.found_users[row.row_number] = (meant or users)[0].id.lower()
