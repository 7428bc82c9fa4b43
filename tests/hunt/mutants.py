"""Deliberate faults of our own code, each of which breaks a promise: the hunt has to find every one of them.

A mutant is a patch in memory of our own classes and functions, by name; nothing is written to a file. How soon a token
is looked up and how often it is paired, the tests of worker.rules.decisions hold: here that shows too seldom."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from types import SimpleNamespace
from typing import Any

from sqlalchemy import bindparam, false, null, true, update
from sqlalchemy.exc import OperationalError

from hunt import initial_state
from hunt.model_network import ModelTransport
from models.batch import BatchState
from models.encrypted import Keyring
from models.record import Record
from models.record_states import PairingState
from worker import purging
from worker.batches import commands, imports, mending, removal, undo
from worker.batches.imports import Tokens
from worker.batches.long_list import Turns
from worker.batches.mending import Mender, _Writer
from worker.batches.removal import DeviceOutcome, End, Removal, Sight
from worker.clocks import PingOneClock
from worker.dispatch import Dispatcher, Messages
from worker.leases import lease, moves, queue, replay
from worker.leases.group_commit import Combiner, GroupCommit
from worker.leases.lease import Leases
from worker.leases.queue import Queue
from worker.pingone import devices, errors
from worker.pingone.client import Call, Client
from worker.pingone.clients import Pairings
from worker.pingone.devices import PairedDevice, Pairing
from worker.pingone.errors import Answer
from worker.pingone.wire import Envelope
from worker.records import activation, otp_source
from worker.records.attempt import Attempt
from worker.rules import decisions
from worker.rules.steps import Mint, OtpProgress, PairingProgress, Progress, Retry, SendOtp, StepMissed, WaitForStep
from worker.vault import keys

# What has the name, the name, and what it means instead.
Patch = tuple[Any, str, Any]

MakePatches = Callable[[], list[Patch]]


@dataclass(frozen=True)
class Mutant:
    """A fault. `charge`: a part of that of which the judges have to find it guilty; one that only crashes, since what
    it patches was renamed, is not found. `amid`: evils without which it does not show; it is hunted in schedules that
    know them."""

    charge: str
    amid: tuple[str, ...]
    make_patches: MakePatches


MUTANTS: dict[str, Mutant] = {}


def mutant(charge: str, *, amid: tuple[str, ...] = ()) -> Callable[[MakePatches], MakePatches]:
    """Enter a function that makes the patches of a mutant; its name says what the mutant does wrong."""

    def enter(make_patches: MakePatches) -> MakePatches:
        MUTANTS[make_patches.__name__] = Mutant(charge, amid, make_patches)
        return make_patches

    return enter


def around(target: Any, attribute: str, change: Callable[..., Any]) -> Patch:
    """`change` is called in the place of the real function, which it gets first."""
    real = getattr(target, attribute)

    @wraps(real)
    def changed(*arguments: Any, **named: Any) -> Any:
        return change(real, *arguments, **named)

    return target, attribute, changed


@contextmanager
def at_large(name: str) -> Iterator[None]:
    """The mutant takes the place of the real code."""
    # Statements that healthy code has built are of no use to it, and the other way round.
    initial_state.forget_statements()
    with ExitStack() as stack:
        for target, attribute, value in MUTANTS[name].make_patches():
            stack.enter_context(_patched(target, attribute, value))
        try:
            yield
        finally:
            initial_state.forget_statements()


def execute(statement: str, *values: Any) -> Any:
    """A statement behind everybody's back; its first row."""
    return initial_state.database().raw.execute(statement, values).fetchone()


@contextmanager
def _patched(target: Any, attribute: str, value: Any) -> Iterator[None]:
    real = getattr(target, attribute)
    setattr(target, attribute, value)
    try:
        yield
    finally:
        setattr(target, attribute, real)


# What wastes OTPs, does not read a device when it should, uses a counter or a time step wrongly, or comes to no end.


