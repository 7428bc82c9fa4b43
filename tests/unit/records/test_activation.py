"""The story of one record: which events, in which order, and what is written down when something fails."""

import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from sqlalchemy import exc
from structlog.testing import capture_logs
from support.data.calls import write_answer
from support.data.progress import progress_with_device

from models.attempt import PastCall
from models.encrypted import DecryptionError, Keyring, generate_key, identify_row
from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.clocks import boot_time
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings, Tuning
from worker.leases.lease import CallSummary, Claim
from worker.observability.logs import add_context
from worker.pace.search import SlotTooFar
from worker.pace.slots import Slot
from worker.pingone import errors
from worker.pingone.client import Call
from worker.pingone.devices import Device
from worker.pingone.errors import NO_ANSWER, Answer
from worker.records import activation as module
from worker.records.activation import Activation, describe_outcome
from worker.rules.steps import Active, DeadLetter, Decision, OtpProgress, PairingProgress, Pause, Progress, Retry
from worker.tenants import Resync
from worker.vault.otps import Otp, OtpPair, OtpSource, Secret, Seed, open_spent

PAIR = OtpPair(Otp("308714"), Otp("367299"))
SEED = Seed(secret=Secret(b"12345678901234567890"))
RECORD, BATCH, ROW = 41, 7, 12
SERIAL_NUMBER, USER = "30870001", "6f1d3c1e-user"
SETTINGS = Settings(tuning=Tuning(lease=60, lease_left_for_post=25, read_delay=30))
RESYNC = errors.ResyncRequired(Answer(status=400, code="INVALID_DATA", detail_code="EXTRA_OTP_REQUIRED"))
INVALID = errors.InvalidOtp(Answer(status=400, detail_code="INVALID_OTP"))
LOST = errors.OutcomeUnknown()
DATABASE_AWAY = exc.OperationalError("UPDATE record", {}, Exception("server closed the connection"))
UNSENT, SENT, ANSWERED = OtpProgress(), OtpProgress(OtpState.SENT, 1), OtpProgress(OtpState.ANSWERED, 1)
FRESH = progress_with_device()
UNKNOWN_FATE = progress_with_device(first=SENT, attempts=2)
HALF_DONE = progress_with_device(first=ANSWERED, attempts=2)


def device(status: str) -> Device:
    return Device(status, False, False, Answer(status=200))


ACTIVE, WAITING = device("ACTIVE"), device("ACTIVATION_REQUIRED")


