"""The states of a record, its OTPs, and its pairing: the words, and the transitions between statuses."""

from datetime import UTC, datetime
from enum import StrEnum


class Status(StrEnum):
    """The status of a record. The comment on each member says what is true of the record, and who acts on it next."""

    # It waits in the database. The dispatcher queues it once `scheduled_at` has come, if its batch runs.
    PENDING = "pending"
    # Its id is queued, or about to be. A worker claims it; if none does before `lease_until`, the dispatcher counts its
    # message as lost and makes it pending again.
    QUEUED = "queued"
    # A worker holds a lease on it and calls PingOne. That worker settles it; if it has not done so by `lease_until`,
    # the dispatcher removes the lease and makes the record pending again.
    ACTIVATING = "activating"
    # PingOne said that the device is ACTIVE, and the OTPs are erased. It is final: nobody works on it anymore.
    ACTIVE = "active"
    # It failed for the reason in `reason`. It is final until a person, or the schedule that a person set, replays it.
    DEAD_LETTER = "dead_letter"
    # Its batch was cancelled before it was done, or an undo or a person closed it. It is final until a person replays
    # it.
    CANCELLED = "cancelled"


# The `reason` of a record that an undo closed: only a mend, or a person who selects it, sends it again.
TAKEN_BACK = "taken_back"
# The reason of a record that a person closed, because nobody wants its token anymore.
CLOSED = "closed"
# The reasons of records that a person ended, which sends no OTP. They are tried again only if a person selects or mends
# them.
ENDED_BY_PERSON = (TAKEN_BACK, CLOSED)

# The statuses in which a record is no longer worked on.
FINAL = frozenset({Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED})

# All transitions of a status. Only `worker.leases` writes it, and checks this table first.
TRANSITIONS = frozenset(
    {
        # It is due, its batch runs (or was cancelled, but the record still needs a read), and the window has room for
        # it.
        (Status.PENDING, Status.QUEUED),
        # A worker claims it, under a new lease.
        (Status.QUEUED, Status.ACTIVATING),
        # The next slot is too far off, publishing failed, the batch was paused, the message was lost, or the database
        # was restored from a backup: no attempt counted.
        (Status.QUEUED, Status.PENDING),
        # PingOne says ACTIVE.
        (Status.ACTIVATING, Status.ACTIVE),
        # Its preparation found that nothing can make it active: no such person, or another token with this serial
        # number.
        (Status.PENDING, Status.DEAD_LETTER),
        # The attempt brought no final result, and the record is due again at `scheduled_at`. Or its lease ran out
        # because the worker died, or was taken away because the database was restored from a backup.
        (Status.ACTIVATING, Status.PENDING),
        # Refused for good, or a budget is spent, and the outcome of each OTP is known.
        (Status.ACTIVATING, Status.DEAD_LETTER),
        # Its batch was cancelled. A record in `activating` is cancelled only when it would otherwise go back to
        # pending.
        (Status.PENDING, Status.CANCELLED),
        (Status.QUEUED, Status.CANCELLED),
        (Status.ACTIVATING, Status.CANCELLED),
        # A person, or the schedule that a person set, replays it.
        (Status.DEAD_LETTER, Status.PENDING),
        (Status.CANCELLED, Status.PENDING),
        # An undo takes it back, and removes any device or token made for it; or a person closes a dead letter.
        (Status.ACTIVE, Status.CANCELLED),
        (Status.DEAD_LETTER, Status.CANCELLED),
    }
)


class PairingState(StrEnum):
    """The state of the pairing that makes a record's device. The comment on each member says what is true of the
    pairing, and who acts on it next."""

    # No pairing request has an unknown outcome: each made nothing, or look-ups after it found the token free. A record
    # without a device is paired next. With a device id: PingOne's inventory has shown that device, which may be ACTIVE;
    # it is read before an OTP is sent.
    UNSENT = "unsent"
    # A request was about to be sent, and no answer is recorded: it may have made a device. After a restore, a request
    # that may have been sent since the backup also counts as SENT. The token is looked up in PingOne before it is
    # paired again. With a device id: that device was found, and may be ACTIVE; it is read before an OTP is sent.
    SENT = "sent"
    # The first look-up after that found the token free. The token is looked up again, because new devices are not
    # visible everywhere at once.
    MISSED = "missed"
    # The record has a device. `is_device_made` says who made it.
    PAIRED = "paired"


class OtpState(StrEnum):
    """The state of one OTP. The comment on each member says what is true of the OTP, and who acts on it next."""

    # It has not reached PingOne, PingOne did not act on it, or a read found the device still waiting. It may be sent.
    UNSENT = "unsent"
    # It was about to be sent, and no answer is recorded: it may have made the device ACTIVE. The worker with the lease
    # records the answer; without one, the device is read before anything else is sent. After a restore, an OTP that may
    # have been sent since the backup is also SENT; if the pair comes from a seed, both of its OTPs are.
    SENT = "sent"
    # PingOne's answer to it is recorded. It is never sent again; only other OTPs can be: from a mend, a later load, or
    # the seed.
    ANSWERED = "answered"


class OtpType(StrEnum):
    """How the token makes its OTPs."""

    # From a counter (RFC 4226). They can be sent at any time.
    HOTP = "hotp"
    # From the current time (RFC 6238). They expire at `otp_expires_at`.
    TOTP = "totp"


# The `owner_id` of a token that is nobody's device.
NOBODY = ""

# The `not_before` of records that a person paused: they wait until a person resumes them.
UNTIL_LET_GO = datetime(9999, 12, 31, tzinfo=UTC)
# How this date is shown to people, and written in an export.
KEPT_BACK = "kept back"