@mutant("is one post more than the budget")
def has_no_budget() -> list[Patch]:
    def tools(real: Any, **given: Any) -> Any:
        return real(**given | {"limits": replace(given["limits"], posts=99)})

    return [around(activation, "AttemptTools", tools)]


@mutant("goes out, and PingOne has not asked for OTP 2")
def sends_otp_2_unasked() -> list[Patch]:
    def decide_after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        if isinstance(answer, errors.InvalidOtp) and ordinal == 1 and progress.second is not None:
            return progress.with_otp_answered(1), SendOtp(2)
        return real(progress, ordinal, answer, limits)

    return [around(decisions, "decide_after_post", decide_after_post)]


@mutant("not finished")
def rescues_nothing() -> list[Patch]:
    return [around(Queue, "rescue", lambda *_: 0)]


@mutant("not finished")
def rescues_no_lost_message() -> list[Patch]:
    return [around(Queue, "_rescue_queued", lambda *_: 0)]


@mutant("goes out while no read has told what became of")
def sends_again_without_a_read() -> list[Patch]:
    def choose_first_step(real: Any, progress: Any, limits: Any) -> Any:
        return real(progress.with_device_waiting() if progress.is_open else progress, limits)

    return [around(decisions, "choose_first_step", choose_first_step)]


@mutant("times, and")
def takes_no_answer_for_not_delivered() -> list[Patch]:
    def decide_after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        is_unknown = isinstance(answer, errors.OutcomeUnknown)
        return real(progress, ordinal, errors.NotDelivered() if is_unknown else answer, limits)

    return [around(decisions, "decide_after_post", decide_after_post)]


@mutant("times, and", amid=("own_fault",))
def takes_a_fault_of_its_own_for_not_delivered() -> list[Patch]:
    def send(real: Any, self: Client, request: Any, slot: Any, parse: Any, call: Any) -> Any:
        before = call.requests
        try:
            return real(self, request, slot, parse, call)
        except errors.PingOneError:
            raise
        except Exception:
            del call.past[before:]
            raise

    return [around(Client, "_send", send)]


@mutant("and no read has told what became of")
def reads_at_once_after_a_loss() -> list[Patch]:
    def decide_after_post(real: Any, *known: Any) -> Any:
        return real(*known[:-1], replace(known[-1], read_delay=0.0))

    # The age of an OTP guards it as well.
    forget_age = around(decisions, "_was_just_posted", lambda *_: False)
    return [around(decisions, "decide_after_post", decide_after_post), forget_age]


@mutant("are written down", amid=("proxy_not_found",))
def takes_a_proxys_page_for_pingones_word() -> list[Patch]:
    return [(Envelope, "is_from_pingone", True)]


@mutant("it is active here, and not ACTIVE at PingOne")
def believes_an_answer_about_another_device() -> list[Patch]:
    return [around(devices, "_differs", lambda *_: False)]


@mutant("goes out, and PingOne has not asked for OTP 2")
def keeps_a_connection_by_which_more_came_than_the_answer() -> list[Patch]:
    return [around(ModelTransport, "look_behind", lambda *_: None)]


@mutant("it is cancelled although a read is owed")
def cancels_although_a_read_is_owed() -> list[Patch]:
    return [(moves, "needs_read", false)]


@mutant("it is cancelled although a read is owed", amid=("cancelled",))
def settles_as_cancelled_although_a_read_is_owed() -> list[Patch]:
    def kind(real: Any, progress: Any, decision: Any) -> Any:
        if isinstance(decision, Retry):
            progress = replace(progress.with_device_waiting(), verdict=None)
        return real(progress, decision)

    return [around(lease, "_choose_kind", kind)]


@mutant("is committed as unused")
def moves_the_counter_only_with_the_answer() -> list[Patch]:
    same = {Record.next_counter: Record.next_counter}
    return [around(lease, "mark_otp", lambda real, *given: real(*given) | same)]