class World:
    """All that an Activation works with: one record as it is committed, PingOne, which answers in turn, the fleet's
    pace, and whoever pauses batches. All write into one journal, so that the order of events can be read off; before
    an OTP or a pairing goes out, PingOne looks into the database, as an auditor would."""

    is_queued = may_work = may_send = True
    is_lease_lost = is_stale = is_strange = is_stopping = False
    # How many slots the pace still gives, and how often the database is still to be found away.
    slots, away = 1000, 0
    # The write that fails, and how.
    fails_at, failure = "", RuntimeError("a fault of our own")
    # PingOne's clock, which stands still; None while it is not known.
    time: float | None = None
    settled: tuple[Progress | None, Decision | None, CallSummary | None] = (None, None, None)

    def __init__(
        self,
        *answers: object,
        progress: Progress = FRESH,
        source: OtpSource = PAIR,
        resync: Resync | None = None,
        **given: object,
    ) -> None:
        self.answers, self.committed, self.source = list(answers), progress, source
        self.journal, self.calls, self.sent, self.told = list[str](), list[Call](), list[Otp](), list[tuple[int, Any]]()
        self.keyring = keyring = Keyring([generate_key()])
        self.otps = keyring.seal(source.to_plaintext(), identify_row(BATCH, ROW))
        vars(self).update(given)
        environment = Environment(name="default", environment_id="env-1", client_id="c", client_secret="s")
        parts: Any = (self, self, self, self, keyring, self)
        known: Any = {"is_stopping": lambda: self.is_stopping, "clock": self, "resync": resync}
        self.activation = Activation(environment, SETTINGS, *parts, **known)

    def run(self) -> str:
        self.activation.activate_record(RECORD)
        return ", ".join(self.journal)

    # Leases.

    def check_database(self) -> None:
        self._ask("reach")

    def claim(self, record_id: int, environment_id: str, jitter: float) -> Claim | None:
        """A fresh record whose OTPs are good is claimed and marked as sent in one statement."""
        self._ask("claim")
        assert (record_id, environment_id, 0 <= jitter < 1) == (RECORD, "env-1", True)
        if not (self.is_queued and self.may_work):
            return None
        self.is_queued, known = False, self.committed
        pairing = known.pairing
        is_fresh = known.first == OtpProgress() and known.verdict is None and not known.not_found and not self.is_stale
        is_totp = isinstance(self.source, Seed) and self.source.otp_type == "totp"
        is_otp1_marked = is_fresh and not is_totp and pairing.state == PairingState.PAIRED
        is_pairing_marked = is_fresh and pairing.state == PairingState.UNSENT and not pairing.pairings
        if is_otp1_marked:
            self.committed = known.with_otp_sent(1, known.next_counter)
        if is_pairing_marked:
            self.committed = replace(known, pairing=pairing.sent())
        progress = replace(self.committed, is_stale=self.is_stale)
        ids = RECORD, BATCH, ROW, "0123456789abcdef", boot_time(), SERIAL_NUMBER, USER, pairing.device_id
        return Claim(*ids, self.otps, progress, is_otp1_marked, is_pairing_marked)

    def mark_sent(self, claim: Claim, ordinal: int, counter: int | None = None) -> bool:
        self._write(f"sending {ordinal}")
        unused = self.committed.next_counter
        assert (counter is None) == (unused is None)
        assert unused is None or counter >= unused, "a counter is used twice"
        if self._goes_on_sending() and self.committed.otp(ordinal).state == OtpState.UNSENT:
            self.committed = self.committed.with_otp_sent(ordinal, counter)
            return True
        return False

    def mark_pairing(self, claim: Claim) -> bool:
        self._write("pairing")
        if self._goes_on_sending() and self.committed.pairing.state == PairingState.UNSENT:
            self.committed = replace(self.committed, pairing=self.committed.pairing.sent())
            return True
        return False

    def write_progress(self, claim: Claim, progress: Progress, calls: Sequence[PastCall]) -> bool:
        if not self.is_lease_lost:
            self.committed = progress
        self._write("answered")
        return not self.is_lease_lost

    def renew_mark(self, claim: Claim) -> bool:
        self._write("still sending?")
        return self._goes_on_sending()

    def may_read(self, claim: Claim) -> bool:
        self._write("may read?")
        return self.may_work and not self.is_lease_lost

    def find_foreign_batch(self, record_id: int, name: str, environment_id: str) -> int | None:
        return BATCH if self.is_strange else None

    def hand_back(self, record_id: int, delay: float) -> None:
        self._ask(f"handed back for {delay:g} s")

    def hand_back_stopped(self, record_id: int) -> None:
        self.journal.append("handed back if stopped")

    def settle(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        self.journal.append(f"settle {type(decision).__name__}")
        self.settled = progress, decision, summary
        if not self.is_lease_lost:
            self.committed = replace(self.committed, pairing=progress.pairing)
        return not self.is_lease_lost

    def _goes_on_sending(self) -> bool:
        """The lease stands, the batch runs, and the OTPs are good."""
        return self.may_work and self.may_send and not self.is_lease_lost and not self.is_stale

    def _ask(self, event: str) -> None:
        self.journal.append(event)
        if self.away:
            self.away -= 1
            raise DATABASE_AWAY

    def _write(self, event: str) -> None:
        self.journal.append(event)
        if event == self.fails_at:
            raise self.failure

    # The fleet's pace, and PingOne's clock.

    def wait(self) -> Slot:
        self.journal.append("slot" if self.slots else "no slot")
        if not self.slots:
            raise SlotTooFar(9.0)
        self.slots -= 1
        return Slot(0, 1.0)

    def give_back(self, slot: Slot) -> None:
        assert slot == Slot(0, 1.0)
        self.journal.append("slot given back")

    @property
    def is_known(self) -> bool:
        return self.time is not None

    def now(self) -> tuple[float | None, float | None]:
        return self.time, self.time

    # PingOne.

    def activate(self, user_id: str, device_id: str, otp: Otp, *, resync: bool, call: Call) -> Any:
        self.sent.append(otp)
        known = self.committed
        assert device_id == known.pairing.device_id, "an OTP goes to a device that is not written down"
        ordinal = 1 if known.first.state == OtpState.SENT else 2
        assert known.next_counter is not None or otp == (PAIR.first if ordinal == 1 else PAIR.second)
        assert known.otp(ordinal).state == OtpState.SENT, "an OTP goes out that is not written down"
        return self._call(f"post {ordinal}{' with oathResync' if resync else ''}", call)

    def pair(self, user_id: str, serial_number: str, *, call: Call) -> Any:
        assert (user_id, serial_number) == (USER, SERIAL_NUMBER)
        assert self.committed.pairing.state == PairingState.SENT, "a pairing is not written down"
        return self._call("pair", call)

    def find_pairing(self, serial_number: str, user_id: str, *, call: Call) -> Any:
        assert (user_id, serial_number) == (USER, SERIAL_NUMBER)
        assert call.slot is None, "a look-up has a pace of its own, and the slot is still in hand"
        call.slot = Slot(0, 1.0)
        return self._call("find", call)

    def read_device(self, user_id: str, device_id: str, *, call: Call) -> Any:
        return self._call("read", call)

    def _call(self, event: str, call: Call) -> Any:
        if call.slot is None:
            self.wait()
        call.slot = None
        self.journal.append(event)
        self.calls.append(call)
        answer = self.answers.pop(0)
        if callable(answer):
            return answer(self, call)
        if not isinstance(answer, errors.NotDelivered | SlotTooFar):
            call.keep(0.0, getattr(answer, "answer", NO_ANSWER))
        if isinstance(answer, Exception):
            raise answer
        return answer

    # Whoever pauses batches.

    def apply_decision(self, environment: Environment, claim: Claim, decision: Decision, posts: int) -> None:
        self.told.append((claim.batch_id, decision))

    def stop_process_or_batch(self, batch_id: int, reason: PauseReason) -> None:
        self.told.append((batch_id, reason))


def retried(**meanwhile: object) -> Callable[[World, Call], Device]:
    """A call that ends well at its second try, for which it asks as the real client does."""

    def answer(world: World, call: Call) -> Device:
        call.keep(0.25, Answer(status=429))
        vars(world).update(meanwhile)
        call.permit()
        call.keep(0.5, ACTIVE.answer)
        return ACTIVE

    return answer


def after(answer: object, **changes: object) -> Callable[[World, Call], object]:
    """An answer that comes after something has changed."""
    return lambda world, _: (vars(world).update(changes), answer)[1]


def fail(world: World, call: Call) -> Device:
    """A call of which no byte goes out."""
    raise RuntimeError("a fault of our own")


def fail_late(world: World, call: Call) -> Device:
    """A call that goes out, and whose answer we cannot read."""
    call.keep(0.0, NO_ANSWER)
    raise RuntimeError("a fault of our own")


NOTHING: dict[str, Any] = {}


class Story(NamedTuple):
    """Answers to a record in this state, in a world in which this is given; the journal without the slot and the claim
    that it begins with; and how it ends: the decision, and what is known of both OTPs and of the pairing."""

    answers: tuple[object, ...]
    journal: str
    decision: Decision
    first: OtpProgress = ANSWERED
    second: OtpProgress = UNSENT
    progress: Progress = FRESH
    given: dict[str, Any] = NOTHING
    pairing: PairingProgress = FRESH.pairing
    raises: type[Exception] | None = None
    # Of a seed: the counters that the OTPs which went out were made from; and the next one, where it is not the one
    # after those.
    counters: tuple[int, ...] = ()
    unused: int | None = None


def tell(story: Story) -> World:
    """Let the story happen, and compare it with what is expected."""
    world = World(*story.answers, progress=story.progress, **story.given)
    with pytest.raises(story.raises) if story.raises else nullcontext():
        world.run()
    assert ", ".join(world.journal) == f"slot, claim, {story.journal}"
    progress, decision, _ = world.settled
    assert decision == story.decision
    assert progress is not None
    assert (progress.first, progress.second) == (story.first, story.second)
    assert world.committed.pairing == story.pairing
    assert world.told == ([] if world.is_lease_lost else [(BATCH, decision)])
    return world


def hand_back(why: str, delay: float = 0.0) -> Retry:
    return Retry(delay, is_counted=False, why=why)


INTERNAL = Pause(PauseReason.INTERNAL, delay=30.0)
AGAIN = Retry(30.0, is_counted=True, why="outcome_unknown")
NOT_PERMITTED = hand_back("not_permitted")
DATABASE = hand_back("database", 30.0)
NO_SLOT = hand_back("hold", 5.0)
TOLD_TO_PAUSE = "post 1, settle Pause"
STALE = DeadLetter(Reason.STALE_OTP, is_counted=False)
STILL_SENDING, MAY_READ = "post 1, still sending?, settle Retry", "read, may read?, settle Retry"
ASKS_FOR_SECOND = "post 1, answered, slot, sending 2"
STORIES = {
    "a fresh record takes a slot, a lease, a post and a settlement": Story(
        (ACTIVE,), "post 1, settle Active", Active()
    ),
    "the second OTP waits for the answer to be written, a slot and its own mark": Story(
        (RESYNC, ACTIVE), f"{ASKS_FOR_SECOND}, post 2 with oathResync, settle Active", Active(), second=ANSWERED
    ),
    "a tenant may want oathResync with the first OTP already": Story(
        (ACTIVE,), "post 1 with oathResync, settle Active", Active(), given={"resync": Resync(True)}
    ),
    "an OTP of unknown fate is read before anything is sent": Story(
        (ACTIVE,), "read, settle Active", Active(), SENT, progress=UNKNOWN_FATE
    ),
    "an OTP of unknown fate goes again under a new mark if the device waits": Story(
        (WAITING, ACTIVE),
        "read, answered, slot, sending 1, post 1, settle Active",
        Active(),
        replace(ANSWERED, posts=2),
        progress=UNKNOWN_FATE,
    ),
    "a lease that was lost during a read keeps the OTP back": Story(
        (WAITING,),
        "read, answered, settle Retry",
        NOT_PERMITTED,
        replace(UNSENT, posts=1),
        progress=UNKNOWN_FATE,
        given={"is_lease_lost": True},
    ),
    "a record between its OTPs goes on with the second": Story(
        (ACTIVE,),
        "sending 2, post 2 with oathResync, settle Active",
        Active(),
        second=ANSWERED,
        progress=HALF_DONE,
    ),
    "the answer that a refused OTP got is written down before the device is read": Story(
        (INVALID, WAITING), "post 1, answered, slot, read, settle DeadLetter", DeadLetter(Reason.INVALID_OTP)
    ),
    "after an unknown outcome nothing more is sent": Story((LOST,), "post 1, settle Retry", AGAIN, SENT),
    "without a near slot for the second OTP the record goes back half done": Story(
        (RESYNC,), "post 1, answered, no slot, settle Retry", NO_SLOT, given={"slots": 1}
    ),
    "a hold that comes between the tries of a post takes the mark back": Story(
        (SlotTooFar(4.0),), "post 1, settle Retry", hand_back("hold", 4.0), UNSENT
    ),
    "a batch that was paused between read and post sends nothing": Story(
        (WAITING,),
        "read, answered, slot, sending 1, settle Retry",
        NOT_PERMITTED,
        replace(UNSENT, posts=1),
        progress=UNKNOWN_FATE,
        given={"may_send": False},
    ),
    "a lost lease keeps the second OTP back and tells nobody": Story(
        (RESYNC,), "post 1, answered, settle Retry", NOT_PERMITTED, given={"is_lease_lost": True}
    ),
    "a second try asks whether it may": Story((retried(),), "post 1, still sending?, settle Active", Active()),
    "a second try of a read needs no good OTP": Story(
        (retried(is_stale=True),), "read, may read?, settle Active", Active(), SENT, progress=UNKNOWN_FATE
    ),
    "an OTP that expired before its claim is not sent": Story(
        (), "settle DeadLetter", STALE, UNSENT, given={"is_stale": True}
    ),
    "an OTP that expires during the read before it is not sent": Story(
        (after(WAITING, is_stale=True),),
        "read, answered, slot, sending 1, settle Retry",
        NOT_PERMITTED,
        replace(UNSENT, posts=1),
        progress=UNKNOWN_FATE,
    ),
    # A wrong secret may be this process' alone; what PingOne did not understand is everybody's.
    "refused credentials are told to whoever pauses batches": Story(
        (errors.CredentialsRefused(),), TOLD_TO_PAUSE, Pause(PauseReason.CREDENTIALS, is_own=True), UNSENT
    ),
    "a protocol fault is told to whoever pauses batches": Story(
        (errors.ProtocolFault(),), TOLD_TO_PAUSE, Pause(PauseReason.PROTOCOL), UNSENT
    ),
    "our own failure before anything went out takes the mark back": Story(
        (fail,), TOLD_TO_PAUSE, INTERNAL, UNSENT, raises=RuntimeError
    ),
    "our own failure after OTP 1 went out leaves its fate open": Story(
        (fail_late,), TOLD_TO_PAUSE, INTERNAL, SENT, raises=RuntimeError
    ),
    "our own failure after OTP 2 went out leaves its fate open": Story(
        (fail_late,),
        "sending 2, post 2 with oathResync, settle Pause",
        INTERNAL,
        second=SENT,
        progress=HALF_DONE,
        raises=RuntimeError,
    ),
    # The commit may have gone through although its acknowledgment did not.
    "our own failure forgets no answer that may be written down": Story(
        (RESYNC,), "post 1, answered, settle Pause", INTERNAL, given={"fails_at": "answered"}, raises=RuntimeError
    ),
    "a mark that fails lets nothing go out": Story(
        (RESYNC,), f"{ASKS_FOR_SECOND}, settle Pause", INTERNAL, given={"fails_at": "sending 2"}, raises=RuntimeError
    ),
}
# What may not start at its second try.
STORIES |= {
    f"a second try of a post is not made, and its mark taken back, where {name}": Story(
        (retried(**{name: value}),), journal, NOT_PERMITTED, UNSENT
    )
    for name, value, journal in [
        ("may_work", False, STILL_SENDING),
        ("is_lease_lost", True, STILL_SENDING),
        ("is_stopping", True, "post 1, settle Retry"),
        ("is_stale", True, STILL_SENDING),
    ]
}
STORIES |= {
    f"a second try of a read is not made, and leaves the fate open, where {name}": Story(
        (retried(**{name: value}),), journal, NOT_PERMITTED, SENT, progress=UNKNOWN_FATE
    )
    for name, value, journal in [
        ("may_work", False, MAY_READ),
        ("is_lease_lost", True, MAY_READ),
        ("is_stopping", True, "read, settle Retry"),
    ]
}
STORIES |= {
    f"a database that was restarted stops no batch, with {type(failure).__name__} at {event}": Story(
        (answer,), journal, DATABASE, first, given={"fails_at": event, "failure": failure}, raises=type(failure)
    )
    for failure in (DATABASE_AWAY, exc.TimeoutError("no connection"))
    for answer, event, journal, first in [
        (RESYNC, "answered", "post 1, answered, settle Retry", ANSWERED),
        (RESYNC, "sending 2", f"{ASKS_FOR_SECOND}, settle Retry", ANSWERED),
        (retried(), "still sending?", STILL_SENDING, SENT),
    ]
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_record_with_a_device(story: Story) -> None:
    tell(story)


BACK_IF_STOPPED = "slot, claim, slot given back, handed back if stopped"


@pytest.mark.parametrize(
    ("given", "journal", "told"),
    [
        ({"slots": 0}, "no slot, handed back for 5 s", []),
        ({"is_stopping": True}, "slot, handed back for 0 s", []),
        ({"is_queued": False}, BACK_IF_STOPPED, []),
        ({"may_work": False}, BACK_IF_STOPPED, []),
        ({"is_queued": False, "is_strange": True}, BACK_IF_STOPPED, [(BATCH, PauseReason.ENVIRONMENT)]),
    ],
    ids=["no near slot", "a worker that stops", "a message that came twice", "a paused batch", "another tenant's"],
)
def test_what_may_not_be_worked_on_is_not_claimed_and_nothing_is_sent(given, journal, told):
    world = World(**given)
    assert world.run() == journal
    assert (world.told, world.settled[1]) == (told, None)


def test_a_message_that_comes_twice_is_worked_on_once():
    world = World(ACTIVE)
    world.run()
    assert world.run() == f"slot, claim, post 1, settle Active, {BACK_IF_STOPPED}"


def test_what_is_logged_during_a_call_names_the_record_and_what_is_logged_after_it_does_not():
    lines = []

    def log(world: World, call: Call) -> Device:
        lines.append(add_context(None, "info", {}))
        return ACTIVE

    World(errors.ResyncRequired(replace(RESYNC.answer, correlation_id="correlation-1")), log).run()
    ids = {"batch_id": BATCH, "record_id": RECORD, "attempt": FRESH.attempts}
    assert lines == [ids | {"correlation_id": "correlation-1"}]
    assert add_context(None, "info", {}) == {}


def test_a_failure_of_our_own_is_logged_by_its_kind_alone():
    world = World(RESYNC, fails_at="answered", failure=RuntimeError("quotes 000634"))
    with capture_logs(processors=[add_context]) as lines, pytest.raises(RuntimeError):
        world.run()
    (line,) = lines
    assert (line["event"], line["failure"], line["record_id"]) == ("attempt_failed", "RuntimeError", RECORD)
    assert "000634" not in str(line)
    assert add_context(None, "info", {}) == {}


@pytest.mark.parametrize(
    ("world", "spent"),
    [
        (World(ACTIVE), {PAIR.first}),
        (World(RESYNC, ACTIVE), {PAIR.first, PAIR.second}),
        # Nothing went out for it: the device was ACTIVE already.
        (World(ACTIVE, progress=progress_with_device(verdict=Reason.REJECTED)), None),
        # Its counter tells.
        (World(ACTIVE, progress=progress_with_device(next_counter=0), source=SEED), None),
    ],
)
def test_what_a_pair_has_spent_is_kept_when_it_is_erased_and_nothing_else_of_it(world, spent):
    world.run()
    kept = world.settled[2].spent
    assert (kept and open_spent(world.keyring, kept, BATCH, ROW)) == spent


@pytest.mark.parametrize(
    ("world", "calls"),
    [
        (
            World(retried()),
            [
                {"call": "otp1", "resync": False, "status": 429, "milliseconds": 250},
                {"call": "otp1", "resync": False, "status": 200, "milliseconds": 500},
            ],
        ),
        (
            World(RESYNC, ACTIVE),
            [
                {"call": "otp1", "resync": False, **write_answer(RESYNC.answer), "milliseconds": 0},
                {"call": "otp2", "resync": True, "status": 200, "milliseconds": 0},
            ],
        ),
        # What was not delivered is no call; and what got no answer has no status.
        (
            World(WAITING, errors.NotDelivered(), progress=UNKNOWN_FATE),
            [{"call": "read", "status": 200, "milliseconds": 0}],
        ),
        (
            World(errors.OutcomeUnknown()),
            [{"call": "otp1", "resync": False, "milliseconds": 0}],
        ),
    ],
    ids=["two tries", "two OTPs", "a read, and a post that was not delivered", "no answer"],
)
def test_an_attempt_is_settled_with_each_of_its_calls_as_it_was(world, calls):
    world.run()
    assert world.settled[2].calls == calls


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each sleep before a claim, which takes no time."""
    seconds: list[float] = []
    monkeypatch.setattr(module, "sleep", seconds.append)
    return seconds


def test_a_message_is_kept_in_hand_while_the_database_is_away(slept):
    assert World(ACTIVE, away=4).run() == "slot, claim, reach, reach, reach, reach, slot, claim, post 1, settle Active"
    assert len(slept) == 3
    assert all(0.5 <= seconds <= 1.5 for seconds in slept)
    # One that is to be handed back, too.
    back = "no slot, handed back for 5 s"
    assert World(slots=0, away=2).run() == f"{back}, reach, reach, {back}"


def test_a_database_that_stays_away_is_given_up_after_about_a_minute(slept):
    world = World(away=1000)
    with pytest.raises(exc.OperationalError):
        world.run()
    assert 45 < sum(slept) < 75
    assert set(world.journal) == {"slot", "claim", "reach"}


def test_a_worker_that_stops_does_not_wait_for_the_database(monkeypatch):
    world = World(away=1000)
    monkeypatch.setattr(module, "sleep", lambda _: setattr(world, "is_stopping", True))
    with pytest.raises(exc.OperationalError):
        world.run()
    assert world.journal == ["slot", "claim", "reach", "reach"]


def test_otps_that_do_not_open_are_as_they_were_and_the_fault_may_be_this_process_alone():
    world = World(otps=Keyring([generate_key()]).seal(PAIR.to_plaintext(), identify_row(BATCH, ROW)))
    with pytest.raises(DecryptionError):
        world.run()
    ((_, pause),) = world.told
    assert (world.settled[0], pause) == (FRESH, replace(INTERNAL, is_own=True, detail=pause.detail))
    assert "the key that encrypted this record is not among" in pause.detail


def test_an_otp_goes_out_soon_after_its_mark_or_not_at_all_and_a_read_while_enough_of_the_lease_is_left():
    left = list[float]()

    def note(world: World, call: Call) -> Device:
        left.append(call.send_before - boot_time())
        return WAITING if len(left) == 1 else ACTIVE

    World(note, note, progress=UNKNOWN_FATE).run()
    read, post = left
    assert 0 < post <= SETTINGS.tuning.send_within < read
    assert read <= SETTINGS.tuning.lease - SETTINGS.tuning.lease_left_for_post


class UnlearnedResync(Resync):
    def learn(self, seen: Any, *, had_flag: bool, record_id: int) -> None:
        raise ConfigError("the audit cannot be written")


def test_what_is_learned_is_learned_after_the_answer_was_written_down():
    """Otherwise what fails there would leave an answered OTP as one of unknown fate, and it would go again."""
    world = World(RESYNC, resync=UnlearnedResync(False))
    with pytest.raises(ConfigError):
        world.run()
    assert world.committed.first == ANSWERED


def test_the_audit_log_of_pingone_learns_batch_and_record():
    world = World(ACTIVE)
    world.run()
    (call,) = world.calls
    learned = (f"oathbulk-batch-{BATCH}", f"oathbulk-record-{RECORD}-01234567")
    assert (call.session_id, call.transaction_id) == learned


def test_nothing_that_an_activation_leaves_behind_shows_an_otp():
    world = World(fail)
    with pytest.raises(RuntimeError) as failure:
        world.run()
    claim = World().claim(RECORD, "env-1", 0.0)
    left = [repr(world.settled), repr(world.told), *traceback.format_exception(failure.value), repr(claim), repr(PAIR)]
    assert not [text for text in left if "308714" in text or "367299" in text]
    assert "otps" not in repr(claim)


@pytest.mark.parametrize(
    ("decision", "first", "second", "said"),
    [
        (Active(), ANSWERED, UNSENT, "active"),
        (Active(), ANSWERED, None, "active"),
        (Active(), ANSWERED, ANSWERED, "active after resync"),
        (Active(), UNSENT, UNSENT, "active, unproved"),
        (DeadLetter(Reason.LOCKED), ANSWERED, UNSENT, "dead letter: locked"),
        (Pause(PauseReason.CREDENTIALS), UNSENT, UNSENT, "handed back: batch paused, credentials"),
        (hand_back("hold"), UNSENT, UNSENT, "handed back: no slot"),
        (hand_back("rate_limited"), UNSENT, UNSENT, "handed back: rate limited"),
        (Retry(31.4, is_counted=True, why="outcome_unknown"), UNSENT, UNSENT, "again in 31 s: outcome unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_end_of_an_attempt_is_said_in_a_word_or_two(
    decision: Decision, first: OtpProgress, second: OtpProgress | None, said: str
) -> None:
    assert describe_outcome(decision, Progress(first, second, attempts=1)) == said
