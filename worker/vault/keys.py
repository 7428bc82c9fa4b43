"""The encryption keys of this installation: from the settings, or the key file in the home of the embedded stack; and
their rotation, which encrypts all stored OTPs and seeds again, with the first key."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from models.batch import Batch
from models.encrypted import DecryptionError, Keyring, decode_key, identify_row
from models.record import Record
from worker.config.settings import ConfigError, Settings
from worker.database.engine import Database
from worker.observability.progress import OnProgress, tell_nobody
from worker.observability.wording import agree, count_things

# The key file in the home.
KEY_FILE = "encryption.key"


def read_key_file(home: Path) -> str:
    """Read the encryption key in the home, 32 bytes as base64url. Raises ConfigError, which names the file and the
    cure, and never quotes the key."""
    path = home / KEY_FILE
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"{path} is open to other users: run `chmod 600 {path}`, and if one of them might have read it, change "
                f"the key too"
            )
        text = path.read_text(encoding="ascii").strip()
        decode_key(text)
    except FileNotFoundError as error:
        raise ConfigError(f"the encryption key {path} is missing: restore it from a backup") from error
    except OSError as error:
        raise ConfigError(
            f"the encryption key {path} cannot be read ({error.strerror}): fix that, or set OATHBULK_ENCRYPTION_KEYS"
        ) from error
    except ValueError:
        raise ConfigError(
            f"{path} holds no encryption key: restore it from a backup; if no OTP is stored yet, delete it to get a "
            f"new one"
        ) from None
    return text


def load_keyring(settings: Settings) -> Keyring:
    """Load the keys that encrypt OTPs. Raises ConfigError."""
    if settings.encryption_keys is not None:
        keys = settings.encryption_keys.get_secret_value().split(",")
    elif settings.is_embedded_database:
        keys = [read_key_file(settings.home)]
    else:
        # The URL may be malformed.
        _ = settings.database
        raise ConfigError(
            "OATHBULK_ENCRYPTION_KEYS is not set: a database outside the home needs it; create a key with `oathbulk "
            "keygen`"
        )
    try:
        return Keyring([key.strip() for key in keys if key.strip()])
    except ValueError as error:
        raise ConfigError(f"OATHBULK_ENCRYPTION_KEYS: {error}") from None


# The encrypted columns of a record.
_SEALED = (Record.otps, Record.spent)
# Records in one transaction of the rotation.
CHUNK = 1000
# Writes a line of the audit, in this transaction: how many records will be encrypted again.
WriteDown = Callable[[Connection, int], None]


def reencrypt(
    database: Database, keyring: Keyring, write_down: WriteDown, on_progress: OnProgress = tell_nobody
) -> int:
    """Encrypt again, with the first key, all OTPs and seeds that are encrypted with another key; return how many
    records were changed. Works beside running workers, and continues where it stopped. `write_down` is called first,
    unless there is nothing to do: the audit also has to show a rotation that fails halfway. If some records cannot be
    decrypted, raises DecryptionError once all others are done."""
    with database.writing() as connection:
        left = connection.scalar(select(func.count()).where(*_is_under_other_key(keyring)))
        if left:
            write_down(connection, left)
    count, closed, is_done = 0, dict[int, str](), not left
    while not is_done:
        before, closed = count, {}
        for resealed in _reseal(database, keyring, closed):
            count = before + resealed
            on_progress("Encrypting records", count, max(left or 0, count))
        with database.reading() as connection:
            found = connection.scalars(select(Record.id).where(*_is_under_other_key(keyring))).all()
        is_done = closed.keys() >= set(found)
        closed = {record_id: closed[record_id] for record_id in found} if is_done else closed
    database.empty_log()
    if closed:
        stay = f"{count_things(len(closed), 'record')} {agree(len(closed), 'stays as it was', 'stay as they were')}"
        raise DecryptionError(f"{stay}; the first: {next(iter(closed.values()))}")
    return count


def _is_under_other_key(keyring: Keyring) -> tuple[ColumnElement[bool], ...]:
    """SQL condition: whether a record's OTPs, current or spent, are encrypted with a key other than the first."""
    key_ids = (func.substr(column, 1, len(keyring.sealing_id)) for column in _SEALED)
    return (or_(*(key_id != keyring.sealing_id for key_id in key_ids)),)


def _reseal(database: Database, keyring: Keyring, closed: dict[int, str]) -> Iterator[int]:
    """Encrypt records again, from the first to the last, except those that another transaction has locked. Yields the
    count after each transaction. Records that cannot be decrypted are put into `closed`, by id, with token and reason.
    Waiting for a locked record while holding others could deadlock with a dispatcher tick, which does the same."""
    count, last_id = 0, 0
    while True:
        with database.writing() as connection:
            rows = connection.execute(
                select(Record.id, Record.batch_id, Record.row_number, Record.serial_number, *_SEALED, Batch.name)
                .join(Batch, Batch.id == Record.batch_id)
                .where(Record.id > last_id, or_(*(column.is_not(None) for column in _SEALED)))
                .order_by(Record.id)
                .limit(CHUNK)
                .with_for_update(of=Record, skip_locked=True)
            ).all()
            for row in rows:
                identity = identify_row(row.batch_id, row.row_number)
                kept = {name: value for name in ("otps", "spent") if (value := getattr(row, name))}
                stale = {name: value for name, value in kept.items() if not keyring.is_sealed_by_first_key(value)}
                if not stale:
                    continue
                try:
                    sealed = {name: keyring.seal(keyring.open(old, identity), identity) for name, old in stale.items()}
                except DecryptionError as error:
                    closed[row.id] = f"token {row.serial_number} of batch {row.name!r}: {error}"
                    continue
                connection.execute(update(Record).where(Record.id == row.id).values(sealed))
                count += 1
        if not rows:
            return
        last_id = rows[-1].id
        yield count