@mutant("and that one or a later one went before")
def gives_the_counter_of_a_lost_otp_back() -> list[Patch]:
    def with_device_waiting(real: Any, self: Progress) -> Progress:
        known = real(self)
        is_lost = known.next_counter is not None and self.next_counter is not None and self.is_open
        return replace(known, next_counter=self.next_counter - 1) if is_lost else known

    return [around(Progress, "with_device_waiting", with_device_waiting)]


@mutant("although a read is owed")
def goes_on_with_a_pair_whose_second_otp_was_lost() -> list[Patch]:
    def with_new_pair(real: Any, self: Progress) -> Progress:
        assert self.second is not None
        return replace(self, second=replace(self.second, state="unsent"))

    return [around(Progress, "with_new_pair", with_new_pair)]


@mutant("brings an OTP outside its time step")
def sends_otp_2_in_the_time_step_of_otp_1() -> list[Patch]:
    def choose(real: Any, progress: Progress, ordinal: int, *rest: Any) -> Any:
        chosen = real(progress, ordinal, *rest)
        return Mint(progress.next_counter or 0) if isinstance(chosen, WaitForStep) and ordinal == 2 else chosen

    return [around(otp_source, "choose_time_step", choose)]


@mutant("brings an OTP that its seed did not make for now")
def sends_otp_2_after_its_time_step() -> list[Patch]:
    def choose(real: Any, progress: Progress, *rest: Any) -> Any:
        chosen = real(progress, *rest)
        return Mint(progress.next_counter or 0) if isinstance(chosen, StepMissed) else chosen

    return [around(otp_source, "choose_time_step", choose)]


@mutant("brings an OTP outside its time step")
def takes_its_own_clock_for_pingones() -> list[Patch]:
    def now(real: Any, self: PingOneClock) -> tuple[float, float]:
        earliest, _ = real(self)
        return earliest + 11.0, earliest + 11.0

    return [around(PingOneClock, "now", now)]


@mutant("brings an OTP that its seed did not make for now", amid=("replayed",))
def replays_a_seed_from_its_first_counter() -> list[Patch]:
    return [around(replay, "_begin_new_budget", lambda real: real() | {"next_counter": Record.next_counter - 1})]


# What does not respect a lease or a batch that was stopped, writes down too late or not what was, or gets wrong what
# several threads ask for together.


@mutant("no arrow leads from activating to queued")
def claims_what_another_holds() -> list[Patch]:
    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        execute("UPDATE record SET status='queued', lease_id=NULL WHERE id=? AND status='activating'", record_id)
        return real(self, record_id, *rest)

    return [around(Leases, "claim", claim)]


@mutant("a lease is taken over, or used twice")
def shares_one_lease_id() -> list[Patch]:
    return [(lease, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="5" * 32)))]


@mutant("goes out without a lease")
def sends_however_late_it_is() -> list[Patch]:
    late = {"send_within": 1e9, "last_send": 1e9}
    return [around(activation, "AttemptTools", lambda real, **given: real(**given | late))]


@mutant("is final, and nobody asked for pending")
def hands_back_whatever_it_is() -> list[Patch]:
    def hand_back(_: Any, self: Leases, record_id: int, delay: float) -> bool:
        with initial_state.database().writing():
            execute("UPDATE record SET status='pending', lease_id=NULL, lease_until=NULL WHERE id=?", record_id)
        return True

    return [around(Leases, "hand_back", hand_back)]


@mutant("is to go out although the batch does not run")
def sends_although_the_batch_is_paused() -> list[Patch]:
    return [(lease, "may_call", lambda *_: true())]


@mutant("it is claimed although its batch is paused")
def claims_although_the_batch_is_paused() -> list[Patch]:
    return [(lease, "may_work", lambda *_: true())]


@mutant("s before its date", amid=("dates",))
def lets_records_go_before_their_date() -> list[Patch]:
    return [(module, "may_begin", lambda _: true()) for module in (moves, queue)]


@mutant("s before its date", amid=("kept_back",))
def goes_on_with_a_claim_although_its_record_is_kept_back() -> list[Patch]:
    return [(lease, "may_call", lambda *_: moves.is_batch_in(BatchState.RUNNING))]


