"""The story of one record: which events, in which order, and what is written down when something fails.

The real Activation works here against a database, a client and a pace that are kept in memory; all three write into
one journal, so that the order of events can be read off."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from sqlalchemy import exc
from structlog.testing import capture_logs
from support.data.progress import progress_with_device

from models.encrypted import DecryptionError, Keyring, generate_key, identify_row
from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker import records
from worker.clocks import boot_time
from worker.config.environment import Environment
from worker.config.settings import Settings, Tuning
from worker.leases.settlement import CallSummary, Claim
from worker.observability.logs import add_context
from worker.pace.errors import SlotTooFar
from worker.pace.slots import Slot
from worker.pingone import errors
from worker.pingone.client import Call
from worker.pingone.devices import Device, PairedDevice, Pairing
from worker.pingone.errors import Answer
from worker.records import Activation
from worker.rules.progress import Active, DeadLetter, Decision, OtpProgress, PairingProgress, Pause, Progress, Retry
from worker.tenants import Resync
from worker.vault.otps import Otp, OtpPair, OtpSource, Secret, Seed

PAIR = OtpPair(Otp("308714"), Otp("367299"))
# Counters 0, 1 and 2 make the OTPs 308714, 367299 and 262306.
SECRET = Secret(bytes.fromhex("d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"))
HOTP = Seed(secret=SECRET)
TOTP = Seed(secret=SECRET, otp_type="totp", time_step=30)
MINUTES = Seed(secret=SECRET, otp_type="totp", time_step=60)
RECORD, BATCH, ROW = 41, 7, 12
SERIAL_NUMBER, USER = "30870001", "6f1d3c1e-user"
SETTINGS = Settings(tuning=Tuning(lease=60, lease_left_for_post=25, read_delay=30))
RESYNC = errors.ResyncRequired(Answer(status=400, code="INVALID_DATA", detail_code="EXTRA_OTP_REQUIRED"))
INVALID = errors.InvalidOtp(Answer(status=400, detail_code="INVALID_OTP"))
DATABASE_AWAY = exc.OperationalError("UPDATE record", {}, Exception("server closed the connection"))
FRESH = progress_with_device()
UNKNOWN_FATE = progress_with_device(first=OtpProgress(OtpState.SENT, 1), attempts=2)

Journal = list[str]
Found = Device | PairedDevice | Pairing | None
Scripted = Found | Exception | Callable[[Call], Found]


def device(status: str, **answer: str) -> Device:
    return Device(status, False, False, Answer(status=200, **answer))


ACTIVE, WAITING = device("ACTIVE"), device("ACTIVATION_REQUIRED")


class FleetPace:
    """Gives slots until it is told how far the next one is."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.slots = 1000
        self.far = 9.0

    def wait(self) -> Slot:
        if not self.slots:
            self.journal.append("no slot")
            raise SlotTooFar(self.far)
        self.slots -= 1
        self.journal.append("slot")
        return Slot(0, 1.0)

    def give_back(self, slot: Slot) -> None:
        assert slot == Slot(0, 1.0)
        self.journal.append("slot given back")


