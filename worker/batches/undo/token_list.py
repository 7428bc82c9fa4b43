"""Which tokens of a batch may be revoked, by its records and by PingOne's inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, text, update

from models.encrypted import Keyring
from models.inventory_job import UNFINISHED, InventoryJob, JobKind, JobState
from models.record import Record
from models.record_states import NOBODY
from worker.batches.preparation.inventory import LONGEST_JOB, find_difference
from worker.batches.undo.other_batches import explain_other_batch, find_batch_with_token
from worker.database.engine import Database
from worker.pingone.inventory import InventoryToken
from worker.rules.ages import count_ago, may_be_made_by
from worker.vault.sealed_otps import open_otps
from worker.vault.seed import Seed

_PAIRED = "it is paired: remove its device first, by `oathbulk unpair`, or in PingOne if this batch did not make it"
_OTHER_TIME = "its import is of unknown fate, and the inventory's token of this serial number was not made then"
_DIFFERS = "its import is of unknown fate, and the inventory has another token of this serial number"

# Ids that one statement names.
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class OwnToken:
    """A token that the batch imported, and that may be revoked. `id` is PingOne's."""

    record_id: int
    row_number: int
    serial_number: str
    id: str


@dataclass(slots=True)
class Sorted:
    """The tokens of a batch, sorted by what the list of the inventory has: `own` may be revoked, `kept` stay, each with
    why. Not listed are `absent`, which were imported, and `unmade`, whose import is of unknown fate."""

    own: list[OwnToken] = field(default_factory=list)
    kept: list[tuple[Row[*tuple[Any, ...]], str]] = field(default_factory=list)
    absent: list[Row[*tuple[Any, ...]]] = field(default_factory=list)
    unmade: list[Row[*tuple[Any, ...]]] = field(default_factory=list)


class TokenList:
    """The tokens that batches imported."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def read(self, batch_id: int) -> Sequence[Row[*tuple[Any, ...]]]:
        """Read the records of a batch whose token it imported and has not revoked, and those of imports of unknown fate
        (`is_token_made` is False)."""
        columns = (Record.id, Record.batch_id, Record.row_number, Record.serial_number, Record.is_token_made)
        sent_at = select(InventoryJob.sent_at).where(InventoryJob.id == Record.import_job_id).scalar_subquery()
        ages = (sent_at.label("sent_at"), self._database.now().label("read_at"))
        mine = select(*columns, *ages, Record.otps, find_batch_with_token()).where(
            Record.batch_id == batch_id,
            or_(and_(Record.is_token_made, Record.is_in_inventory), _is_of_unknown_fate(batch_id)),
        )
        with self._database.reading() as connection:
            return connection.execute(mine.order_by(Record.row_number)).all()

    def count_open_imports(self, batch_id: int) -> int:
        """Count the imports of a batch whose end is not written down: they may make tokens still."""
        is_open = and_(text(UNFINISHED), InventoryJob.kind == JobKind.IMPORT)
        counted = select(func.count()).where(InventoryJob.batch_id == batch_id, is_open)
        with self._database.reading() as connection:
            return connection.scalar(counted) or 0

    def sort(self, rows: Sequence[Row[*tuple[Any, ...]]], found: Mapping[str, InventoryToken]) -> Sorted:
        """Sort records by what the inventory has of them: `found`, by serial number in small letters."""
        result = Sorted()
        for row in rows:
            token = found.get(row.serial_number.lower())
            if token is None:
                (result.absent if row.is_token_made else result.unmade).append(row)
            elif token.device_id is not None or token.user_id is not None:
                result.kept.append((row, _PAIRED))
            elif row.other_batch:
                result.kept.append((row, explain_other_batch(row.other_batch)))
            elif not row.is_token_made and not self._is_alike(row, token):
                result.kept.append((row, _DIFFERS))
            elif not row.is_token_made and not _is_of_that_time(row, token):
                result.kept.append((row, _OTHER_TIME))
            else:
                result.own.append(OwnToken(row.id, row.row_number, row.serial_number, token.id))
        return result

    def note_fates(
        self, connection: Connection, batch_id: int, *, made: Sequence[int], never_made: Sequence[int]
    ) -> None:
        """Write down of imports of unknown fate, by record id, which tokens came of them, as it turned out, and which
        did not. A record whose token has been imported again meanwhile is left as it is."""
        fates: tuple[tuple[Sequence[int], dict[str, Any]], ...] = (
            (made, {"is_token_made": True, "is_in_inventory": True, "owner_id": NOBODY}),
            (never_made, {"import_job_id": None}),
        )
        for record_ids, values in fates:
            for start in range(0, len(record_ids), _CHUNK):
                mine = update(Record).where(Record.id.in_(record_ids[start : start + _CHUNK]))
                connection.execute(mine.where(_is_of_unknown_fate(batch_id), ~Record.is_token_made).values(values))

    def _is_alike(self, row: Row[*tuple[Any, ...]], token: InventoryToken) -> bool:
        """Whether a token of the inventory has the parameters of the record's seed."""
        if row.otps is None:
            return False
        seed = open_otps(self._keyring, row.otps, row.batch_id, row.row_number)
        return isinstance(seed, Seed) and find_difference(seed, token) is None


def _is_of_that_time(row: Row[*tuple[Any, ...]], token: InventoryToken) -> bool:
    """Whether a token of the inventory was made when the import of a record's token was sent."""
    return may_be_made_by(count_ago(row.read_at, row.sent_at), token.age, LONGEST_JOB)


def _is_of_unknown_fate(batch_id: int) -> ColumnElement[bool]:
    """Whether nobody heard what came of the import of a record's token."""
    lost = select(InventoryJob.id).where(
        InventoryJob.batch_id == batch_id,
        InventoryJob.kind == JobKind.IMPORT,
        InventoryJob.state == JobState.LOST,
    )
    return and_(Record.import_job_id.in_(lost), ~Record.is_in_inventory)
