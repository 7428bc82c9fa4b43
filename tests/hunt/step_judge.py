"""Every commit and every request, held against the promises at the moment when it happens; promise 6 by a judge of its
own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any

from support.judges.otp_calls import POSTS_PER_OTP

from hunt.database import BatchRow, Row, read_batches, read_records
from hunt.model_pingone import ModelPingOne
from hunt.schedule import SPARE, Broken, Clock, Strands
from hunt.tenant import (
    EXTRA,
    FIND,
    FREE,
    IMPORT,
    JOB,
    LIST,
    PAIR,
    READ,
    REFUSED,
    REMOVED,
    REVOKE,
    SEEN_AFTER,
    TAKEN,
    UNPAIR,
    Call,
    ModelDevice,
)
from models.batch import BatchState
from models.reason import Reason
from models.record_states import TRANSITIONS, OtpState, PairingState, Status
from worker.config.settings import Settings

# How often a token may be paired.
MOST_PAIRINGS = 3
# How the name of a strand begins that mends a batch, or undoes it.
MEND, UNDO = "mend", "undo"


# What the judge knows of what is committed: how many calls there were, and the OTPs that were answered, by record.
Known = tuple[int, frozenset[tuple[int, int | str]]]


class StepJudge:
    """What is committed, and the calls to PingOne beside it."""

    def __init__(
        self,
        connection: Any,
        clock: Clock,
        strands: Strands,
        pingone: ModelPingOne,
        settings: Settings,
        note: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._strands = strands
        self._calls = pingone.calls
        self.creations = CreationJudge(self, connection, clock, pingone)
        self._settings = settings
        self._note = note
        self.rows: dict[int, Row] = {}
        self.batches: dict[int, BatchRow] = {}
        # Of a batch that does not run: how far each strand had come when it was stopped.
        self._stopped: dict[int, dict[str, int]] = {}
        self._leases: set[str] = set()
        self._enqueued: Counter[int] = Counter()
        self._published: Counter[int] = Counter()
        # When, by the processes' clock, each record's OTP was marked as going out last.
        self._marked_at: dict[int, float] = {}
        # The counters of each record's seed to whose OTP an answer is committed; and of pairs, the OTPs themselves.
        self._answered: set[tuple[int, int | str]] = set()
        # How many calls there were when each record's budget began.
        self._budget_from: dict[int, int] = {}
        # Whose each record was at any time, by id and name, and with which device; and what a person's command has
        # changed of that.
        self.owners = defaultdict[int, set[tuple[str, str | None, str]]](set)
        self.replaced = defaultdict[int, set[tuple[str, str | None, str]]](set)
        # Records from which, or from whose history, somebody's names were erased.
        self.erased = set[int]()
        # Devices that an undo has removed, or found gone.
        self.gone = set[str]()
        # Whether the database was put back at some time, and the first call that is known again since.
        self.is_restored = False
        self._known_from = 0
        # Records without a device or a known owner then: what made one since the backup, by its age, was theirs.
        self.unpaired = set[int]()
        # False once the database's clock was stepped: what expires by it means little then.
        self.is_clock_trusted = True
        # A person's command, or the replay schedule, is at work: alone it may change a final status.
        self.is_command = False

    def start_judging(self, devices: dict[str, ModelDevice]) -> None:
        self._devices = devices
        self._look()
        self._records_of = {row.serial_number: row.id for row in self.rows.values()}
        for row in self.rows.values():
            self.owners[row.id].add((row.user_id, row.username, row.device_id))

    def committed(self) -> None:
        before, batches = self.rows, self.batches
        self._look()
        if before.keys() != self.rows.keys():
            raise Broken("records came or went")
        for batch in self.batches.values():
            if batch.state != batches[batch.id].state:
                self._stopped[batch.id] = self._strands.progress()
        for record_id, row in self.rows.items():
            # After a step of the clock, it may be the same time once more.
            if row.otp_sent_at != before[record_id].otp_sent_at or row.sent_things != before[record_id].sent_things:
                self._marked_at[record_id] = self._clock.monotonic()
            if row != before[record_id]:
                self._check(before[record_id], row)
                self._check_window(before[record_id], row)

    @property
    def is_asked_for(self) -> bool:
        """Whether a person's command is at work; a mend or an undo is one that others come between."""
        strand = self._strands.current
        return self.is_command or (strand is not None and strand.name.startswith((MEND, UNDO)))

    @property
    def is_undo(self) -> bool:
        strand = self._strands.current
        return strand is not None and strand.name.startswith(UNDO)

    def save(self) -> Known:
        """What is known of what is committed, for `put_back`."""
        return len(self._calls), frozenset(self._answered)

    def put_back(self, known: Known) -> None:
        """The database was put back to the moment of `save`. What went out since is forgotten."""
        count, answered = known
        for call in self._calls[count:]:
            call.is_forgotten = True
        self._answered, self._known_from, self.is_restored = set(answered), len(self._calls), True
        self._look()
        rows = self.rows.values()
        bare = [row for row in rows if not (row.device_id or row.pairings or row.owner_id or row.is_final)]
        self.unpaired = {row.id for row in bare}

    def published(self, record_id: object, environment: object) -> None:
        """Promise 1, and commit before publish."""
        if not isinstance(record_id, int) or environment != "default":
            raise Broken(f"a message holds something else than a record's id and environment: {record_id!r}")
        self._published[record_id] += 1
        if self._published[record_id] > self._enqueued[record_id]:
            raise Broken(f"record {record_id} is published before it is committed as queued")

    def beginning(self, batch_id: int, *, is_change: bool) -> None:
        """A call begins. Its strand may have asked whether it may just before the batch was stopped, but not have come
        further since."""
        state = self.batches[batch_id].state
        may_begin = state == BatchState.RUNNING or (state == BatchState.CANCELLED and not is_change)
        strand = self._strands.current
        if may_begin or strand is None or self.is_undo:
            return
        if strand.switches != self._stopped[batch_id].get(strand.name):
            raise Broken(f"a {'change' if is_change else 'read'} of batch {batch_id} begins, and it is {state}")

    def arriving(self, call: Call) -> None:
        """A request's first byte is about to go out."""
        self._note(f"{call} goes out")
        self.creations.arriving(call)
        if not call.is_post or call.device is None:
            return
        row = self.row_of(call.device)
        for charge in (*self._right(call, row), *self._counters(call, row), *self._order(call, row)):
            raise Broken(f"{call} {charge}")

    def making(self, call: Call) -> None:
        """A request is about to make a device."""
        self._note(f"{call} makes a device")
        if call.device is not None and call.device.device_id and self.is_clock_trusted:
            raise Broken(f"{call} makes a second device of its token")

    def posts_of(self, device: ModelDevice) -> list[Call]:
        """Posts on which PingOne acted, or may have acted for all that we could know."""
        return [call for call in self._calls if call.device is device and call.is_post and not call.did_nothing]

    def is_told(self, post: Call) -> bool:
        """A read was answered after the post could change nothing any more."""
        over_at = post.sent_at if post.acted_at is None else post.acted_at
        return post.device_id in self.gone or (
            not post.is_pending
            and any(
                call.device is post.device
                and call.kind == READ
                and call.number > (self._known_from if post.is_forgotten else post.number)
                and not call.is_forgotten
                and call.heard_at is not None
                and call.acted_at is not None
                and call.acted_at >= over_at
                for call in self._calls
            )
        )

    def _look(self) -> None:
        self.rows = read_records(self._connection)
        self.batches = read_batches(self._connection)

    def _check_window(self, before: Row, row: Row) -> None:
        """No OTP is marked as going out once the window of its batch has closed, whether or not a tick has noticed.
        What a tick writes after a step of the clock marks nothing, and what a restore marks does not go out."""
        strand = self._strands.current
        if self.is_command or (strand is not None and strand.name.startswith("tick")):
            return
        closes_at = self.batches[row.batch_id].closes_at
        if row.otp_sent_at != before.otp_sent_at and closes_at is not None and row.otp_sent_at >= closes_at:
            raise Broken(f"an OTP of record {row.id} is marked at {row.otp_sent_at}, and its window closed {closes_at}")

    def was_on_the_table(self, row: Row) -> bool:
        return any((user_id, username) == ("", None) for user_id, username, _ in self.owners[row.id])

    def judge_undone(self, ids: Collection[int], began: float, *, devices_only: bool) -> None:
        """An undo says that it has left nothing of what these records made before it began."""
        for record_id in ids if self.is_clock_trusted else ():
            row = self.rows[record_id]
            device = self._devices[row.serial_number]
            if row.device_id and not row.is_device_made:
                # Found by a look-up, and no read has told its age: it may be somebody else's.
                continue
            if device.made_by and device.made_by.sent_at < began and device.device_id in device.our_ids:
                raise Broken(f"record {record_id}: an undo has left nothing, and {device.device_id} is there")
            imported = device.imported_by
            if not devices_only and imported and imported.sent_at < began and device.is_in_inventory:
                raise Broken(f"record {record_id}: an undo has left nothing, and the inventory has its token")

    def row_of(self, device: ModelDevice) -> Row:
        return self.rows[self._records_of[device.serial_number]]

    def check_lease(self, call: Call, row: Row) -> Iterator[str]:
        is_held = row.lease_id is not None and call.attempt == f"oathbulk-record-{row.id}-{row.lease_id[:8]}"
        if row.status != Status.ACTIVATING or not is_held:
            yield f"goes out without a lease: the record is {row.status}"

    def check_mark(self, call: Call, row: Row) -> Iterator[str]:
        """What was marked as sent goes out soon, give or take the steps of the database's clock."""
        late = call.sent_at - self._marked_at[row.id] - self._settings.tuning.send_within
        if late > SPARE:
            yield f"goes out {late:.1f} s later than a rescue would think"

    def _right(self, call: Call, row: Row) -> Iterator[str]:
        """The lease, the mark, and their times."""
        yield from self.check_lease(call, row)
        if row.state(call.ordinal) != OtpState.SENT or row.otp_sent_at is None:
            yield f"goes out while its OTP is committed as {row.state(call.ordinal)}"
            return
        yield from self.check_mark(call, row)
        if (
            self.is_clock_trusted
            and row.otp_expires_at
            and call.sent_at > self._clock.moment_of(row.otp_expires_at) + self._grace
        ):
            yield "brings an OTP that has expired"
        if row.attempts - row.attempts_forgiven > self._settings.max_attempts:
            yield "goes out in one attempt more than are allowed"

    @property
    def _grace(self) -> float:
        """An OTP that was good when it was marked goes out so much later at most."""
        return self._settings.tuning.send_within + SPARE

    def _counters(self, call: Call, row: Row) -> Iterator[str]:
        """A seed's OTP comes from a counter that is written down as used up, and was never used before."""
        seed, posts = call.device.seed, self.posts_of(call.device)
        if seed is None:
            return
        if call.counter is None or row.next_counter is None:
            yield "brings an OTP that its seed did not make for now"
            return
        if row.next_counter <= call.counter:
            yield f"brings the OTP of counter {call.counter}, and {row.next_counter} is committed as unused"
        if any((post.counter or 0) >= call.counter for post in posts):
            yield f"brings the OTP of counter {call.counter}, and that one or a later one went before"
        if seed.seed.time_step and seed.step_at(call.sent_at) != call.counter:
            yield "brings an OTP outside its time step"
        firsts = [post for post in posts if post.ordinal == 1]
        if call.ordinal == 2 and firsts and firsts[-1].counter != call.counter - 1:
            yield f"brings the OTP of counter {call.counter}, and OTP 1 was that of {firsts[-1].counter}"

    def _order(self, call: Call, row: Row) -> Iterator[str]:
        """Promises 2 and 3."""
        posts = self.posts_of(call.device)
        has_seed = call.device.seed is not None
        firsts = {pair.first for pair in call.device.find_pairs(call.otp)}
        asked = [post for post in posts if post.ordinal == 1 and post.verdict == EXTRA and post.heard_at is not None]
        asked = [post for post in asked if has_seed or post.otp in firsts]
        if call.ordinal == 2 and not asked:
            yield "goes out, and PingOne has not asked for OTP 2"
        if call.ordinal == 2 and row.otp1_state != OtpState.ANSWERED:
            yield f"goes out while OTP 1 is committed as {row.otp1_state}"
        same = [post for post in posts if post.otp == call.otp and not post.is_forgotten]
        if not has_seed and len(same) >= POSTS_PER_OTP:
            yield f"brings its OTP more than {POSTS_PER_OTP} times"
        if (row.id, call.otp) in self._answered:
            yield "brings an OTP that was answered"
        if self._count_budget(call, posts) >= self._settings.otp_post_budget:
            yield f"is one post more than the budget of {self._settings.otp_post_budget}"
        for post in posts:
            # That the answer to OTP 1 is written down was looked at above; of an earlier pair it has to be as well.
            is_known = post.ordinal < call.ordinal and post.heard_at is not None and not post.is_forgotten
            is_known |= (row.id, post.counter if has_seed else post.otp) in self._answered
            if not is_known and not self.is_told(post):
                yield f"goes out while no read has told what became of {post}"

    def _count_budget(self, call: Call, posts: list[Call]) -> int:
        """How many posts are spent of the budget that this one takes: since it began, or of the same OTPs if those are
        more."""
        device = call.device
        assert device is not None
        same = {otp for pair in device.find_pairs(call.otp) for otp in (pair.first, pair.second)}
        known = [post for post in posts if not post.is_forgotten]
        of_pair = sum(post.otp in same for post in known) if len(device.find_pairs(call.otp)) == 1 else 0
        return max(of_pair, len(self._in_budget(self.row_of(device).id, posts)))

    def _in_budget(self, record_id: int, posts: list[Call]) -> list[Call]:
        known = [post for post in posts if not post.is_forgotten]
        return [post for post in known if post.number > self._budget_from.get(record_id, 0)]

    def _check(self, old: Row, new: Row) -> None:
        before, now = (old.user_id, old.username, old.device_id), (new.user_id, new.username, new.device_id)
        self.owners[new.id].add(now)
        is_erased = now == (old.user_id, None, old.device_id) and new.is_final
        if before != now and self.is_asked_for and not is_erased:
            self.replaced[new.id].add(before)
        if self.is_undo and old.device_id and not new.device_id:
            self.gone.add(old.device_id)
        charges = (*self._moves(old, new), *self._otps(old, new), *self.creations.check(old, new), *self._ends(new))
        for charge in charges:
            raise Broken(f"record {new.id}: {charge}")

    def _moves(self, old: Row, new: Row) -> Iterator[str]:
        if old.status != new.status and (old.status, new.status) not in TRANSITIONS:
            yield f"no arrow leads from {old.status} to {new.status}"
        if old.is_final and old.status != new.status and not self.is_asked_for:
            yield f"{old.status} is final, and nobody asked for {new.status}"
        if new.status == Status.QUEUED != old.status:
            self._enqueued[new.id] += 1
        if new.lease_id is not None and new.lease_id != old.lease_id:
            if old.lease_id is not None or new.lease_id in self._leases:
                yield "a lease is taken over, or used twice"
            self._leases.add(new.lease_id)
            yield from self._date(old, "is claimed")
            state = self.batches[new.batch_id].state
            if state == BatchState.PAUSED or (state == BatchState.CANCELLED and not old.needs_read):
                yield f"it is claimed although its batch is {state}"

    def _date(self, old: Row, what: str) -> Iterator[str]:
        """Nothing begins before its date, give or take the steps of the database's clock."""
        if self.is_clock_trusted and old.waits_until is not None:
            early = self._clock.moment_of(old.waits_until) - self._clock.monotonic()
            if early > SPARE:
                yield f"{what} {early:.1f} s before its date"

    def _otps(self, old: Row, new: Row) -> Iterator[str]:
        posts = self.posts_of(self._devices[new.serial_number])
        is_renewed = new.posts_forgiven != old.posts_forgiven
        if is_renewed:
            yield from self._budget(old, new)
        for ordinal in (1, 2):
            mine = [post for post in posts if post.ordinal == ordinal]
            was_answered = old.state(ordinal) == OtpState.ANSWERED != new.state(ordinal)
            if new.next_counter is None and was_answered and not is_renewed:
                yield f"OTP {ordinal} was answered, and is {new.state(ordinal)} again"
            if new.state(ordinal) == OtpState.ANSWERED != old.state(ordinal):
                answered = {post.otp for post in mine[-1:]} if new.next_counter is None else {new.next_counter - 1}
                self._answered |= {(new.id, each) for each in answered}
            is_marked = new.state(ordinal) == OtpState.SENT != old.state(ordinal) and new.status == Status.ACTIVATING
            if is_marked:
                yield from self._date(old, f"OTP {ordinal} is marked")
            if is_marked and self.batches[new.batch_id].state != BatchState.RUNNING:
                yield f"OTP {ordinal} is to go out although the batch does not run"
            sent = len(self._in_budget(new.id, mine))
            if sent > new.posts(ordinal):
                yield f"OTP {ordinal} was sent {sent} times, and {new.posts(ordinal)} are written down"
        all_posts = new.posts_forgiven + new.otp1_posts + new.otp2_posts
        known = [post for post in posts if not post.is_forgotten]
        if len(known) > all_posts:
            yield f"{len(known)} OTPs were sent, and {all_posts} are written down"

    def _budget(self, old: Row, new: Row) -> Iterator[str]:
        """A person begins a new budget: no post of those before is forgotten."""
        if not self.is_asked_for or not old.is_final:
            yield "a new budget begins, and nobody asked for it"
        if new.posts_forgiven != old.posts_forgiven + old.otp1_posts + old.otp2_posts:
            yield f"{new.posts_forgiven} posts of earlier budgets are written down, and there were others"
        if new.otp1_posts or new.otp2_posts:
            yield f"a new budget begins with {new.otp1_posts + new.otp2_posts} posts"
        self._budget_from[new.id] = len(self._calls)

    def _ends(self, new: Row) -> Iterator[str]:
        device = self._devices[new.serial_number]
        if new.is_final == new.is_not_finalized:
            yield f"it is {new.status}, and its finalized_at says something else"
        if new.status == Status.ACTIVE:
            if new.device_id not in device.active_ids or new.device_id in device.foreign_ids:
                yield "it is active here, and not ACTIVE at PingOne"
            if not new.is_without_otps:
                yield "it is active and keeps its OTPs"
        elif new.is_final:
            # That there is no such device is an answer as well; the record keeps its open fate for a replay. And what a
            # restore has marked before anybody had the token is read for nobody.
            is_open = new.pairing in (PairingState.SENT, PairingState.MISSED)
            is_there = new.device_id == device.device_id and new.reason != Reason.DEVICE_NOT_FOUND and new.device_id
            is_for_nobody = self.is_restored and not new.user_id
            if new.needs_read and (is_open or is_there) and not is_for_nobody:
                yield f"it is {new.status} although a read is owed"
            for post in self.posts_of(device):
                if post.heard_at is None and not self.is_told(post):
                    yield f"it is {new.status}, and no read has told what became of {post}"