@dataclass
class RecordInMemory:
    """One record as it is committed. A fresh one whose OTPs are good is claimed and marked as sent in one statement."""

    journal: Journal
    otps: bytes
    progress: Progress = field(default_factory=Progress)
    is_queued: bool = True
    may_work: bool = True
    may_send: bool = True
    is_lease_lost: bool = False
    is_stale: bool = False
    is_totp: bool = False
    is_strange: bool = False
    # How often the database is still to be found away before it is back.
    away: int = 0
    fails_at: str = ""
    failure: Exception = field(default_factory=lambda: RuntimeError("a fault of our own"))
    settled: tuple[Progress, Decision, CallSummary] | None = None

    def check_database(self) -> None:
        self.journal.append("reach")
        self._ask()

    def claim(self, record_id: int, environment_id: str, jitter: float = 0.0) -> Claim | None:
        self.journal.append("claim")
        self._ask()
        started = boot_time()
        if not (self.is_queued and self.may_work and (record_id, environment_id) == (RECORD, "env-1")):
            return None
        self.is_queued = False
        known = self.progress
        is_fresh = known.first == OtpProgress() and known.verdict is None and not known.not_found and not self.is_stale
        pairing = known.pairing
        is_unpaired = is_fresh and pairing.state == PairingState.UNSENT and pairing.is_allowed and not pairing.pairings
        is_fresh = is_fresh and not self.is_totp and pairing.state == PairingState.PAIRED
        if is_fresh:
            self.progress = known = known.with_otp_sent(1, known.next_counter)
        if is_unpaired:
            self.progress = known = replace(known, pairing=pairing.sent())
        return Claim(
            record_id=RECORD,
            batch_id=BATCH,
            row_number=ROW,
            lease_id="0123456789abcdef",
            started=started,
            serial_number=SERIAL_NUMBER,
            user_id=USER,
            device_id=known.pairing.device_id,
            otps=self.otps,
            progress=replace(known, is_stale=self.is_stale, jitter=jitter),
            is_otp1_marked=is_fresh,
            is_pairing_marked=is_unpaired,
        )

    def mark_sent(self, claim: Claim, ordinal: int, counter: int | None = None) -> bool:
        self.write(f"sending {ordinal}")
        unused = self.progress.next_counter
        assert (counter is None) == (unused is None)
        assert unused is None or counter >= unused, "a counter is used twice"
        is_unsent = self.progress.otp(ordinal).state == OtpState.UNSENT
        if self._goes_on_sending() and is_unsent:
            self.progress = self.progress.with_otp_sent(ordinal, counter)
            return True
        return False

    def mark_pairing(self, claim: Claim) -> bool:
        self.write("pairing")
        if self._goes_on_sending() and self.progress.pairing.state == PairingState.UNSENT:
            self.progress = replace(self.progress, pairing=self.progress.pairing.sent())
            return True
        return False

    def write_progress(self, claim: Claim, progress: Progress) -> bool:
        if not self.is_lease_lost:
            self.progress = replace(progress, jitter=0.0, pairing=self._choose_pairing(claim, progress))
        self.write("answered")
        return not self.is_lease_lost

    def renew_mark(self, claim: Claim) -> bool:
        self.write("still sending?")
        return self._goes_on_sending()

    def may_read(self, claim: Claim) -> bool:
        self.write("may read?")
        return self.may_work and not self.is_lease_lost

    def find_foreign_batch(self, record_id: int, environment_id: str) -> int | None:
        return BATCH if self.is_strange else None

    def hand_back(self, record_id: int, delay: float) -> bool:
        self.journal.append(f"handed back for {delay:g} s")
        self._ask()
        return True

    def hand_back_stopped(self, record_id: int) -> bool:
        self.journal.append("handed back if stopped")
        return False

    def settle(self, claim: Claim, progress: Progress, decision: Decision, tally: CallSummary) -> bool:
        self.journal.append(f"settle {type(decision).__name__}")
        self.settled = replace(progress, jitter=0.0), decision, tally
        if not self.is_lease_lost:
            self.progress = replace(self.progress, pairing=self._choose_pairing(claim, progress))
        return not self.is_lease_lost

    def _choose_pairing(self, claim: Claim, progress: Progress) -> PairingProgress:
        """What is known of the device is written only where the database may have something else."""
        return progress.pairing if claim.may_have_changed(progress.pairing) else self.progress.pairing

    def _goes_on_sending(self) -> bool:
        """The lease stands, the batch runs, and the OTPs are good."""
        return self.may_work and self.may_send and not self.is_lease_lost and not self.is_stale

    def _ask(self) -> None:
        if self.away:
            self.away -= 1
            raise DATABASE_AWAY

    def write(self, event: str) -> None:
        self.journal.append(event)
        if event == self.fails_at:
            raise self.failure


class SettableClock:
    """PingOne's clock, which stands still, and is known exactly."""

    def __init__(self) -> None:
        self.time: float | None = None

    @property
    def is_known(self) -> bool:
        return self.time is not None

    def now(self) -> tuple[float, float]:
        assert self.time is not None
        return self.time, self.time