@mutant("and its window closed", amid=("window",))
def waits_for_a_tick_to_notice_that_a_window_has_closed() -> list[Patch]:
    return [(module, "may_call", lambda *_: moves.is_batch_in(BatchState.RUNNING)) for module in (moves, lease)]


@mutant("begins, and it is paused")
def asks_no_permit_between_tries() -> list[Patch]:
    return [around(Attempt, "_check_permit", lambda *_: None)]


@mutant("goes out while its OTP is committed as unsent")
def writes_sending_after_the_post() -> list[Patch]:
    late: list[Callable[[], object]] = []

    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        claimed = real(self, record_id, *rest)
        if claimed is None or not claimed.is_otp1_marked:
            return claimed
        with initial_state.database().writing():
            execute("UPDATE record SET otp1_state='unsent', otp1_posts=0 WHERE id=?", record_id)
        progress = replace(claimed.progress, first=OtpProgress())
        return replace(claimed, progress=progress, is_otp1_marked=False)

    def mark_sent(real: Any, self: Leases, claimed: Any, *rest: Any) -> bool:
        late.append(lambda: real(self, claimed, *rest))
        return True

    def activate(real: Any, self: Client, *arguments: Any, **named: Any) -> Any:
        try:
            return real(self, *arguments, **named)
        finally:
            late.pop()()

    return [
        around(Leases, "claim", claim),
        around(Leases, "mark_sent", mark_sent),
        around(Client, "activate", activate),
    ]


@mutant("goes out while OTP 1 is committed as sent")
def does_not_write_that_it_was_answered() -> list[Patch]:
    return [around(Leases, "write_progress", lambda *_: True)]


@mutant("is published before it is committed as queued")
def publishes_before_it_commits() -> list[Patch]:
    def enqueue(real: Any, self: Dispatcher, *rest: Any) -> list[Messages]:
        self._publish(real(self, *rest), {})
        return []

    return [around(Dispatcher, "_enqueue", enqueue)]


@mutant("attempts are written down, and its history has")
def counts_no_attempt() -> list[Patch]:
    return [around(lease, "_read_ending", lambda real, *given: {**real(*given), "new_attempts": -1})]


@mutant("it is active and keeps its OTPs")
def keeps_the_otps_of_an_active_device() -> list[Patch]:
    def settle(real: Any, database: Any, kind: str, given: Any) -> Any:
        return real(database, kind, given).values(otps=Record.otps) if kind == "active" else real(database, kind, given)

    return [around(lease, "_settle", settle)]


@mutant("a secret stands in the clear")
def stores_otps_in_the_clear() -> list[Patch]:
    return [
        around(Keyring, "seal", lambda _real, _self, plaintext, _identity: plaintext),
        around(Keyring, "open", lambda _real, _self, sealed, _identity: sealed),
    ]


@mutant("goes out without a lease", amid=("commit_fails",))
def believes_what_it_wrote_before_it_is_committed() -> list[Patch]:
    def execute(_: Any, self: GroupCommit, requests: Sequence[Any]) -> Any:
        found: list[Any] = []
        try:
            with self._database.writing() as connection:
                found = list(self._run(connection, requests))
        except OperationalError:
            if not found:
                raise
        return found

    return [around(GroupCommit, "_commit", execute)]


@mutant("goes out without a lease")
def tells_the_result_of_one_thread_to_another() -> list[Patch]:
    def execute(real: Any, self: GroupCommit, requests: Sequence[Any]) -> Any:
        found = real(self, requests)
        return [*found[1:], *found[:1]]

    return [around(GroupCommit, "_commit", execute)]


@mutant("does not come to rest")
def forgets_a_thread_that_waits() -> list[Patch]:
    def lead(real: Any, self: Any, me: Any) -> None:
        if len(self._waiting) > 2:
            self._waiting.pop()
        real(self, me)

    return [around(Combiner, "_lead", lead)]


