"""A judge of the promises, by what arrived at PingOne. He reads the simulator's call log and takes no one's word for
anything but this: which attempts ended without our database learning what became of their last call.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from support.judges.call_log import LoggedCall

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
    """Promise 3, its last sentence."""
    sent = [post.otp for post in case.posts]
    for name, otp in (("OTP 1", case.pair.first), ("OTP 2", case.pair.second)):
        if sent.count(otp) > POSTS_PER_OTP:
            yield f"{name} was sent {sent.count(otp)} times"
    if len(sent) > case.budget:
        yield f"{len(sent)} posts, of {case.budget} allowed"
