"""A judge of the promises, by what arrived at PingOne. He reads the simulator's call log and takes no one's word for
anything but this: which attempts ended without our database learning what became of their last call. Where a token has
a seed, he finds out from that which counter or time step made each OTP, whatever our database says.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from support.judges.call_log import LoggedCall, fingerprint

from worker.simulator.oath import hotp, time_step_at

POSTS_PER_OTP = 2


@dataclass(frozen=True)
class Pair:
    """The fingerprints of a device's OTPs."""

    first: str
    second: str | None


@dataclass(frozen=True)
class Case:
    """All that is known of one device: its calls in the order of their arrival.

    `unwritten`: the transaction ids of attempts whose last answer our database never had."""

    device_id: str
    pair: Pair
    calls: Sequence[LoggedCall]
    unwritten: Collection[str]
    budget: int

    @property
    def posts(self) -> list[LoggedCall]:
        return [call for call in self.calls if call.is_post]

    def posts_of(self, ordinal: int) -> list[LoggedCall]:
        """The posts of OTP 1, or of OTP 2."""
        otp = self.pair.first if ordinal == 1 else self.pair.second
        return [post for post in self.posts if post.otp == otp]

    @property
    def last_counter(self) -> int | None:
        """The highest counter that made an OTP of these posts; None for a pair, whose OTPs come from none."""
        return None

    def fate_is_known(self, post: LoggedCall) -> bool:
        """Whether a post was answered, and our database had the time to learn it."""
        return post.is_answered and not (post.transaction_id in self.unwritten and self._is_last(post))

    def _is_last(self, post: LoggedCall) -> bool:
        """Whether a post is the last of its attempt: the answer to an earlier one is written down before the next goes
        out."""
        return all(other.number <= post.number for other in self.posts if other.transaction_id == post.transaction_id)

    def reads_after(self, post: LoggedCall) -> list[LoggedCall]:
        """Reads that PingOne answered after the post could change nothing any more."""
        after = [call for call in self.calls if call.operation == "read" and call.arrived_at >= post.done_at]
        return [read for read in after if read.is_answered]


def judge_calls(
    calls: Sequence[LoggedCall], pairs: Mapping[str, Pair], *, unwritten: Collection[str] = (), budget: int = 3
) -> list[str]:
    """What breaks the second and the third promise, a sentence each; empty if nothing does."""
    return [charge for case in make_cases(calls, pairs, unwritten, budget).values() for charge in _charges(case)]


def make_cases(
    calls: Sequence[LoggedCall], pairs: Mapping[str, Pair], unwritten: Collection[str] = (), budget: int = 3
) -> dict[str, Case]:
    by_device = defaultdict[str, list[LoggedCall]](list)
    for call in calls:
        by_device[call.device_id].append(call)
    nobody = Pair("", None)
    return {
        device_id: Case(device_id, pairs.get(device_id, nobody), mine, unwritten, budget)
        for device_id, mine in by_device.items()
    }


def _charges(case: Case) -> Iterator[str]:
    for rule in (_only_its_otps, _second_follows_first, _none_again, _within_budget):
        for charge in rule(case):
            yield f"{case.device_id}: {charge}"


def _only_its_otps(case: Case) -> Iterator[str]:
    known = (case.pair.first, case.pair.second)
    for call in case.calls:
        if call.otp is not None and call.otp not in known:
            yield f"call {call.number} brings an OTP that is not this device's"


def _second_follows_first(case: Case) -> Iterator[str]:
    """Promise 2. Whatever PingOne made of the call: sending it was wrong."""
    for call in case.calls:
        if call.otp is None or call.otp != case.pair.second:
            continue
        asked_for = [
            earlier
            for earlier in case.calls
            if earlier.otp == case.pair.first
            and earlier.detail_code == "EXTRA_OTP_REQUIRED"
            and earlier.is_answered
            and earlier.done_at <= call.arrived_at
        ]
        if not asked_for:
            yield f"call {call.number} brings OTP 2, which PingOne had not asked for"
        if not call.oath_resync:
            yield f"call {call.number} brings OTP 2 without oathResync"