class ScriptedClient:
    """Answers in turn; looks at each OTP post and pairing into the database first, as an auditor would. One object for
    devices and for pairings."""

    def __init__(self, journal: Journal, record: RecordInMemory, pace: FleetPace, answers: list[Scripted]) -> None:
        self.journal = journal
        self.record = record
        self.pace = pace
        self.answers = answers
        self.calls: list[Call] = []
        self.clock = SettableClock()
        self.sent: list[Otp] = []

    def activate(self, user_id: str, device_id: str, otp: Otp, *, resync: bool, call: Call) -> Device:
        self.sent.append(otp)
        known = self.record.progress
        assert device_id == known.pairing.device_id, "an OTP goes to a device that is not written down"
        ordinal = 1 if known.first.state == OtpState.SENT else 2
        assert known.next_counter is not None or otp == (PAIR.first if ordinal == 1 else PAIR.second)
        self._take_slot(call)
        self.journal.append(f"post {ordinal}{' with oathResync' if resync else ''}")
        written = self.record.progress.otp(ordinal)
        assert (written.state, written.posts > 0) == (OtpState.SENT, True), "an OTP goes out that is not written down"
        return self._answer(call)

    def pair(self, user_id: str, serial_number: str, *, call: Call) -> PairedDevice:
        assert (user_id, serial_number) == (USER, SERIAL_NUMBER)
        self._take_slot(call)
        self.journal.append("pair")
        written = self.record.progress.pairing
        assert (written.state, written.pairings > 0) == (PairingState.SENT, True), "a pairing is not written down"
        return self._answer(call)

    def find_pairing(self, serial_number: str, user_id: str, *, call: Call) -> Pairing | None:
        assert (user_id, serial_number) == (USER, SERIAL_NUMBER)
        assert call.slot is None, "a look-up has a pace of its own, and the slot is still in hand"
        self.journal.append("find")
        return self._answer(call)

    def read_device(self, user_id: str, device_id: str, *, call: Call) -> Device:
        self._take_slot(call)
        self.journal.append("read")
        return self._answer(call)

    def _take_slot(self, call: Call) -> None:
        if call.slot is None:
            self.pace.wait()
        call.slot = None

    def _answer(self, call: Call) -> Found:
        self.calls.append(call)
        answer = self.answers.pop(0)
        if callable(answer):
            return answer(call)
        if not isinstance(answer, errors.NotDelivered | SlotTooFar):
            call.requests += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    """An Activation and all that it works with."""

    def __init__(
        self,
        *answers: Scripted,
        progress: Progress = FRESH,
        source: OtpSource = PAIR,
        resync: Resync | None = None,
        **environment: object,
    ) -> None:
        self.journal: Journal = []
        keyring = Keyring([generate_key()])
        otps = keyring.seal(source.to_plaintext(), identify_row(BATCH, ROW))
        self.record = RecordInMemory(self.journal, otps, progress, is_totp=source in (TOTP, MINUTES))
        self.pace = FleetPace(self.journal)
        self.client = ScriptedClient(self.journal, self.record, self.pace, list(answers))
        self.told: list[tuple[int, Decision]] = []
        self.is_stopping = False
        self.activation = Activation(
            Environment(name="default", environment_id="env-1", client_id="c", client_secret="s", **environment),
            SETTINGS,
            self.record,
            self.client,
            self.client,
            self.pace,
            keyring,
            SimpleNamespace(
                apply_decision=lambda _environment, claim, decision, _posts: self.told.append(
                    (claim.batch_id, decision)
                ),
                stop_process_or_batch=lambda batch_id, reason: self.told.append((batch_id, reason)),
            ),
            resync=resync,
            is_stopping=lambda: self.is_stopping,
            clock=self.client.clock,
        )

    def run(self) -> Journal:
        self.activation.run(RECORD)
        return self.journal

    @property
    def decision(self) -> Decision:
        return self.record.settled[1]

    @property
    def progress(self) -> Progress:
        return self.record.settled[0]


def test_a_fresh_record_takes_a_slot_a_lease_a_post_and_a_settlement():
    world = World(ACTIVE)
    assert world.run() == ["slot", "claim", "post 1", "settle Active"]
    assert world.told == [(BATCH, Active())]


def test_the_second_otp_waits_for_the_answer_to_be_written_a_slot_and_its_own_mark():
    world = World(RESYNC, ACTIVE)
    assert world.run() == [
        *("slot", "claim", "post 1"),
        *("answered", "slot", "sending 2", "post 2 with oathResync"),
        "settle Active",
    ]
    assert world.record.progress.first == OtpProgress(OtpState.ANSWERED, 1)


