"""The names of steps, as the tables have them: of transactions, of exchanges, and of what else is watched."""

from __future__ import annotations

from crash_points.steps import AFTER, ARRIVED, BEFORE, BEGIN, COMMIT, COMMITTED, FIRST_BYTE, HEADERS_OUT, READ


def around(name: str) -> tuple[str, ...]:
    return f"{name}: {BEFORE}", f"{name}: {AFTER}"


def reading(name: str) -> tuple[str, ...]:
    """A transaction that only reads: it commits nothing."""
    return (f"{name}: {BEGIN}",)


def writing(name: str) -> tuple[str, ...]:
    return f"{name}: {BEGIN}", f"{name}: {COMMIT}", f"{name}: {COMMITTED}"


def sending(name: str) -> tuple[str, ...]:
    """The part of an exchange in which PingOne has not acted yet."""
    return f"{name}: {FIRST_BYTE}", f"{name}: {HEADERS_OUT}"


def hearing(name: str) -> tuple[str, ...]:
    """The part in which it has."""
    return f"{name}: {ARRIVED}", f"{name}: {READ}"


def exchange(name: str) -> tuple[str, ...]:
    return sending(name) + hearing(name)


SLOT = around("Pace.wait")
HOLD = around("Pace.hold")
CLAIM = writing("Leases.claim")
# What has no device yet is asked for as if it had one, first; and what is not fresh any more, as if it were.
CLAIM_UNPAIRED = CLAIM + CLAIM
CLAIM_AGAIN = CLAIM_UNPAIRED + CLAIM
OPEN = around("Keyring.open")
ACCESS_TOKEN = exchange("AccessTokens.get")
ANSWERED = writing("Leases.write_progress")
MARK = writing("Leases.mark_sent")
SETTLE = writing("Settlement.write")
PAUSE = writing("Upkeep.pause")
# A look at the batch, and nothing more where the breaker says nothing.
JUDGE = reading("Upkeep.apply_breaker")
# Who got no answer asks first whether others get theirs.
JUDGE_ALONE = reading("Upkeep.fails_alone")
# Who cannot be spared works on.
NOT_SPARED = writing("Processes.fall_sick")
PAUSE_JUDGED = writing("Upkeep.apply_breaker")
PAIR = "Pairings.pair"
FIND = "Reads.find_token"
READ_TOKEN = "Reads.read_token"
POST = "Client.activate"
GET = "Client.read_device"

# Whatever comes first: nothing that was sent is known yet.
BEGINNING = SLOT + CLAIM + OPEN + ACCESS_TOKEN
BEGINNING_AGAIN = SLOT + CLAIM_AGAIN + OPEN + ACCESS_TOKEN
BEGINNING_UNPAIRED = SLOT + CLAIM_UNPAIRED + OPEN + ACCESS_TOKEN
# The device is known, and nothing else.
PAIRED = BEGINNING_UNPAIRED + exchange(PAIR) + ANSWERED
SEND = SLOT + MARK + exchange(POST) + SETTLE
# Each read has a slot of its own. That a token is free is believed only when its own page says so too.
READ_PERMIT = SLOT + reading("Leases.may_read")
LOOK_UP = READ_PERMIT + exchange(FIND)
LOOK_UP_FREE = LOOK_UP + READ_PERMIT + exchange(READ_TOKEN)
READ_DEVICE = READ_PERMIT + exchange(GET)
PAIR_AGAIN = SLOT + writing("Leases.mark_pairing") + exchange(PAIR)

# What the dispatcher does at a tick that finds something to rescue and something to publish.
TICK: list[str] = [
    *writing("Dispatcher.tick"),
    *writing("Upkeep.update_batches"),
    *reading("Queue.count_window"),
    *reading("read_pace"),
    *around("Pace.read_hold_left"),
    *around("CeleryBroker.count_waiting"),
    *writing("Dispatcher.tick"),
    *around("CeleryBroker.publish"),
]

# What a person types, as one transaction each.
COMMANDS: dict[str, list[str]] = {
    command: list(writing(f"Batches.{command}")) for command in ("pause", "resume", "cancel", "replay")
}
