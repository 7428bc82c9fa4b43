"""Streams of answers: whatever PingOne, or what stands in its place, says to a whole batch, few OTPs are spent before
the batch stops.

A stream is drawn from a seed: a few phases, each with its own choice of answers to each kind of call. Nothing else goes
wrong in these scenarios; but a stream may be as mad as it likes. The step judge holds every request against promises 2
and 3 as it does in every other scenario."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from hunt import initial_state
from hunt.database import Row
from hunt.model_pingone import describe
from hunt.scenario import Scenario
from hunt.schedule import Broken
from hunt.tenant import ACTIVE, EXTRA, INVALID, REFUSED, Call, ModelDevice, Reply, answer
from models.batch import BatchState
from models.record_states import OtpState
from worker.config.settings import Settings
from worker.pingone.errors import Answer, NotDelivered, OutcomeUnknown
from worker.pingone.wire import Request
from worker.rules.breaker import Thresholds

RECORDS = 40
WORKERS = 3
# Moments after which a stream ends that neither finishes nor stops its batch: the service says nothing of use.
MOMENTS = 4000
# What PingOne did nothing with, whatever code it gives.
NOTHING_DONE = (401, 403, 404, 405, 415, 429)

Said = Callable[[Call, Random], Reply]


def _says(verdict: str | None, status: int, *codes: str, did_nothing: bool = False) -> Said:
    def say(call: Call, _: Random) -> Reply:
        call.verdict, call.did_nothing = verdict, did_nothing and call.is_post
        return answer(status, *codes)

    return say


def _activates(call: Call, _: Random) -> Reply:
    call.verdict = ACTIVE
    call.device.become_active()
    call.device.activated_by = call.device.activated_by or (call if call.is_post else None)
    return answer(200, **describe(call.device))


def _waits(call: Call, _: Random) -> Reply:
    return answer(200, **describe(call.device))


def _is_locked(call: Call, _: Random) -> Reply:
    return answer(200, **describe(call.device) | {"lock": {"status": "LOCKED"}})


def _names_another(call: Call, random: Random) -> Reply:
    return answer(200, id="another", status=random.choice(("ACTIVE", "ACTIVATION_REQUIRED")))


def _makes_up_a_code(call: Call, random: Random) -> Reply:
    status = random.randrange(400, 500)
    call.verdict, call.did_nothing = REFUSED, call.is_post and status in NOTHING_DONE
    return answer(status, f"CODE_{random.randrange(5)}", random.choice((None, "NEW", "NEWER")))


def _breaks(call: Call, _: Random) -> Reply:
    raise OutcomeUnknown(Answer(message="no answer"))


def _is_out_of_reach(call: Call, _: Random) -> Reply:
    call.did_nothing = call.is_post
    raise NotDelivered(Answer(message="refused"))


def _html(status: int) -> Said:
    return lambda _call, _random: (status, {"content-type": "text/html"}, b"<html>not here</html>")


ANSWERS: dict[str, Said] = {
    "active": _activates,
    "waiting": _waits,
    "locked": _is_locked,
    "another_device": _names_another,
    "extra": _says(EXTRA, 400, "INVALID_DATA", "EXTRA_OTP_REQUIRED"),
    "invalid": _says(INVALID, 400, "INVALID_DATA", "INVALID_OTP"),
    "account": _says(REFUSED, 400, "INVALID_REQUEST", "ACCOUNT_NOT_USABLE"),
    "made_up": _makes_up_a_code,
    "unauthorized": _says(None, 401, "ACCESS_FAILED", "INVALID_TOKEN", did_nothing=True),
    "forbidden": _says(None, 403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS", did_nothing=True),
    "not_found": _says(None, 404, "NOT_FOUND", did_nothing=True),
    "wrong_method": _says(None, 405, did_nothing=True),
    "too_many": _says(None, 429, "REQUEST_LIMITED", "LIMIT_EXCEEDED", did_nothing=True),
    "redirect": _says(None, 302),
    "no_status": lambda call, _: answer(200, id=call.device.device_id),
    "empty": lambda _call, _random: (200, {"correlation-id": "c"}, b""),
    "server_error": _says(None, 500, "UNEXPECTED_ERROR"),
    "gateway_404": _html(404),
    "gateway_403": _html(403),
    "gateway_502": _html(502),
    "breaks": _breaks,
    "out_of_reach": _is_out_of_reach,
}


@dataclass(frozen=True)
class Phase:
    """For so many calls: what may be said to OTP 1, to OTP 2, and to a read."""

    calls: int
    choices: tuple[tuple[str, ...], ...]


def phases_of(random: Random) -> list[Phase]:
    """Most streams never let a device become active: these are the ones that must end soon."""
    names = sorted(ANSWERS)
    if random.random() < 0.6:
        names.remove("active")
    phases = []
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        choices = tuple(tuple(random.sample(names, random.choice((1, 1, 2, 4)))) for _ in range(3))
        phases.append(Phase(random.choice((5, 20, 60, 200)), choices))
    return phases


class StreamScenario(Scenario):
    """A batch that is worked on while a stream answers. `spent` counts posts whose device was not active at the end;
    but not an OTP 1 after which PingOne asked for OTP 2, which goes before everything else."""

    def __init__(self, seed: int, *, is_trial: bool = False) -> None:
        super().__init__(seed)
        self.dice.is_calm = True
        self.settings = Settings(encryption_keys=initial_state.KEYS)
        self.step_judge._settings = self.settings
        self.leases = initial_state.leases(self.settings.tuning.lease, self.settings.max_attempts)
        self._random = Random(f"stream:{seed}")
        self._phases = phases_of(self._random)
        self._answered = 0
        self._is_trial = is_trial
        self.network.exchange = self._exchange  # type: ignore[method-assign]

    @property
    def stopped(self) -> bool:
        """The batch does not run: it waits for a person, or for an outage to pass."""
        return self.step_judge.batches[1].state != BatchState.RUNNING

    @property
    def posts(self) -> list[Call]:
        return [call for call in self.pingone.calls if call.is_post and not call.did_nothing]

    @property
    def spent(self) -> int:
        rows = {row.serial_number: row for row in self.step_judge.rows.values()}
        lost = [call for call in self.posts if not call.device.is_active]
        return sum(not _is_half_done(rows[call.device.serial_number]) for call in lost)

    def _load(self) -> tuple[list[ModelDevice], list[str]]:
        devices = [initial_state.device(self.dice, number) for number in range(1, RECORDS + 1)]
        return devices, initial_state.load_one(self.database, devices, trial=3 if self._is_trial else None)

    def _choose_threads(self) -> Sequence[int]:
        return (1,) * WORKERS

    def _go_on(self) -> None:
        """Until the batch stops, is finished, or so many moments have passed."""
        for _ in range(MOMENTS):
            if self.agenda.is_finished() or self.stopped:
                self._end_calls()
                return
            if not self.ticking() and self.agenda.is_tick_due():
                self.start_tick()
            if ready := self.strands.ready():
                self.strands.go_on(self.dice.pick("schedule", ready))
            else:
                self.advance_to(self.agenda.next_moment())

    def _end_calls(self) -> None:
        """What was in work when the batch stopped ends; nothing new begins, which the step judge sees to."""
        while busy := [strand for strand in self.strands.alive() if not self.is_idle(strand)]:
            if ready := [strand for strand in self.strands.ready() if strand in busy]:
                self.strands.go_on(self.dice.pick("schedule", ready))
            else:
                self.advance_to(min(strand.wakes_at for strand in busy))

    def _exchange(self, deadline: float, request: Request, send_before: float | None) -> Reply:
        self.pingone.expect(request)
        self.strands.switch()
        call = self.pingone.arrive(request)
        self.strands.sleep(self._random.uniform(0.02, 0.4))
        call.acted_at = call.heard_at = self.clock.monotonic()
        return self._next(call.ordinal)(call, self._random)

    def _next(self, ordinal: int) -> Said:
        self._answered += 1
        left = self._answered
        for phase in self._phases:
            left -= phase.calls
            if left <= 0:
                break
        return ANSWERS[self._random.choice(phase.choices[(ordinal - 1) % 3])]


def _is_half_done(row: Row) -> bool:
    """PingOne has asked for OTP 2, and that one is still to go."""
    is_asked = row.otp1_state == OtpState.ANSWERED and row.otp2_state == OtpState.UNSENT and row.verdict is None
    return is_asked and not row.is_final


def worst(begin: int, count: int) -> tuple[int, int]:
    """The most OTPs that any of these streams spent, and its seed. Raises Broken where one spent more than it may: the
    threshold and one for each device that became active, and those that were on their way when the batch stopped."""
    found = (0, begin)
    for seed in range(begin, begin + count):
        scenario = StreamScenario(seed, is_trial=seed % 4 == 0)
        scenario.run()
        active = sum(device.is_active for device in scenario.pingone.devices.values())
        threshold = Thresholds(**scenario.settings.tuning.breaker).spent
        allowed = 6 if scenario._is_trial and not active else threshold + active
        # Each worker may have one on its way, and send one more before another has judged what ended.
        if scenario.spent > allowed + 2 * WORKERS:
            raise Broken(f"stream {seed} spent {scenario.spent} OTPs, and {active} devices became active")
        if not active:
            found = max(found, (scenario.spent, seed))
    return found