@mutant("does not come to rest")
def lets_nobody_lead_next() -> list[Patch]:
    def lead(_: Any, self: Any, me: Any) -> None:
        taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        self._perform_all(taken)
        self._has_leader = bool(self._waiting)
        for each in taken:
            if each is not me:
                each.wake()

    return [around(Combiner, "_lead", lead)]


# What imports a token twice or otherwise than its seed says, makes a device twice or takes one that is not its own, or
# lets a record go again with what a mend must not bring.


@mutant("is malformed", amid=("process_dies",))
def repeats_an_import_with_another_hash() -> list[Patch]:
    def make_token(real: Any, keyring: Any, row: Any) -> Any:
        token = real(keyring, row)
        is_repeated = execute("SELECT 1 FROM inventory_job WHERE batch_id = ?", row.batch_id)
        if not (token and is_repeated):
            return token
        return replace(token, seed=replace(token.seed, hash_algorithm="sha256"))

    return [around(imports, "make_token", make_token)]


@mutant("goes out while nothing has told what became of", amid=("reset",))
def repeats_a_lost_import_without_reading_the_inventory() -> list[Patch]:
    return [around(Tokens, "note_lost", lambda _real, self, _batch_id, job: self.take_back(job))]


@mutant("it calls a token imported by us, which was there before")
def calls_every_token_imported_by_itself() -> list[Patch]:
    return [around(Tokens, "_judge", lambda real, *arguments, **_: real(*arguments, is_made=True))]


@mutant("begins, and it is paused")
def prepares_a_batch_that_was_paused() -> list[Patch]:
    return [around(Turns, "check", lambda *_: None)]


@mutant("requests to pair went out, and")
def takes_a_lost_pairing_for_not_delivered() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, limits: Any) -> Any:
        is_lost = isinstance(answer, errors.OutcomeUnknown) and not answer.is_over
        return real(progress, errors.NotDelivered() if is_lost else answer, limits)

    return [around(decisions, "decide_after_pairing", decide)]


@mutant("goes out while no two look-ups have told what became of")
def pairs_again_without_a_look_up() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, limits: Any) -> Any:
        known, step = real(progress, answer, limits)
        unsent = replace(known, pairing=replace(known.pairing, state=PairingState.UNSENT))
        return unsent if known.pairing.is_open else known, step

    return [around(decisions, "decide_after_pairing", decide)]


@mutant("goes out while no two look-ups have told what became of")
def believes_one_look_up() -> list[Patch]:
    was_free = {"state": PairingState.UNSENT, "was_free": True}
    return [around(PairingProgress, "missed", lambda _real, self: replace(self, **was_free))]


@mutant("goes out while its pairing is committed as unsent")
def marks_a_pairing_only_with_its_answer() -> list[Patch]:
    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        claimed = real(self, record_id, *rest)
        if claimed is not None and claimed.is_pairing_marked:
            with initial_state.database().writing():
                execute("UPDATE record SET pairing='unsent', pairings=0 WHERE id=?", record_id)
        return claimed

    return [around(Leases, "claim", claim)]


@mutant("and no device is written down")
def writes_its_device_down_only_at_the_end() -> list[Patch]:
    def write_progress(real: Any, self: Leases, claim: Any, progress: Progress, calls: Any) -> bool:
        return bool(real(self, claim, replace(progress, pairing=claim.progress.pairing), calls))

    return [around(Leases, "write_progress", write_progress)]


@mutant("it goes on with another person's device")
def takes_another_persons_device() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, *rest: Any) -> Any:
        return real(progress, replace(answer, user_id=None) if isinstance(answer, Pairing) else answer, *rest)

    return [around(decisions, "decide_after_search", decide)]


@mutant("it calls a device its own that it did not make")
def calls_every_device_its_own() -> list[Patch]:
    return [around(PairingProgress, "found", lambda real, *arguments, **_: real(*arguments, is_made=True))]


@mutant("brings an OTP to a device that was ACTIVE from its pairing")
def sends_an_otp_although_the_pairing_was_answered_with_active() -> list[Patch]:
    return [(PairedDevice, "is_active", False)]