def test_a_refusal_that_was_heard_keeps_nothing_of_the_call_that_it_ended():
    World(RESYNC, ACTIVE).run()

    assert RESYNC.__traceback__ is None


def test_a_tenant_may_want_oath_resync_with_the_first_otp_already():
    assert "post 1 with oathResync" in World(ACTIVE, resync_on_first_call=True).run()


def test_an_otp_of_unknown_fate_is_read_before_anything_is_sent():
    assert World(ACTIVE, progress=UNKNOWN_FATE).run() == ["slot", "claim", "read", "settle Active"]


def test_an_otp_of_unknown_fate_goes_again_under_a_new_mark_if_the_device_waits():
    world = World(WAITING, ACTIVE, progress=UNKNOWN_FATE)
    assert world.run() == ["slot", "claim", "read", "answered", "slot", "sending 1", "post 1", "settle Active"]
    assert world.progress.first == OtpProgress(OtpState.ANSWERED, 2)


def test_a_lease_that_was_lost_during_a_read_keeps_the_otp_back():
    world = World(WAITING, progress=UNKNOWN_FATE)
    world.record.is_lease_lost = True
    assert world.run() == ["slot", "claim", "read", "answered", "settle Retry"]
    assert world.told == []


def test_a_record_between_its_otps_goes_on_with_the_second():
    half_done = progress_with_device(first=OtpProgress(OtpState.ANSWERED, 1), attempts=2)
    world = World(ACTIVE, progress=half_done)
    assert world.run() == ["slot", "claim", "sending 2", "post 2 with oathResync", "settle Active"]


def test_a_refused_otp_is_settled_after_a_read():
    world = World(INVALID, WAITING)
    assert [event for event in world.run() if event in ("post 1", "read", "settle DeadLetter")] == [
        *("post 1", "read", "settle DeadLetter")
    ]
    assert world.decision == DeadLetter(Reason.INVALID_OTP)
    assert world.told == [(BATCH, world.decision)]


def test_after_an_unknown_outcome_nothing_more_is_sent():
    world = World(errors.OutcomeUnknown())
    assert world.run() == ["slot", "claim", "post 1", "settle Retry"]
    assert world.progress.first == OtpProgress(OtpState.SENT, 1)
    assert world.decision.delay >= SETTINGS.tuning.read_delay


def test_without_a_near_slot_nothing_is_claimed():
    world = World()
    world.pace.slots = 0
    assert world.run() == ["no slot", "handed back for 5 s"]


def test_without_a_near_slot_for_the_second_otp_the_record_goes_back_half_done():
    world = World(RESYNC)
    world.pace.slots = 1
    assert world.run() == ["slot", "claim", "post 1", "answered", "no slot", "settle Retry"]
    assert world.decision == Retry(5.0, is_counted=False, why="hold")
    assert (world.progress.first.state, world.progress.second) == (OtpState.ANSWERED, OtpProgress())


def test_a_hold_that_comes_between_the_tries_of_a_post_takes_the_mark_back():
    world = World(SlotTooFar(4.0))
    assert world.run() == ["slot", "claim", "post 1", "settle Retry"]
    assert (world.decision, world.progress.first) == (Retry(4.0, is_counted=False, why="hold"), OtpProgress())


@pytest.mark.parametrize("state", ["is_queued", "may_work"])
def test_a_message_whose_record_may_not_be_claimed_changes_nothing(state):
    world = World()
    setattr(world.record, state, False)
    assert world.run() == ["slot", "claim", "slot given back", "handed back if stopped"]


def test_a_message_that_comes_twice_is_worked_on_once():
    world = World(ACTIVE)
    world.run()
    world.run()
    assert [event for event in world.journal if event != "slot"] == [
        *("claim", "post 1", "settle Active"),
        *("claim", "slot given back", "handed back if stopped"),
    ]


def test_a_batch_that_was_paused_between_read_and_post_sends_nothing():
    world = World(WAITING, progress=UNKNOWN_FATE)
    world.record.may_send = False
    assert world.run() == ["slot", "claim", "read", "answered", "slot", "sending 1", "settle Retry"]
    assert world.decision == Retry(0.0, is_counted=False, why="not_permitted")
    assert world.progress.first == OtpProgress(OtpState.UNSENT, 1)


