"""The indexes of the table `record`, most of them partial, with their conditions. A condition is a constant: a database
uses a partial index only if a query has the same words, without parameters."""

from sqlalchemy import Index, text

# No final status yet.
NOT_FINAL = "status IN ('pending', 'queued', 'activating')"
# Its device is known.
HAS_DEVICE = "device_id <> ''"
# In the window: on the queue or being worked on.
IN_WINDOW = "status IN ('queued', 'activating')"
# An undo is working on it, or was killed while doing so.
IN_UNDO = "undone_until IS NOT NULL"
# Nothing has to be found out before its first call: its user is known, and PingOne's inventory has its token.
IS_PREPARED = "user_id <> '' AND is_in_inventory"
# A name says whose token it is.
_IS_NAMED = "(username IS NOT NULL OR email IS NOT NULL OR external_id IS NOT NULL)"
# It waits to be given out: its token has no person yet.
ON_THE_TABLE = f"status = 'pending' AND user_id = '' AND NOT {_IS_NAMED}"
# Its user has to be looked up by name.
LACKS_USER = f"status = 'pending' AND user_id = '' AND {_IS_NAMED}"
# Its user is known, or not assigned yet; its token has to be found in PingOne's inventory, or imported.
LACKS_TOKEN = f"status = 'pending' AND NOT is_in_inventory AND (user_id <> '' OR NOT {_IS_NAMED})"
# PingOne asked for OTP 2, which has not been sent.
HALF_DONE = "status = 'pending' AND otp1_state = 'answered'"
# OTP 1 comes next, and expires.
EXPIRING = f"status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NOT NULL AND {IS_PREPARED}"
# OTP 1 comes next, and does not expire.
LASTING = f"status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NULL AND {IS_PREPARED}"
# It needs a read: of the device, or of the outcome of its pairing.
UNSETTLED = (
    "status = 'pending' AND (otp1_state = 'sent' OR otp2_state = 'sent' OR verdict IS NOT NULL"
    " OR pairing IN ('sent', 'missed'))"
)


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows that match the condition `where`."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


INDEXES = (
    # A token or device is worked on in only one place at a time.
    _partial("uq_record_serial_key", "environment_id", "serial_key", where=NOT_FINAL, unique=True),
    _partial("uq_record_device_id", "environment_id", "device_id", where=f"{NOT_FINAL} AND {HAS_DEVICE}", unique=True),
    # Due records, in this order: those that lack only OTP 2, those whose OTPs expire, the rest.
    _partial("ix_record_half_done", "batch_id", "scheduled_at", where=HALF_DONE),
    _partial("ix_record_expiring", "batch_id", "otp_expires_at", where=EXPIRING),
    _partial("ix_record_lasting", "batch_id", "scheduled_at", where=LASTING),
    # Records to prepare, by their due times, and then in file order.
    _partial("ix_record_lacks_user", "batch_id", "scheduled_at", "row_number", where=LACKS_USER),
    _partial("ix_record_lacks_token", "batch_id", "scheduled_at", "row_number", where=LACKS_TOKEN),
    # Records that wait to be given out.
    _partial("ix_record_on_the_table", "batch_id", where=ON_THE_TABLE),
    # Records that an undo works on.
    _partial("ix_record_undone", "undone_until", where=IN_UNDO),
    # The tokens that a job imports.
    _partial("ix_record_import_job", "import_job_id", where="import_job_id IS NOT NULL"),
    # The window, and leases that ran out.
    _partial("ix_record_window", "lease_until", "batch_id", where=IN_WINDOW),
    # Records of cancelled batches that need a read.
    _partial("ix_record_unsettled", "batch_id", "scheduled_at", where=UNSETTLED),
    # Records that were settled in the last seconds, for the window and the pace; every record of a batch in file order.
    _partial("ix_record_finalized_at", "batch_id", "finalized_at", where="finalized_at IS NOT NULL"),
    Index("uq_record_batch_id_row_number", "batch_id", "row_number", unique=True),
    # Which records begin first if some have dates, for a canary.
    _partial("ix_record_dates", "batch_id", "not_before", "row_number", where="not_before IS NOT NULL"),
    # The history of a token and a device: was it here before, and how did it end?
    Index("ix_record_history", "environment_id", "serial_key"),
    _partial("ix_record_device_history", "environment_id", "device_id", where=HAS_DEVICE),
)