def _none_again(case: Case) -> Iterator[str]:
    """Promise 3, its first two sentences."""
    for earlier, later in pairwise(case.posts):
        if earlier.otp == case.pair.second and later.otp == case.pair.first:
            yield f"call {later.number} brings OTP 1 again, after OTP 2"
        if later.otp == case.pair.second != earlier.otp and earlier.is_answered:
            # That PingOne asked for it says that our database knew the answer.
            continue
        if case.fate_is_known(earlier):
            if earlier.otp == later.otp:
                yield f"call {later.number} brings the OTP of call {earlier.number} again, which had been answered"
            continue
        yield from charge_unread(case, earlier, later)


def charge_unread(case: Case, earlier: LoggedCall, later: LoggedCall) -> Iterator[str]:
    """What is wrong with a post after one of unknown fate: no read in between found the device waiting."""
    reads = [read for read in case.reads_after(earlier) if read.ended_at <= later.arrived_at]
    reads = [read for read in reads if read.status == 200]
    if not reads:
        yield f"call {later.number} follows call {earlier.number}, whose fate no read had told"
    elif any(call.outcome == "ACTIVE" and call.done_at <= reads[-1].arrived_at for call in case.calls):
        yield f"call {later.number} brings an OTP although call {reads[-1].number} had read ACTIVE"


def _within_budget(case: Case) -> Iterator[str]:
    """Promise 3, its last sentence. Of a seed no OTP is known before, and its counter tells whether it came twice."""
    sent = [post.otp for post in case.posts]
    for name, otp in (("OTP 1", case.pair.first), ("OTP 2", case.pair.second)):
        if sent.count(otp) > POSTS_PER_OTP:
            yield f"{name} was sent {sent.count(otp)} times"
    if len(sent) > case.budget:
        yield f"{len(sent)} posts, of {case.budget} allowed"


# Counters from the token's first one on, and time steps before and after that of a call, among which an OTP is looked
# for.
COUNTERS, STEPS = 60, 5
NO_PAIR = Pair("", None)

HashName = Literal["sha1", "sha256", "sha512"]


@dataclass(frozen=True)
class KnownSeed:
    """What makes a token's OTPs. `counter` is the first that may be used, `time_step` in seconds or None for HOTP; the
    call log writes OTPs with this `salt`."""

    secret: bytes = field(repr=False)
    counter: int
    time_step: int | None
    salt: str
    digits: int = 6
    hash_name: HashName = "sha1"

    def find_counter(self, call: LoggedCall) -> int | None:
        """The counter or time step that made the OTP of this call; None if none nearby did."""
        counters = range(self.counter, self.counter + COUNTERS)
        if self.time_step is not None:
            now = self.step_of(call)
            # Nearly always it is the one of the call itself.
            counters_by_time = [now, *range(now - STEPS, now), *range(now + 1, now + STEPS + 1)]
            return self._find(call, counters_by_time)
        return self._find(call, counters)

    def step_of(self, call: LoggedCall) -> int:
        """The time step in which a call arrived, by PingOne's clock."""
        assert self.time_step is not None
        return time_step_at(call.time, self.time_step)

    def _find(self, call: LoggedCall, counters: Iterable[int]) -> int | None:
        for counter in counters:
            otp = hotp(self.secret, counter, self.digits, self.hash_name)
            if fingerprint(self.salt, otp) == call.otp:
                return counter
        return None


@dataclass(frozen=True)
class SeedCase(Case):
    """All that is known of one device whose token has a seed. OTP 2 of a pair is the one that came with oathResync, so
    OTP 1 must never have it, unless it tries the flag. `counters`: what made the OTP of each call, by the call's
    number."""

    seed: KnownSeed
    counters: Mapping[int, int | None]

    def posts_of(self, ordinal: int) -> list[LoggedCall]:
        return [post for post in self.posts if self.is_second(post) == (ordinal == 2)]

    def is_second(self, post: LoggedCall) -> bool:
        return bool(post.oath_resync) and not self.tries_flag(post)

    def tries_flag(self, post: LoggedCall) -> bool:
        """Whether this is an OTP 1 with oathResync: the one after the token's first OTP, which PingOne had refused."""
        first = self.posts[0]
        was_refused = first.detail_code == "INVALID_OTP" and first.is_answered and not first.oath_resync
        is_next = self.posts[1:2] == [post] and first.done_at <= post.arrived_at
        return bool(post.oath_resync) and was_refused and is_next

    @property
    def last_counter(self) -> int | None:
        return max((self.counters[post.number] or 0 for post in self.posts), default=None)