def test_a_lost_lease_keeps_the_second_otp_back_and_tells_nobody():
    world = World(RESYNC)
    world.record.is_lease_lost = True
    assert world.run() == ["slot", "claim", "post 1", "answered", "settle Retry"]
    assert world.told == []


def retried(meanwhile: Callable[[], None] = lambda: None) -> Callable[[Call], Device]:
    """A call that ends well at its second try, for which it asks as the real client does."""

    def answer(call: Call) -> Device:
        call.count_request(0.25)
        call.rate_limited += 1
        meanwhile()
        call.permit()
        call.count_request(0.5)
        return ACTIVE

    return answer


def test_what_is_logged_during_a_call_names_the_record_and_what_is_logged_after_it_does_not():
    lines = []

    def log_during_second_call(call: Call) -> Device:
        lines.append(add_context(None, "info", {"event": "during"}))
        return ACTIVE

    refused = errors.ResyncRequired(replace(RESYNC.answer, correlation_id="correlation-1"))
    world = World(refused, log_during_second_call)
    world.run()
    ids = {"batch_id": BATCH, "record_id": RECORD, "attempt": world.progress.attempts}
    assert lines == [ids | {"event": "during", "correlation_id": "correlation-1"}]
    assert add_context(None, "info", {"event": "after"}) == {"event": "after"}


def test_a_failure_of_our_own_is_logged_by_its_kind_alone():
    world = World(RESYNC)
    world.record.fails_at, world.record.failure = "answered", RuntimeError("quotes 000634")
    with capture_logs(processors=[add_context]) as lines, pytest.raises(RuntimeError):
        world.run()
    (line,) = lines
    assert (line["event"], line["failure"], line["record_id"]) == ("attempt_failed", "RuntimeError", RECORD)
    assert "000634" not in str(line)
    assert add_context(None, "info", {}) == {}


def test_a_second_try_asks_whether_it_may():
    world = World(retried())
    assert world.run() == ["slot", "claim", "post 1", "still sending?", "settle Active"]
    assert world.record.settled[2] == CallSummary(2, rate_limited=1, answer=ACTIVE.answer, call_seconds=0.75)


def pause(world: World) -> None:
    world.record.may_work = False


def lose_lease(world: World) -> None:
    world.record.is_lease_lost = True


def stop(world: World) -> None:
    world.is_stopping = True


def expire(world: World) -> None:
    world.record.is_stale = True


@pytest.mark.parametrize("meanwhile", [pause, lose_lease, stop, expire])
def test_a_second_try_of_a_post_that_may_not_start_takes_the_mark_back(meanwhile):
    world = World()
    world.client.answers = [retried(lambda: meanwhile(world))]
    world.run()
    assert world.decision == Retry(0.0, is_counted=False, why="not_permitted")
    assert world.progress.first == OtpProgress()


@pytest.mark.parametrize("meanwhile", [pause, lose_lease, stop])
def test_a_second_try_of_a_read_that_may_not_start_leaves_the_fate_open(meanwhile):
    world = World(progress=UNKNOWN_FATE)
    world.client.answers = [retried(lambda: meanwhile(world))]
    world.run()
    assert world.decision == Retry(0.0, is_counted=False, why="not_permitted")
    assert world.progress.first == OtpProgress(OtpState.SENT, 1)


def test_a_second_try_of_a_read_needs_no_good_otp():
    world = World(progress=UNKNOWN_FATE)
    world.client.answers = [retried(lambda: expire(world))]
    assert world.run() == ["slot", "claim", "read", "may read?", "settle Active"]


def test_an_otp_that_expired_before_its_claim_is_not_sent():
    world = World()
    world.record.is_stale = True
    assert world.run() == ["slot", "claim", "settle DeadLetter"]
    assert world.decision == DeadLetter(Reason.STALE_OTP, is_counted=False)


def test_an_otp_that_expires_during_the_read_before_it_is_not_sent():
    def with_device_waiting(call: Call) -> Device:
        expire(world)
        return WAITING

    world = World(with_device_waiting, progress=UNKNOWN_FATE)
    assert world.run() == ["slot", "claim", "read", "answered", "slot", "sending 1", "settle Retry"]
    assert world.progress.first == OtpProgress(OtpState.UNSENT, 1)


def test_a_worker_that_stops_claims_nothing_more():
    world = World()
    world.is_stopping = True
    assert world.run() == ["slot", "handed back for 0 s"]


