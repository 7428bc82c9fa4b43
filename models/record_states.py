"""The states of a record, of its OTPs and of its pairing: the words, and the arrows between statuses."""

from datetime import UTC, datetime
from enum import StrEnum


class Status(StrEnum):
    """Where a record is on its way. Each member says what is true of it, and who takes it further."""

    # It waits in the database. The dispatcher queues it once `scheduled_at` has come, if its batch runs.
    PENDING = "pending"
    # Its id is on the queue, or on its way there. A worker claims it; if none does before `lease_until`, the dispatcher
    # takes its message for lost and makes it pending again.
    QUEUED = "queued"
    # A worker holds a lease on it and calls PingOne. That worker settles it; if it does not before `lease_until`, the
    # dispatcher takes the lease away and makes the record pending again.
    ACTIVATING = "activating"
    # PingOne said that the device is ACTIVE, and the OTPs are erased. It is final: nobody takes it further.
    ACTIVE = "active"
    # It was given up for the reason in `reason`. It is final until a person, or the schedule that a person set, replays
    # it.
    DEAD_LETTER = "dead_letter"
    # Its batch was cancelled before it was done, or an undo took it back. It is final until a person replays it.
    CANCELLED = "cancelled"


# The `reason` of a cancelled record that an undo took back: only a mend or a person who chooses it lets it go again.
TAKEN_BACK = "taken_back"
# The reason of a record that a person closed, since nobody wants its token any more.
CLOSED = "closed"
# What ended a record that goes again only if a person chooses it, and for which nothing was sent.
ENDED_BY_PERSON = (TAKEN_BACK, CLOSED)

# The statuses in which a record is not worked on any more.
FINAL = frozenset({Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED})

# Every arrow that a status may take. Only `worker.leases` writes one, and asks this table first.
TRANSITIONS = frozenset(
    {
        # It is due, its batch runs (or is cancelled and owes it a read), and the window has room for it.
        (Status.PENDING, Status.QUEUED),
        # A worker takes it, under a new lease.
        (Status.QUEUED, Status.ACTIVATING),
        # No slot is near, publishing failed, the batch was paused, the message was lost, or the database was restored
        # from a backup: no attempt counted.
        (Status.QUEUED, Status.PENDING),
        # PingOne says ACTIVE.
        (Status.ACTIVATING, Status.ACTIVE),
        # Its preparation found that nothing can make it active: no such person, another token of this serial number.
        (Status.PENDING, Status.DEAD_LETTER),
        # Not settled now; it is due again at `scheduled_at`. Or its lease ran out, because the worker died; or it was
        # taken away, because the database was restored from a backup.
        (Status.ACTIVATING, Status.PENDING),
        # Refused for good, or a budget is spent, and what became of each OTP is known.
        (Status.ACTIVATING, Status.DEAD_LETTER),
        # Its batch was cancelled; from `activating` only instead of going back to pending.
        (Status.PENDING, Status.CANCELLED),
        (Status.QUEUED, Status.CANCELLED),
        (Status.ACTIVATING, Status.CANCELLED),
        # A person, or the schedule that a person set, replays it.
        (Status.DEAD_LETTER, Status.PENDING),
        (Status.CANCELLED, Status.PENDING),
        # A person takes its device or token away again, or says that who was to get it has left.
        (Status.ACTIVE, Status.CANCELLED),
        (Status.DEAD_LETTER, Status.CANCELLED),
    }
)


class PairingState(StrEnum):
    """What is written down of the pairing that makes a record's device. Each member says what is true of it, and who
    takes it further."""

    # No request to pair is out, and none may have made a device. It is paired if the record has no device. With a
    # device id: PingOne's inventory has shown that device, which may be ACTIVE; it is read before an OTP is sent.
    UNSENT = "unsent"
    # A request was about to go out, and no answer is written down: it may have made a device. Or one may have gone out
    # since the backup that the database was restored from. The token is looked up in PingOne before it is paired again.
    # With a device id: that device was found, and may be ACTIVE; it is read before an OTP is sent.
    SENT = "sent"
    # The first look-up after that found the token free. It is looked up once more: what was just made is not seen
    # everywhere at once.
    MISSED = "missed"
    # The record has a device. Who made it, `is_device_made` says.
    PAIRED = "paired"


class OtpState(StrEnum):
    """What is written down of one OTP. Each member says what is true of it, and who takes it further."""

    # It has not reached PingOne, PingOne did not act on it, or a read found the device still waiting. It may be sent.
    UNSENT = "unsent"
    # It was about to go out, and no answer is written down: it may have made the device ACTIVE. The worker that holds
    # the lease writes the answer down; without one, the device is read before anything else is sent. Or it may have
    # gone out since the backup that the database was restored from; of a seed's pair, both may have then.
    SENT = "sent"
    # PingOne's answer to it is written down. It is never sent again; only new OTPs of a new load may go.
    ANSWERED = "answered"


class OtpType(StrEnum):
    """How the token makes its OTPs."""

    # By a counter (RFC 4226). They may be sent whenever their turn comes.
    HOTP = "hotp"
    # By the time (RFC 6238). They are too old after a while, which `otp_expires_at` says.
    TOTP = "totp"


# What stands in `owner_id` for a token that is nobody's device.
NOBODY = ""

# What a pause of some records of a batch writes into `not_before`: they wait until a person lets them go.
UNTIL_LET_GO = datetime(9999, 12, 31, tzinfo=UTC)
# What it is called, in an export too.
KEPT_BACK = "kept back"