def make_seed_cases(
    calls: Sequence[LoggedCall], seeds: Mapping[str, KnownSeed], unwritten: Collection[str] = (), budget: int = 3
) -> dict[str, SeedCase]:
    by_device = defaultdict[str, list[LoggedCall]](list)
    for call in calls:
        if call.device_id in seeds:
            by_device[call.device_id].append(call)
    return {
        device_id: SeedCase(
            device_id,
            NO_PAIR,
            mine,
            unwritten,
            budget,
            seeds[device_id],
            {call.number: seeds[device_id].find_counter(call) for call in mine if call.otp is not None},
        )
        for device_id, mine in by_device.items()
    }


def judge_seed_cases(cases: Mapping[str, SeedCase], *, was_replayed: bool = False) -> list[str]:
    """What breaks the second and the third promise, a sentence each; empty if nothing does. `was_replayed`: a
    person may have replayed any of the records, and each begins a new pair then."""
    rules = [_made_for_now, _no_counter_twice, _second_of_seed_follows_first, _first_is_not_waited_for, _within_budget]
    if not was_replayed:
        rules.append(_none_after_an_end)
    return [f"{case.device_id}: {charge}" for case in cases.values() for rule in rules for charge in rule(case)]


def _made_for_now(case: SeedCase) -> Iterator[str]:
    """Whatever PingOne made of the call: sending it was wrong."""
    for call in case.calls:
        if call.otp is None:
            continue
        counter = case.counters[call.number]
        if counter is None:
            yield f"call {call.number} brings an OTP that is not this device's"
        elif case.seed.time_step is not None and counter != case.seed.step_of(call):
            yield f"call {call.number} brings the OTP of time step {counter} in time step {case.seed.step_of(call)}"


def _no_counter_twice(case: SeedCase) -> Iterator[str]:
    """Promise 3. An OTP that PingOne left alone did not go out, so its counter is free again."""
    highest, before = -1, 0
    for post in case.posts:
        counter = case.counters[post.number]
        if counter is not None and counter <= highest:
            yield f"call {post.number} brings the OTP of counter {counter}, and call {before} that of {highest}"
        elif counter is not None:
            highest, before = counter, post.number


def _second_of_seed_follows_first(case: SeedCase) -> Iterator[str]:
    """Promise 2. OTP 2 is that of the counter or the time step right after OTP 1."""
    for call in case.calls:
        if call.otp is None or not case.is_second(call):
            continue
        earlier = [post for post in case.posts if post.number < call.number]
        first = earlier[-1] if earlier else None
        was_asked_for = (
            first is not None
            and first.detail_code == "EXTRA_OTP_REQUIRED"
            and first.is_answered
            and first.done_at <= call.arrived_at
        )
        if first is None or case.is_second(first) or not was_asked_for:
            yield f"call {call.number} brings OTP 2, which PingOne had not asked for"
        elif case.counters[call.number] != (case.counters[first.number] or 0) + 1:
            yield (
                f"call {call.number} brings the OTP of {case.counters[call.number]} as OTP 2,"
                f" and OTP 1 was that of {case.counters[first.number]}"
            )


def _first_is_not_waited_for(case: SeedCase) -> Iterator[str]:
    """Promise 3: where PingOne waits for OTP 2, it refuses the OTP of that very counter if it comes as OTP 1."""
    for earlier, later in pairwise(case.posts):
        was_asked = earlier.outcome == "EXTRA_OTP_REQUIRED" and not later.oath_resync
        if was_asked and case.counters[later.number] == (case.counters[earlier.number] or 0) + 1:
            yield f"call {later.number} brings as OTP 1 what PingOne waits for as OTP 2"


def _none_after_an_end(case: SeedCase) -> Iterator[str]:
    """Promise 3: nothing follows an answer that ends a record, or an OTP of unknown fate that no read has told of."""
    for earlier, later in pairwise(case.posts):
        is_asked_for = earlier.detail_code == "EXTRA_OTP_REQUIRED" and earlier.is_answered
        # A TOTP that missed the time step of OTP 2 begins a new pair. Whether a worker that died had written down that
        # OTP 2 is wanted, nobody can tell from here.
        if is_asked_for and (later.oath_resync or case.seed.time_step is not None):
            continue
        if case.fate_is_known(earlier) and not case.tries_flag(later):
            yield f"call {later.number} follows call {earlier.number}, which had been answered"
            continue
        yield from charge_unread(case, earlier, later)