def test_our_own_failure_before_anything_went_out_takes_the_mark_back_and_pauses_the_batch():
    def fail(call: Call) -> Device:
        raise RuntimeError("a fault of our own")

    world = World(fail)
    with pytest.raises(RuntimeError, match="a fault of our own"):
        world.run()
    assert world.journal[-2:] == ["post 1", "settle Pause"]
    assert world.progress.first == OtpProgress()
    assert world.told == [(BATCH, Pause(PauseReason.INTERNAL, delay=SETTINGS.tuning.read_delay))]


@pytest.mark.parametrize("ordinal", [1, 2])
def test_our_own_failure_after_something_went_out_leaves_the_fate_open(ordinal):
    half_done = progress_with_device(first=OtpProgress(OtpState.ANSWERED, 1), attempts=2)
    world = World(RuntimeError("unreadable"), progress=progress_with_device() if ordinal == 1 else half_done)
    with pytest.raises(RuntimeError, match="unreadable"):
        world.run()
    assert world.progress.otp(ordinal) == OtpProgress(OtpState.SENT, 1)
    assert world.decision == Pause(PauseReason.INTERNAL, delay=SETTINGS.tuning.read_delay)


def test_our_own_failure_forgets_no_answer_that_may_be_written_down():
    # The commit may have gone through although its acknowledgement did not.
    world = World(RESYNC)
    world.record.fails_at = "answered"
    with pytest.raises(RuntimeError, match="a fault of our own"):
        world.run()
    assert world.journal[-2:] == ["answered", "settle Pause"]
    assert world.record.progress.first.state == OtpState.ANSWERED
    assert world.progress.first == OtpProgress(OtpState.ANSWERED, 1)


@pytest.mark.parametrize(("answer", "event"), [(RESYNC, "sending 2"), (retried(), "still sending?")])
def test_a_database_that_fails_before_a_call_lets_nothing_go_out(answer, event):
    world = World(answer)
    world.record.fails_at = event
    with pytest.raises(RuntimeError, match="a fault of our own"):
        world.run()
    assert world.journal[-2] == event
    assert sum(post.startswith("post") for post in world.journal) == 1


