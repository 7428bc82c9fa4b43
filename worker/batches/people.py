"""Looks up the people of a batch by the names in its rows, many to a request."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, case, func, literal, or_, select, text, update
from sqlalchemy.orm import InstrumentedAttribute

from models.batch import Batch, BatchState
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_indexes import LACKS_USER
from models.record_states import NOBODY
from worker.batches import state
from worker.batches.long_list import PREPARED_IN_ORDER, Findings, LongList, Obstacle, Turn, may_go
from worker.database.engine import Database
from worker.pingone.devices import User, UserAttribute, fold_case
from worker.pingone.errors import Forbidden, TooManyTerms
from worker.rules.decisions import tell_owner

# PingOne's refusals of a filter.
INVALID_FILTER = "INVALID_FILTER"
# If this many people are looked up and none is found, it is no coincidence.
MANY = 10
# Maximum number of ids that the detail lists if several people have one name.
_CANDIDATES = 5
# Why a person who was found cannot get a token.
_FOUND_BUT_GIVEN_UP = (Reason.ACCOUNT_NOT_USABLE, Reason.USER_AMBIGUOUS)
_NOT_READABLE = (
    "The worker application is not allowed to read users, so it finds nobody by name. Give it the role Identity Data "
    "Read Only or Identity Data Admin, then resume; or mend the rows with user ids."
)
_NOBODY = (
    "PingOne found none of the people looked up by name so far. It hides users from a worker application that has no "
    "role in their population. If these people exist, give the application Identity Data Read Only or Identity Data "
    "Admin there, resume, and replay the reason `user_not_found`. Otherwise, just resume."
)
# Finds the users with any of these names, in one request.
FindUsers = Callable[[UserAttribute, Sequence[str]], Sequence[User]]

# The attributes by which to look up a person, in this order, and the column with the name.
_COLUMNS: dict[UserAttribute, InstrumentedAttribute[str | None]] = {
    attribute: getattr(Record, attribute.column) for attribute in UserAttribute
}
_NAMES = tuple(_COLUMNS.values())
_WRITE_USER = (
    update(Record)
    .where(Record.id == bindparam("record_id"), Record.user_id == "", text("status = 'pending'"))
    .values(user_id=bindparam("found_user_id"))
)


@dataclass(frozen=True, slots=True)
class _Named:
    """Records whose people are looked up in one request, by one attribute."""

    attribute: UserAttribute
    rows: Sequence[Row[*tuple[Any, ...]]]


class People:
    """The people of batches. `most_names`: names per request."""

    def __init__(self, database: Database, most_names: int) -> None:
        self._database = database
        self._most_names = most_names

    def list_unknown(self, turn: Turn, find_users: FindUsers) -> LongList[_Named, Sequence[User]]:
        """List the records whose person is still to be looked up; each chunk is one request. If none of the first MANY
        people is found, the batch pauses, once: PingOne shows no users to an application without a role. Asking raises
        any error of the read, and Obstacle if users may not be read."""

        def take() -> Sequence[_Named]:
            rows = self._read_rows(turn)
            return [_Named(UserAttribute(rows[0].attribute), rows)] if rows else []

        def ask(named: _Named) -> Sequence[User]:
            names = list(dict.fromkeys(row.name for row in named.rows))
            try:
                return list(find_all(named.attribute, names, find_users, self._most_names))
            except Forbidden as failure:
                raise Obstacle(PauseReason.PERMISSIONS, _NOT_READABLE) from failure

        return LongList(take, ask, lambda named, users: self._write(turn.batch_id, named, users))

    def _read_rows(self, turn: Turn) -> Sequence[Row[*tuple[Any, ...]]]:
        """Read the next records whose person is to be looked up, all by the same attribute."""
        attribute = case(*((column.is_not(None), literal(each.value)) for each, column in _COLUMNS.items()))
        lacking = (
            select(Record.id, func.coalesce(*_NAMES).label("name"), attribute.label("attribute"))
            .where(*may_go(turn.batch_id, turn.first), text(LACKS_USER))
            .order_by(*PREPARED_IN_ORDER)
            .limit(len(_COLUMNS) * self._most_names)
        )
        with self._database.reading() as connection:
            rows = connection.execute(lacking).all()
        return [row for row in rows if row.attribute == rows[0].attribute][: self._most_names]

    def _write(self, batch_id: int, named: _Named, users: Sequence[User]) -> None:
        """Write down who was found. Gives up a record whose token belongs to another person according to the
        inventory."""
        with self._database.changing_many() as connection:
            findings = _sort(_leave_out_renamed(connection, named), named.attribute, users)
            if not users and self._is_nobody_found_so_far(connection, batch_id, findings):
                paused = state.pause((BatchState.RUNNING,), PauseReason.PERMISSIONS, _NOBODY)
                if not connection.execute(paused.where(Batch.id == batch_id)).rowcount:
                    # The batch no longer runs; these people are looked up again when it does.
                    return
            if findings.found:
                connection.execute(_WRITE_USER, findings.found)
                ids = [user["record_id"] for user in findings.found]
                is_taken = and_(Record.owner_id != NOBODY, func.lower(Record.owner_id) != func.lower(Record.user_id))
                for row in connection.execute(select(Record.id, Record.owner_id).where(Record.id.in_(ids), is_taken)):
                    taken = Reason.TOKEN_TAKEN, tell_owner(str(row.owner_id))
                    findings.given_up.setdefault(taken, []).append(row.id)
            findings.give_up(self._database, connection)

    def _is_nobody_found_so_far(self, connection: Connection, batch_id: int, findings: Findings) -> bool:
        """Whether the batch has now looked up MANY people, for the first time, and found none of them."""
        named = select(Record.id).where(Record.batch_id == batch_id, or_(*(each.is_not(None) for each in _NAMES)))
        was_found = named.where(or_(Record.user_id != "", Record.reason.in_(_FOUND_BUT_GIVEN_UP)))
        if connection.scalar(select(was_found.exists())):
            return False
        missing = named.where(Record.reason == Reason.USER_NOT_FOUND).limit(MANY).subquery()
        before = connection.scalar(select(func.count()).select_from(missing)) or 0
        return before < MANY <= before + len(findings.given_up.get((Reason.USER_NOT_FOUND, ""), ()))


def find_all(attribute: UserAttribute, names: Sequence[str], find_users: FindUsers, most_names: int) -> Iterator[User]:
    """Find all users with these names, in as few requests as PingOne permits: a filter that is too long is split in
    half. Raises what the reads raise."""
    size, left = most_names, list(names)
    while left:
        try:
            yield from find_users(attribute, left[:size])
        except TooManyTerms as refusal:
            if size > 1:
                size //= 2
                continue
            if INVALID_FILTER not in (refusal.answer.code, refusal.answer.detail_code):
                raise
            # PingOne rejects a filter with this name, so it cannot find anybody by it.
        left = left[size:]


def judge_person(users: Sequence[User]) -> tuple[Reason, str] | None:
    """Say why no user with this name can get a token, with the account's state or the first ids. None if exactly one
    user has the name and can get a token."""
    if not users:
        return Reason.USER_NOT_FOUND, ""
    if len(users) > 1:
        more = f" and {len(users) - _CANDIDATES} more" if len(users) > _CANDIDATES else ""
        ids = ", ".join(user.id.lower() for user in users[:_CANDIDATES])
        return Reason.USER_AMBIGUOUS, f"The matching users are {ids}{more}."
    user = users[0]
    obstacles = [*["disabled"] * (user.is_enabled is False), *["locked"] * bool(user.is_locked)]
    if obstacles:
        return Reason.ACCOUNT_NOT_USABLE, f"The account is {' and '.join(obstacles)}."
    if user.can_authenticate is False:
        return Reason.ACCOUNT_NOT_USABLE, "PingOne does not allow the account to authenticate."
    return None


def group_by_name(attribute: UserAttribute, users: Iterable[User]) -> dict[str, list[User]]:
    """Group users by their folded names (`fold_case`); lists each user once, although two spellings may find the same
    one."""
    by_name: dict[str, dict[str, User]] = {}
    for user in users:
        by_name.setdefault(fold_case(user.find(attribute) or ""), {})[user.id] = user
    return {name: list(found.values()) for name, found in by_name.items()}


def _leave_out_renamed(connection: Connection, named: _Named) -> list[Row[*tuple[Any, ...]]]:
    """Leave out records for which a mend has named a different person meanwhile."""
    ids = [row.id for row in named.rows]
    now = select(Record.id, _COLUMNS[named.attribute].label("name")).where(Record.id.in_(ids), Record.user_id == "")
    names = {row.id: row.name for row in connection.execute(now)}
    return [row for row in named.rows if names.get(row.id) == row.name]


def _sort(rows: Sequence[Row[*tuple[Any, ...]]], attribute: UserAttribute, users: Iterable[User]) -> Findings:
    by_name, findings = group_by_name(attribute, users), Findings()
    for row in rows:
        mine = by_name.get(fold_case(row.name), [])
        if judged := judge_person(mine):
            findings.given_up.setdefault(judged, []).append(row.id)
        else:
            findings.found.append({"record_id": row.id, "found_user_id": mine[0].id.lower()})
    return findings
