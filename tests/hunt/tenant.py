"""What PingOne has and what arrived there: the ground on which the promises are judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.vault.seed import Seed

Reply = tuple[int, dict[str, str], bytes]

# What PingOne made of a call.
ACTIVE, EXTRA, INVALID, REFUSED, WAITING, MISSING = "active", "extra", "invalid", "refused", "waiting", "missing"


# Unix time at which a scenario begins.
EPOCH = 1_767_225_600.0
# Counters beyond the first one of a seed, and time steps before and after now, in which an OTP is looked for.
COUNTERS, STEPS = 60, 3


@dataclass(frozen=True)
class ModelSeed:
    """The seed of a token, and which of its OTPs is which."""

    seed: Seed

    def find(self, otp: str, now: float) -> int | None:
        """The counter that made this OTP; None if none did that is near. `now` on the processes' clock."""
        counters = range(self.seed.counter, self.seed.counter + COUNTERS)
        if self.seed.time_step is not None:
            step = self.step_at(now)
            counters = range(step - STEPS, step + STEPS + 1)
        return next((counter for counter in counters if self.seed.mint(counter).reveal() == otp), None)

    def step_at(self, now: float) -> int:
        """The number of the time step at this moment on the processes' clock."""
        return int((EPOCH + now) // (self.seed.time_step or 1))


@dataclass
class ModelDevice:
    """A token in a user's hands, and PingOne's object for it. Its record brings a pair, `first` and `second`, or a
    seed."""

    device_id: str
    user_id: str
    first: str
    second: str | None
    # Whether OTP 1 is right as it is, right but out of step, or wrong; and whether OTP 2 is.
    first_is: str
    second_is_right: bool
    # On the processes' clock: TOTP is no good after it, and a device just paired is not seen everywhere before it.
    good_until: float | None = None
    seen_from: float = 0.0
    is_active: bool = False
    is_locked: bool = False
    is_blocked: bool = False
    is_usable: bool = True
    is_deleted: bool = False
    failures: int = 0
    # 404s for a device that is there: a client that saw too many may take it for missing.
    misses: int = 0
    was_asked: bool = False
    taken: set[str] = field(default_factory=set)
    seed: ModelSeed | None = None
    # The counter of the OTP after which PingOne asked for the next one.
    asked_after: int | None = None
    activated_by: Call | None = None


@dataclass
class Call:
    """One request whose first byte went out. Times on the processes' clock; None: it did not happen (yet)."""

    number: int
    device: ModelDevice
    # Which OTP it brought; 0 is a read.
    ordinal: int
    attempt: str
    sent_at: float
    # The OTP, and the counter that it was made from if its device has a seed.
    otp: str = ""
    counter: int | None = None
    # When PingOne will act on it. What it did nothing with was answered instead.
    acts_at: float | None = None
    acted_at: float | None = None
    did_nothing: bool = False
    verdict: str | None = None
    reply: Reply | None = None
    # When its worker read a whole answer.
    heard_at: float | None = None

    @property
    def is_post(self) -> bool:
        return self.ordinal > 0

    @property
    def is_pending(self) -> bool:
        """It will still take effect."""
        return self.acts_at is not None and self.acted_at is None

    def __str__(self) -> str:
        what = f"OTP {self.ordinal}" if self.is_post else "read"
        return f"call {self.number} ({what}, {self.device.device_id[-4:]})"


@dataclass(frozen=True)
class Tenant:
    """What is not published, and may be one way or the other."""

    locks_after: int = 99
    # Whether an OTP that was looked at once is good no more.
    uses_up_otps: bool = False
    # The verdict on an OTP for a device that is ACTIVE already.
    says_when_active: str = REFUSED
    resync_on_first_call: bool = False