@pytest.mark.parametrize(
    ("answer", "event"), [(RESYNC, "answered"), (RESYNC, "sending 2"), (retried(), "still sending?")]
)
@pytest.mark.parametrize(
    "failure",
    [DATABASE_AWAY, exc.TimeoutError("no connection")],
    ids=["a lost connection", "no connection in time"],
)
def test_a_database_that_was_restarted_stops_no_batch(answer, event, failure):
    world = World(answer)
    world.record.fails_at = event
    world.record.failure = failure
    with pytest.raises(type(failure)):
        world.run()
    assert world.decision == Retry(SETTINGS.tuning.read_delay, is_counted=False, why="database")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each sleep before a claim, which takes no time."""
    seconds: list[float] = []
    monkeypatch.setattr(records, "sleep", seconds.append)
    return seconds


def test_a_message_is_kept_in_hand_while_the_database_is_away(slept):
    world = World(ACTIVE)
    world.record.away = 4
    assert world.run() == ["slot", "claim", *["reach"] * 4, "slot", "claim", "post 1", "settle Active"]
    assert all(0.5 <= seconds <= 1.5 for seconds in slept)
    assert len(slept) == 3


def test_a_message_that_is_to_be_handed_back_is_kept_in_hand_too(slept):
    world = World()
    world.pace.slots, world.record.away = 0, 2
    back = ["no slot", "handed back for 5 s"]
    assert world.run() == [*back, *["reach"] * 2, *back]


def test_a_database_that_stays_away_is_given_up_after_about_a_minute(slept):
    world = World()
    world.record.away = 1000
    with pytest.raises(exc.OperationalError):
        world.run()
    assert 45 < sum(slept) < 75
    assert set(world.journal) == {"slot", "claim", "reach"}


def test_a_worker_that_stops_does_not_wait_for_the_database(monkeypatch):
    world = World()
    world.record.away = 1000
    monkeypatch.setattr(records, "sleep", lambda _: setattr(world, "is_stopping", True))
    with pytest.raises(exc.OperationalError):
        world.run()
    assert world.journal == ["slot", "claim", "reach", "reach"]


@pytest.mark.parametrize(
    "progress", [progress_with_device(), progress_with_device(attempts=3, not_found=1), UNKNOWN_FATE]
)
def test_otps_that_do_not_open_pause_the_batch_and_are_as_they_were(progress):
    world = World(progress=progress)
    world.record.otps = Keyring([generate_key()]).seal(PAIR.to_plaintext(), identify_row(BATCH, ROW))
    with pytest.raises(DecryptionError):
        world.run()
    assert world.journal == ["slot", "claim", "settle Pause"]
    assert world.progress == progress
    ((batch_id, pause),) = world.told
    assert pause.detail.startswith(
        "An OTP or seed cannot be decrypted: the key that encrypted this record is not among"
    )
    expected = Pause(PauseReason.INTERNAL, delay=SETTINGS.tuning.read_delay, is_own=True, detail=pause.detail)
    assert (batch_id, pause) == (BATCH, expected)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(errors.CredentialsRefused(), PauseReason.CREDENTIALS), (errors.ProtocolFault(), PauseReason.PROTOCOL)],
)
def test_what_only_a_person_can_mend_is_told_to_whoever_pauses_batches(answer, reason):
    world = World(answer)
    world.run()
    (told,) = world.told
    assert (told[0], told[1].reason) == (BATCH, reason)
    # A wrong secret may be this process' alone; what PingOne did not understand is everybody's.
    assert told[1].is_own is (reason == PauseReason.CREDENTIALS)
    assert world.progress.first == OtpProgress()


def test_the_attempt_remembers_the_last_answer_that_pingone_gave():
    world = World(WAITING, errors.NotDelivered(), progress=UNKNOWN_FATE)
    world.run()
    assert world.record.settled[2] == CallSummary(requests=1, rate_limited=0, answer=WAITING.answer)


def timed(answer: Scripted, left: list[float]) -> Callable[[Call], Device]:
    """The answer, noting how many seconds the call had left to begin."""

    def respond(call: Call) -> Device:
        left.append(call.send_before - boot_time())
        call.requests += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    return respond


def test_an_otp_goes_out_soon_after_its_mark_or_not_at_all():
    left: list[float] = []
    World(timed(RESYNC, left), timed(ACTIVE, left)).run()
    assert len(left) == 2
    assert all(0 < seconds <= SETTINGS.tuning.send_within for seconds in left)


def test_a_read_may_begin_while_enough_of_the_lease_is_left_for_a_call():
    left: list[float] = []
    World(timed(ACTIVE, left), progress=UNKNOWN_FATE).run()
    assert SETTINGS.tuning.send_within < left[0] <= SETTINGS.tuning.lease - SETTINGS.tuning.lease_left_for_post


def test_the_answer_that_a_refused_otp_got_is_written_down_before_the_device_is_read():
    world = World(INVALID, WAITING)
    assert world.run() == ["slot", "claim", "post 1", "answered", "slot", "read", "settle DeadLetter"]
    assert world.record.progress.first == OtpProgress(OtpState.ANSWERED, 1)
    assert world.record.progress.verdict == Reason.INVALID_OTP


def test_a_worker_of_another_tenant_says_so_and_sends_nothing():
    world = World()
    world.record.is_queued = False
    world.record.is_strange = True
    assert world.run() == ["slot", "claim", "slot given back", "handed back if stopped"]
    assert world.told == [(BATCH, PauseReason.ENVIRONMENT)]


def test_the_audit_log_of_pingone_learns_batch_and_record():
    world = World(ACTIVE)
    world.run()
    (call,) = world.client.calls
    assert call.session_id == f"oathbulk-batch-{BATCH}"
    assert call.transaction_id == f"oathbulk-record-{RECORD}-01234567"


def test_nothing_that_an_activation_leaves_behind_shows_an_otp():
    def fail(call: Call) -> Device:
        raise RuntimeError("a fault of our own")

    world = World(fail)
    with pytest.raises(RuntimeError) as failure:
        world.run()
    texts = [repr(world.record.settled), repr(world.told), *traceback.format_exception(failure.value)]
    claim = replace(World().record, is_queued=True).claim(RECORD, "env-1")
    texts += [repr(claim), repr(PAIR)]
    for text in texts:
        assert "308714" not in text
        assert "367299" not in text
    assert "otps" not in repr(claim)