# Seconds by which a device may be older than the request that made it, as far as two clocks tell, and a few more.
UNSURE = 130.0
# How a job ended, as far as somebody heard of it.
_ENDED = ("DONE", "FAILED")


class CreationJudge:
    """Promise 6: nothing is made twice, and nobody gets a token that the assignment did not give them. Looks at tokens
    and devices; the step judge, which it is a part of, looks at leases and OTPs. What is said of a look-up after a loss
    counts from the loss: while the request may still act, no look-up tells what became of it."""

    def __init__(self, judge: StepJudge, connection: Any, clock: Clock, pingone: ModelPingOne) -> None:
        self._judge = judge
        self._connection = connection
        self._clock = clock
        self._pingone = pingone
        # Requests to pair of each record up to its last replay.
        self._forgiven: dict[int, int] = {}
        # The device with which a person's command let each record go again: whosever it is, a row named it.
        self._named: dict[int, str] = {}

    def arriving(self, call: Call) -> None:
        """A request's first byte is about to go out."""
        if call.kind == PAIR and call.device is not None:
            for charge in self._pairing(call, call.device):
                raise Broken(f"{call} {charge}")
        if call.is_post and call.device is not None:
            for charge in self._otp(call, call.device):
                raise Broken(f"{call} {charge}")
        if call.kind == UNPAIR:
            for charge in self._unpairing(call):
                raise Broken(f"{call} {charge}")
        for serial in call.serial_numbers if call.kind == REVOKE else ():
            if self._pingone.devices[serial].imported_by is None:
                raise Broken(f"{call} revokes a token that was there before")
        for serial in call.serial_numbers if call.kind == IMPORT else ():
            for charge in self._import(call, serial):
                raise Broken(f"{call}, with token {serial}, {charge}")

    def check(self, old: Row, new: Row) -> Iterator[str]:
        """What a commit says of a record's token and device."""
        device = self._pingone.devices[new.serial_number]
        if self._judge.is_asked_for and old.is_final and not new.is_final and new.device_id:
            self._named[new.id] = new.device_id
        yield from self._person(old, new, device)
        if old.is_final and not new.is_final:
            self._forgiven[new.id] = self._count_pairings(device)
        if new.device_id != old.device_id:
            yield from self._device(old, new, device)
        is_named = new.device_id == self._named.get(new.id)
        if new.device_id in device.foreign_ids and new.user_id and not new.is_final and not is_named:
            yield "it goes on with another person's device"
        # What a look-up found counts as made until a read has told its age: it may have been made by hand, days later.
        is_read = new.pairing != PairingState.SENT
        is_others = new.device_id not in device.our_ids and not self.is_unsure(device)
        if is_read and new.is_device_made and new.device_id and is_others:
            yield "it calls a device its own that it did not make"
        made_by = device.made_by
        is_ours = made_by is not None and made_by.is_forgotten and made_by.device_id == new.device_id
        is_ours &= self._judge.is_clock_trusted and not self._clock.ahead and new.pairing == PairingState.PAIRED
        if is_ours and new.id in self._judge.unpaired and not new.is_device_made:
            yield "it does not call a device its own that it made"
        if new.is_token_made and device.imported_by is None:
            yield "it calls a token imported by us, which was there before"
        if new.pairings > MOST_PAIRINGS:
            yield f"it is paired {new.pairings} times"
        made = self._count_pairings(device) - self._forgiven.get(new.id, 0)
        if made > new.pairings:
            yield f"{made} requests to pair went out, and {new.pairings} are written down"
        yield from self._marks(old, new)

    def _person(self, old: Row, new: Row, device: ModelDevice) -> Iterator[str]:
        """Who gets the token. Another row than that of the load may name somebody else, by a mend."""
        if (new.user_id, new.username) == (old.user_id, old.username):
            return
        is_erased = self._judge.is_command and old.is_final and new.username is None and new.user_id == old.user_id
        if self._judge.is_asked_for and not is_erased:
            named = device.find_person(new.user_id, new.username)
            if new.is_on_the_table:
                # That a request of unknown fate made nothing is found out by look-ups.
                if device.device_id in device.our_ids or any(each.is_pending for each in self._pairings_of(device)):
                    yield "it goes back to the table, and its device was made"
            elif self._judge.is_command and (old.user_id or old.username):
                yield "it is given out, and was somebody's"
            elif named is None:
                yield "it goes to somebody whom no row names"
            elif named != device.person:
                # Where clocks went apart it does not know who made a device, which counts as another's then.
                if device.device_id in device.our_ids and old.is_device_made:
                    yield "it goes to another person, and its device was made for the one before"
                device.person = named
        if new.user_id not in ("", device.user_id):
            yield "it goes to somebody whom the assignment does not name"

    def _marks(self, old: Row, new: Row) -> Iterator[str]:
        is_marked = new.pairings > old.pairings and new.status == Status.ACTIVATING
        if is_marked and self._judge.batches[new.batch_id].state != BatchState.RUNNING:
            yield "it is to be paired although its batch does not run"
        is_sent_now = new.otp1_state == OtpState.SENT != old.otp1_state
        if is_sent_now and not new.device_id and new.status == Status.ACTIVATING:
            yield "OTP 1 is to go out, and no device is written down"

    def _device(self, old: Row, new: Row, device: ModelDevice) -> Iterator[str]:
        if new.device_id and new.device_id not in (device.device_id, *device.former_ids):
            yield f"its device {new.device_id} is another token's"
        # PingOne may not show it yet.
        is_gone = new.device_id or old.device_id != device.device_id or self._clock.monotonic() < device.seen_from
        if not is_gone and (self._judge.is_undo or not self._judge.is_asked_for):
            yield "it forgets its device, which is there"

    def _pairings_of(self, device: ModelDevice) -> list[Call]:
        """Those that made a device, or may have, for all that we could know."""
        calls = self._pingone.calls
        mine = [call for call in calls if call.kind == PAIR and call.device is device and not call.did_nothing]
        return [call for call in mine if call.heard_at is None or call.verdict not in (REFUSED, TAKEN)]

    def _count_pairings(self, device: ModelDevice) -> int:
        """As far as its record can know."""
        return sum(not call.is_forgotten for call in self._pairings_of(device))

    def is_unsure(self, device: ModelDevice) -> bool:
        """Whether after a restore nobody can tell whose a device is: its age does, give or take two minutes, and where
        no clock was set."""
        is_clock_trusted = self._judge.is_clock_trusted and not self._clock.ahead
        return self._judge.is_restored and not (is_clock_trusted and device.made_at <= -UNSURE)

    def _unpairing(self, call: Call) -> Iterator[str]:
        if call.device is None or (call.device_id not in call.device.our_ids and not self.is_unsure(call.device)):
            yield "removes a device that we did not make"
        # Of two undos each may have read back that it is there before the other removed it.
        earlier = [
            each for each in self._pingone.calls if each.device_id == call.device_id and each.heard_at is not None
        ]
        removed = [each for each in earlier if each.kind == UNPAIR and each.verdict == REMOVED]
        seen = [each for each in earlier if each.kind == FIND and removed and each.number < removed[0].number]
        if removed and len(seen) < 1 + sum(each.kind == UNPAIR for each in earlier):
            yield "removes a device that is gone"

    def _pairing(self, call: Call, device: ModelDevice) -> Iterator[str]:
        row = self._judge.row_of(device)
        yield from self._judge.check_lease(call, row)
        if row.pairing != PairingState.SENT:
            yield f"goes out while its pairing is committed as {row.pairing}"
            return
        yield from self._judge.check_mark(call, row)
        if self._count_pairings(device) - self._forgiven.get(row.id, 0) >= MOST_PAIRINGS:
            yield f"is one pairing more than {MOST_PAIRINGS}"
        for earlier in self._pairings_of(device):
            is_unknown = earlier.heard_at is None or earlier.device_id == device.device_id or earlier.is_forgotten
            if is_unknown and not self._is_looked_up(earlier):
                yield f"goes out while no two look-ups have told what became of {earlier}"

    def _is_looked_up(self, pairing: Call) -> bool:
        """Two look-ups that began when the pairing was over found the token free, or one found a device, which is gone
        by now."""
        if pairing.is_pending:
            return False
        over_at = pairing.sent_at if pairing.acted_at is None else pairing.acted_at
        later = [call for call in self._pingone.calls if call.kind == FIND and call.device is pairing.device]
        later = [call for call in later if call.heard_at is not None and (call.acted_at or 0.0) >= over_at]
        later = [call for call in later if not call.is_forgotten]
        if any(call.verdict == TAKEN and call.device_id in pairing.device.former_ids for call in later):
            return True
        free = [call.acted_at or 0.0 for call in later if call.verdict == FREE]
        is_apart = not self._judge.is_clock_trusted or (len(free) > 1 and free[-1] - free[0] >= SEEN_AFTER)
        return len(free) > 1 and is_apart

    def _otp(self, call: Call, device: ModelDevice) -> Iterator[str]:
        row = self._judge.row_of(device)
        if call.device_id in device.foreign_ids and call.device_id != self._named.get(row.id):
            yield "brings an OTP to another person's device"
        if call.device_id != row.device_id:
            yield f"goes to a device that is not written down; {row.device_id or 'none'} is"
        if call.device_id in device.told_active_ids:
            yield "brings an OTP to a device that was ACTIVE from its pairing, as the answer said"

    def _import(self, call: Call, serial: str) -> Iterator[str]:
        device = self._pingone.devices[serial]
        row = self._judge.row_of(device)
        found = self._connection.execute("SELECT state FROM inventory_job WHERE id = ?", (row.import_job_id,))
        if found.fetchone() != ("sent",):
            yield "goes out, and its job is not written down as sent"
        if not self._judge.is_clock_trusted:
            return
        if device.imported_by is not None and device.is_in_inventory:
            yield f"imports it again, as {device.imported_by} did"
        for earlier in self._pingone.calls:
            is_mine = earlier.kind == IMPORT and serial in earlier.serial_numbers and not earlier.did_nothing
            if is_mine and not self._is_job_told(earlier) and not self._is_inventory_read(earlier):
                yield f"goes out while nothing has told what became of {earlier}"

    def _is_job_told(self, imported: Call) -> bool:
        return any(
            call.kind == JOB and call.previous is imported and call.heard_at is not None and call.verdict in _ENDED
            for call in self._pingone.calls
            if not call.is_forgotten
        )

    def _is_inventory_read(self, imported: Call) -> bool:
        """To its end, and from its beginning when the import was over."""
        if imported.is_pending:
            return False
        job_end = self._pingone.inventory.jobs.find_end(imported)
        over_at = imported.sent_at if job_end is None else job_end
        calls = [call for call in self._pingone.calls if not call.is_forgotten]
        last_pages = [call for call in calls if call.kind == LIST and call.is_last]
        return any(call.heard_at is not None and (_first_page(call).acted_at or 0.0) >= over_at for call in last_pages)


def _first_page(call: Call) -> Call:
    return _first_page(call.previous) if call.previous else call