@mutant("it is a dead letter for device_not_found, and that did not happen")
def does_not_pair_a_deleted_device_again() -> list[Patch]:
    return [around(decisions, "may_be_deleted", lambda *_: False)]


@mutant("brings an OTP that was answered", amid=("batch_mended",))
def takes_an_otp_that_was_sent_for_a_fresh_one() -> list[Patch]:
    return [around(mending, "find_used_otps", lambda *_: frozenset())]


@mutant("and that one or a later one went before", amid=("batch_mended",))
def sets_the_counter_of_a_seed_back_by_a_mend() -> list[Patch]:
    def change(real: Any, self: _Writer, correction: Any) -> dict[str, Any]:
        columns = real(self, correction)
        counter = columns["next_counter"]
        return columns if counter is None else columns | {"next_counter": columns["first_counter"] or 0}

    return [around(_Writer, "_change", change)]


@mutant("its device was made for the one before", amid=("batch_mended",))
def gives_a_token_to_another_person_whose_device_was_made() -> list[Patch]:
    return [around(mending, "_names_same_person", lambda *_: True)]


@mutant("brings an OTP that was answered", amid=("batch_mended",))
def begins_a_new_budget_with_the_same_otps() -> list[Patch]:
    def choose(real: Any, row: Any, record: Any, source: Any, used: Any, **named: Any) -> Any:
        return source if row.otps is None and source is not None else real(row, record, source, used, **named)

    as_fresh = around(_Writer, "_change", lambda real, self, given: real(self, replace(given, is_fresh=True)))
    return [as_fresh, around(mending, "_choose_otps", choose)]


@mutant("times, and", amid=("batch_mended",))
def forgets_the_posts_of_earlier_budgets() -> list[Patch]:
    return [around(_Writer, "_change", lambda real, *given: real(*given) | {"posts_forgiven": 0})]


@mutant("goes out, and PingOne has not asked for OTP 2", amid=("batch_mended",))
def takes_the_answer_to_an_earlier_otp_for_that_to_a_fresh_one() -> list[Patch]:
    def change(real: Any, self: _Writer, correction: Any) -> dict[str, Any]:
        return real(self, correction) | {"otp1_state": correction.record.otp1_state}

    return [around(_Writer, "_change", change)]


@mutant("times, and", amid=("batch_mended",))
def mends_a_record_that_is_in_work() -> list[Patch]:
    def mend_rows(real: Any, self: Mender, connection: Any, batch: Any, *others: Any) -> Any:
        renewed = "status='pending', lease_id=NULL, lease_until=NULL, otp1_state='unsent', otp1_posts=0"
        execute(f"UPDATE record SET {renewed} WHERE batch_id=? AND status='activating'", batch.id)
        return real(self, connection, batch, *others)

    return [around(Mender, "mend_rows", mend_rows)]


# What gives a token out twice, or takes one back too late.


@mutant("it is given out, and was somebody's", amid=("table", "given_out"))
def gives_out_what_somebody_has() -> list[Patch]:
    return [(module, "is_on_the_table", true) for module in (mending, moves)]


@mutant("it goes back to the table, and its device was made", amid=("table", "taken_back"))
def takes_back_what_was_paired() -> list[Patch]:
    return [(replay, "may_be_put_back", lambda _: Record.status.in_(("pending", "queued")))]


# What an undo must not take away, or must not believe.


@mutant("removes a device that we did not make", amid=("undone",))
def removes_every_device_that_a_row_names() -> list[Patch]:
    return [(undo, "HAS_DEVICE", Record.device_id != "")]


@mutant("an undo has left nothing", amid=("undone",))
def takes_a_lost_removal_for_done() -> list[Patch]:
    def unpair(real: Any, *arguments: Any, **named: Any) -> bool:
        try:
            return bool(real(*arguments, **named))
        except errors.OutcomeUnknown:
            return True

    return [around(Pairings, "unpair", unpair)]


@mutant("removes a device that is gone", amid=("undone",))
def removes_without_reading_back() -> list[Patch]:
    return [around(Removal, "_read_back", lambda *_: (Sight.OURS, None))]


@mutant("an undo has left nothing", amid=("undone",))
def leaves_what_a_lost_pairing_made() -> list[Patch]:
    return [around(Removal, "_settle", lambda *_: DeviceOutcome(End.NEVER_MADE))]


@mutant("it calls a token imported by us, which was there before", amid=("undone",))
def revokes_every_token() -> list[Patch]:
    return [(removal, "is_import_of_unknown_outcome", lambda *_: true())]


@mutant("its history does not tell that it was that of", amid=("undone",))
def tells_no_device_that_an_undo_removed() -> list[Patch]:
    return [around(moves, "keep_former", lambda real, *which, line=None: line or real(*which))]


# What an erasure, a purge or a new key leaves behind.


@mutant("was erased, and stands in", amid=("erased",))
def erases_no_name() -> list[Patch]:
    return [(purging, "_ERASED", {"detail": null()})]


@mutant("something is left")
def purges_no_record() -> list[Patch]:
    return [around(purging, "_remove_records", lambda *_: iter(()))]


@mutant("and an OTP is under the old one", amid=("new_key",))
def seals_nothing_anew() -> list[Patch]:
    return [around(keys, "_is_under_other_key", lambda *_: (false(),))]


# What a restore must not forget.


@mutant("goes out while no read has told what became of", amid=("restored",))
def trusts_a_database_that_was_put_back() -> list[Patch]:
    return [around(commands, "distrust", lambda *_, **__: 0)]


@mutant("does not call a device its own", amid=("restored",))
def calls_no_device_its_own_that_a_restore_forgot() -> list[Patch]:
    def distrust(real: Any, database: Any, connection: Any, ids: Any, **named: Any) -> Any:
        count = real(database, connection, ids, **named)
        connection.execute(update(Record).where(Record.id.in_(ids), Record.device_id == "").values(owner_id=None))
        return count

    return [around(commands, "distrust", distrust)]


@mutant("imports it again", amid=("restored",))
def overlooks_the_tokens_of_records_in_work() -> list[Patch]:
    nothing = update(Record).where(Record.id == bindparam("record_id"), false())
    return [(imports, "_WRITE_IN_WORK", nothing.values(is_token_made=bindparam("made")))]


# What the history tells.


@mutant("its history tells")
def guesses_what_was_answered() -> list[Patch]:
    def keep(real: Any, self: Call, seconds: float, answer: Answer) -> None:
        real(self, seconds, Answer(200) if answer.status is None else answer)

    return [around(Call, "keep", keep)]


@mutant("its history tells")
def leaves_a_call_out() -> list[Patch]:
    return [around(lease, "write_calls", lambda real, calls: real(calls[1:] if len(calls) > 2 else calls))]


@mutant("its history tells")
def tells_no_flag() -> list[Patch]:
    def keep(real: Any, self: Call, seconds: float, answer: Answer) -> None:
        self.resync = self.resync and None
        real(self, seconds, answer)

    return [around(Call, "keep", keep)]


@mutant("its history tells")
def tells_nothing_of_what_was_on_its_way() -> list[Patch]:
    return [around(queue, "list_lost_calls", lambda real, calls, _: real(calls, None))]


@mutant("its history does not tell that it was that of")
def forgets_who_had_the_token() -> list[Patch]:
    return [around(replay, "keep_former", lambda *_, **__: None)]


@mutant("its history does not tell that it was that of")
def tells_who_has_the_token_now() -> list[Patch]:
    """It looks once the command has changed the record."""

    def mend(real: Any, database: Any, connection: Any, source: Any, rows: Any) -> Any:
        with _patched(replay, "keep_former", lambda *_, **__: None):
            count = real(database, connection, source, rows)
        moves.keep_former(connection, Record.id.in_([row["this_id"] for row in rows]))
        return count

    return [around(mending, "mend", mend)]
