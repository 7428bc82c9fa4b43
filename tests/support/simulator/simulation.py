"""One watched simulator: the product's, with a call log, faults on demand, further limits, clients' signed statements,
and a setting for each reading of what the vendor leaves open."""

import hashlib
import json
import math
import secrets
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from joserfc.jws import extract_compact
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from support.simulator.call_log import CallLog
from worker.simulator.calls import HTML, Answer, Call, Group, refusal, timestamp
from worker.simulator.world import AccessTokens, Settings, Simulation, TokenBucket, WorldSeed

# Kinds of faults. `…_before`: the operation is not done at all; `…_after`: it is done, and its answer is lost.
FaultKind = Literal[
    "reset_before",  # the connection is reset, and nothing was done
    "reset_after",  # it was done, then the connection is reset
    "reset_late",  # the connection is reset at once, and it is done `late_effect_after` seconds later
    "error_before",  # one of `error_statuses`, nothing was done
    "error_after",  # one of `error_statuses`, although it was done
    "hang_before",  # no answer ever, and nothing was done; the connection stays open until the client closes it
    "hang_after",  # the same, although it was done
    "drip",  # done and answered, a byte of the body every `drip_interval` seconds
    "garbled",  # done, and a 200 whose body is a web page
]
DEVICE_OPERATIONS = ("activate", "read", "list", "unpair")
PROVISIONING_OPERATIONS = ("pair", "remove_order", "import_tokens", "revoke_tokens", "read_job")


class WatchedSettings(Settings):
    """All settings of the watched simulator."""

    # The share of calls that each kind of fault hits, among calls for `fault_operations`, and no more than
    # `faults_per_device` of them a device, or a token that is to be paired (None: no limit). Which calls are hit
    # depends on `fault_seed`.
    faults: Mapping[FaultKind, float] = {}
    fault_seed: int = 0
    fault_operations: tuple[str, ...] = (*DEVICE_OPERATIONS, *PROVISIONING_OPERATIONS)
    faults_per_device: int | None = Field(default=None, ge=0)
    # For the kinds `error_…`: the statuses to choose from, the share of them whose body is a proxy's page, and the
    # Retry-After in seconds, if there is to be one.
    error_statuses: tuple[int, ...] = Field(default=(500, 502, 503), min_length=1)
    error_html_share: float = Field(default=0.5, ge=0, le=1)
    error_retry_after: int | None = Field(default=None, ge=0)
    # For the kind `drip`: seconds between two bytes. For `reset_late`: seconds from the reset to the operation.
    drip_interval: float = Field(default=0.5, gt=0)
    late_effect_after: float = Field(default=1, ge=0)

    # Further rates for devices, by the seconds after the first request from which on they hold; and whether the counts
    # of all groups restart every so many whole seconds, instead of a bucket's.
    rate_changes: Mapping[NonNegativeFloat, PositiveFloat] = {}
    limit_window: float | None = Field(default=None, gt=0)
    # A quota beside the rate of devices: so many requests, then none until `quota_resets_after` seconds after the first
    # of them, then as many again. `quota_reset_time` is answered instead of the true time.
    quota: int | None = Field(default=None, ge=0)
    quota_resets_after: float = Field(default=60, ge=0)
    quota_reset_time: str | None = None
    # Does a refusal of the limit say when to come again? A number: it always asks for so many seconds.
    retry_after: Literal["seconds", "none"] | PositiveInt = "seconds"
    # Seconds that are added to the latency at most, drawn at random; and by which the service's clock is ahead.
    jitter: float = Field(default=0, ge=0)
    clock_skew: float = 0
    # Calls of these groups are answered with a 403, as if the client lacked the role for them.
    forbidden_groups: tuple[Group, ...] = ()
    # How clients have to authenticate to the token endpoint: CLIENT_SECRET_BASIC, _POST, _JWT, or PRIVATE_KEY_JWT.
    client_auth: Literal["basic", "post", "secret_jwt", "private_key_jwt"] | None = None

    # Does the answer to a successful activation hold the device's `status`?
    activation_body: Literal["full", "no_status"] = "full"
    # Does the inventory take a filter together with `expand=devices`, or refuse both with a 400?
    expand_with_filter: bool = True
    # Where does a token show the device that it is paired as: in itself, or under `_embedded`?
    expanded_devices: Literal["inline", "embedded"] = "inline"
    # Does a device show the serial number of its token?
    device_shows_serial_number: bool = False
    # Do the capabilities say what the license grants, or nothing?
    capabilities_filled: bool = True
    # What is answered to a job that is posted, and where its id is.
    job_answer: Literal[201, 202] = 201
    job_id_in: Literal["body", "location"] = "body"
    # A job that is over answers 404 after so many reads of its end. None: never.
    job_kept_reads: int | None = Field(default=None, ge=0)
    # Is `result.duplicates` an empty list or missing, where there are none?
    no_duplicates: Literal["empty", "missing"] = "empty"
    # Does a paired token make a job of revocations FAILED, or is it left out?
    revoke_paired: Literal["failed", "skipped"] = "failed"
    # The status of a device that was paired without saying one, and what becomes of a `status` in the request.
    pairing_status: Literal["ACTIVATION_REQUIRED", "ACTIVE"] = "ACTIVATION_REQUIRED"
    sent_status: Literal["honored", "ignored", "refused"] = "honored"
    # What is answered to the pairing of a token that is not in the inventory, or is paired.
    unknown_serial: Literal[400, 404] = 400
    paired_serial: Literal[400, 409] = 400
    # Seconds until the inventory shows what a token is paired as, and until a new device can be read and listed.
    inventory_read_lag: float = Field(default=0, ge=0)
    device_read_lag: float = Field(default=0, ge=0)

    @field_validator("faults")
    @classmethod
    def _check_shares(cls, faults: Mapping[FaultKind, float]) -> Mapping[FaultKind, float]:
        if any(share < 0 for share in faults.values()) or sum(faults.values()) > 1:
            raise ValueError("must be shares of all calls, which together are no more than 1")
        return faults

    @cached_property
    def has_readings(self) -> bool:
        """Whether an answer may have to be another than the product's simulator gives."""
        names = list(type(self).model_fields)
        readings = names[names.index("activation_body") :]
        return any(getattr(self, name) != type(self).model_fields[name].default for name in readings)


# The `client_assertion_type` of RFC 7523, section 2.2.
TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SYMMETRIC = ("HS256", "HS384", "HS512")
ASYMMETRIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
# Seconds from now at which an assertion may expire at the latest.
LONGEST_LIFE = 3600

Method = Literal["basic", "post", "secret_jwt", "private_key_jwt"]


class WatchedAccessTokens(AccessTokens):
    """Takes assertions in place of secrets, too, and demands the one way of authentication that `demanded` tells.
    `keys`: the public keys (JWKS), by client id. `clock` gives Unix time. PingOne does not look at `jti`; here one that
    comes twice is refused, so that a client that sends one assertion twice is found out."""

    def __init__(self, demanded: Callable[[], Method | None], clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.keys: dict[str, dict[str, Any]] = {}
        self.revoked: list[str] = []
        self._demanded = demanded
        self._unix_clock = clock
        # Of assertions that came, until when they would be good.
        self._used: dict[str, float] = {}

    def authenticates(self, call: Call, form: Mapping[str, str]) -> bool:
        """Whether the client is who it says, in the way that is demanded."""
        if "client_assertion" in form:
            method = self.check(form, f"{call.root}{call.path}")
        else:
            sent = "basic" if call.header(b"authorization") else "post"
            method = sent if super().authenticates(call, form) else None
        return method is not None and self._demanded() in (None, method)

    def revoke_all(self) -> None:
        """Make every access token invalid at once."""
        self.revoked += self.expires_at
        self.expires_at.clear()

    def check(self, form: Mapping[str, str], endpoint: str) -> Method | None:
        """How the assertion of a form is signed that was sent to this URL; None if it is no good."""
        assertion, client_id = form.get("client_assertion", ""), form.get("client_id")
        try:
            header = extract_compact(assertion.encode()).headers()
            method: Method = "secret_jwt" if header.get("alg") in SYMMETRIC else "private_key_jwt"
            claims = self._decode(assertion, method)
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):
            return None
        is_named = claims.get("iss") == claims.get("sub") and client_id in (None, claims.get("sub"))
        is_good = is_named and form.get("client_assertion_type") == TYPE and self._is_valid(claims, endpoint)
        return method if is_good else None

    def _decode(self, assertion: str, method: Method) -> Mapping[str, Any]:
        """Read the claims of an assertion whose signature is its client's. Raises JoseError, ValueError, KeyError."""
        claimed = json.loads(extract_compact(assertion.encode()).payload)["sub"]
        if method == "private_key_jwt":
            keys = KeySet.import_key_set(self.keys[claimed])
            return jwt.decode(assertion, keys, algorithms=list(ASYMMETRIC)).claims
        with warnings.catch_warnings():
            # A warning about a short secret.
            warnings.simplefilter("ignore")
            secret = OctKey.import_key(self.clients[claimed])
        return jwt.decode(assertion, secret, algorithms=list(SYMMETRIC)).claims

    def _is_valid(self, claims: Mapping[str, Any], endpoint: str) -> bool:
        """Whether an assertion is for this token endpoint, for now, and new."""
        now, expires_at, audience, jti = self._unix_clock(), claims.get("exp"), claims.get("aud"), claims.get("jti")
        # The endpoint, or the issuer; behind a proxy that ends TLS, the client's address has another scheme.
        places = {endpoint, endpoint.removesuffix("/token")}
        places |= {place.replace("http://", "https://", 1) for place in places}
        if not (audience in places if isinstance(audience, str) else places & set(audience or ())):
            return False
        if not isinstance(expires_at, int | float) or not now < expires_at <= now + LONGEST_LIFE:
            return False
        if isinstance(before := claims.get("nbf"), int | float) and before > now:
            return False
        return jti is None or self._use(str(jti), expires_at, now)

    def _use(self, jti: str, expires_at: float, now: float) -> bool:
        """Note an assertion as used until it expires. False if it was used before."""
        self._used = {used: until for used, until in self._used.items() if until > now}
        if jti in self._used:
            return False
        self._used[jti] = expires_at
        return True


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that hits one call. `variant`, from 0 to 1, chooses among the variants of its kind."""

    kind: FaultKind
    variant: float = 0.0

    @property
    def does_operation(self) -> bool:
        """Whether the operation is done in spite of the fault."""
        return not self.kind.endswith("_before")


@dataclass(frozen=True, slots=True)
class FaultOrder:
    """A fault that was ordered for the next call that matches; None matches any operation, device or token."""

    kind: FaultKind
    operation: str | None = None
    device_id: str | None = None
    serial_number: str | None = None

    def matches(self, operation: str, device_id: str | None, serial_number: str | None) -> bool:
        """Whether a call for this operation, device and token is one that the fault was ordered for."""
        is_device, is_token = self.device_id in (None, device_id), self.serial_number in (None, serial_number)
        return self.operation in (None, operation) and is_device and is_token


class Faults:
    """Decides which calls are hit by a fault: by `fault_seed`, the device or the token that is to be paired, the
    operation, and how many such calls came before."""

    def __init__(self) -> None:
        self.orders: list[FaultOrder] = []
        self._calls: Counter[tuple[str | None, str]] = Counter()
        self._hits: Counter[str | None] = Counter()

    def draw(
        self, operation: str, device_id: str | None, settings: WatchedSettings, serial_number: str | None = None
    ) -> Fault | None:
        """The fault for this call, ordered or drawn; None for a call that goes well."""
        for index, order in enumerate(self.orders):
            if order.matches(operation, device_id, serial_number):
                del self.orders[index]
                return Fault(order.kind)
        if not settings.faults or operation not in settings.fault_operations:
            return None
        subject = device_id or serial_number
        key = (subject, operation)
        self._calls[key] += 1
        kind = _choose_kind(settings, _hash_to_fraction(settings.fault_seed, *key, self._calls[key], "kind"))
        most = settings.faults_per_device
        if kind is None or (subject is not None and most is not None and self._hits[subject] >= most):
            return None
        self._hits[subject] += 1
        return Fault(kind, _hash_to_fraction(settings.fault_seed, *key, self._calls[key], "variant"))


def error_answer(fault: Fault, settings: WatchedSettings) -> Answer:
    """An answer with a 5xx, in the vendor's envelope or as a proxy's page."""
    scaled = fault.variant * len(settings.error_statuses)
    choice = min(int(scaled), len(settings.error_statuses) - 1)
    status, is_page = settings.error_statuses[choice], scaled - choice < settings.error_html_share
    page = f"<!doctype html><title>{status}</title><h1>{status} Try again</h1>\n".encode()
    answer = Answer(status, page, HTML) if is_page else refusal(status, "UNEXPECTED_ERROR")
    if settings.error_retry_after is None:
        return answer
    return answer.with_header("retry-after", str(settings.error_retry_after))


def garbled_answer() -> Answer:
    """A 200 with a web page instead of JSON."""
    return Answer(200, b"<!doctype html><title>Please wait</title>", HTML)


def _choose_kind(settings: WatchedSettings, drawn: float) -> FaultKind | None:
    """The kind of fault into whose share the drawn number from 0 to 1 falls; None beyond all shares."""
    for kind, share in settings.faults.items():
        if drawn < share:
            return kind
        drawn -= share
    return None


def _hash_to_fraction(*about: object) -> float:
    """A number from 0 to 1 that looks random and is always the same for the same arguments."""
    digest = hashlib.blake2b(repr(about).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class ChangingLimit(TokenBucket):
    """A token bucket whose rate changes with time, or a count that restarts with each window."""

    def __init__(self, settings: WatchedSettings, group: Group) -> None:
        super().__init__(settings, group)
        self._changes = sorted(settings.rate_changes.items()) if group == "mfa" else []
        self._window = settings.limit_window
        self._began_at: float | None = None
        self._counted = (-1, 0)

    def take(self, now: float) -> float | None:
        """Count one request, as the base class does."""
        if self._began_at is None:
            self._began_at = now
        elapsed = now - self._began_at
        self.rate = next((rate for at, rate in reversed(self._changes) if at <= elapsed), self.rate)
        if self._window is None or not self.rate:
            return super().take(now)
        # Windows begin at multiples of their length, as with services, and not at a client's first request.
        number = int(now // self._window)
        counted = self._counted[1] if number == self._counted[0] else 0
        # At least one request a window, or nobody would ever get through.
        if counted >= max(1, int(self.rate * self._window)):
            return (number + 1) * self._window - now
        self._counted = (number, counted + 1)
        return None


class Quota:
    """A quota: so many requests until it resets, then as many again. `now` is in monotonic seconds."""

    def __init__(self, settings: WatchedSettings) -> None:
        self._settings = settings
        self._left = 0
        self._resets_at = -math.inf

    def take(self, now: float) -> float | None:
        """Count one request against the quota: None if it is let through, else the seconds until the quota resets."""
        if self._settings.quota is None:
            return None
        if now >= self._resets_at:
            self._left, self._resets_at = self._settings.quota, now + self._settings.quota_resets_after
        if not self._left:
            return self._resets_at - now
        self._left -= 1
        return None


def quota_answer(resets_in: float, unix_time: float, settings: WatchedSettings) -> Answer:
    """The refusal of a request over the quota, which resets in `resets_in` seconds."""
    resets_at = settings.quota_reset_time or timestamp(unix_time + resets_in)
    return refusal(429, "REQUEST_LIMITED", "QUOTA_EXCEEDED", inner={"quotaResetTime": resets_at})


@dataclass(slots=True)
class Second:
    """One whole second in which a request arrived: `at` in the machine's monotonic seconds, as in the call log.

    `rate`: requests a second that the limit permitted when the latest of them arrived; None is unlimited. `limited`
    requests were refused, and `let_through` are all others, however they were answered.
    """

    at: int
    rate: float | None = None
    let_through: int = 0
    limited: int = 0


class Tally:
    """How many requests for devices were let through and refused, second by second, for the latest day."""

    def __init__(self) -> None:
        self._seconds: deque[Second] = deque(maxlen=86_400)

    def count(self, now: float, rate: float | None, *, limited: bool) -> None:
        """Count one request that arrived at `now`, which never goes back."""
        if not self._seconds or self._seconds[-1].at != int(now):
            self._seconds.append(Second(int(now)))
        second = self._seconds[-1]
        second.rate = rate
        second.limited += limited
        second.let_through += not limited

    def to_list(self) -> list[dict[str, Any]]:
        """The seconds as JSON, the oldest first."""
        return [asdict(second) for second in self._seconds]


class WatchedSeed(WorldSeed):
    """A seed that may bring the client's public keys, for PRIVATE_KEY_JWT."""

    client_jwks: dict[str, Any] | None = None


class WatchedSimulation(Simulation):
    """The state that all calls share. `job_reads`: how often the end of each job was read."""

    settings: WatchedSettings

    def __init__(self, settings: WatchedSettings | None = None, call_log: CallLog | None = None) -> None:
        self.call_log = call_log or CallLog(salt=secrets.token_hex(16))
        self._initial = settings or WatchedSettings()
        super().__init__(self._initial)

    def begin(self) -> None:
        """Begin anew, with nothing counted and no fault ordered."""
        self.faults = Faults()
        self.quota = Quota(self.settings)
        self.tally = Tally()
        self.job_reads = Counter[str]()
        super().begin()

    def make_access(self) -> WatchedAccessTokens:
        return WatchedAccessTokens(lambda: self.settings.client_auth)

    def make_limits(self) -> Mapping[Group, ChangingLimit]:
        return {group: ChangingLimit(self.settings, group) for group in get_args(Group)}

    def unix_time(self) -> float:
        """The time of the service's own clock, which `clock_skew` sets ahead of this machine's."""
        return time.time() + self.settings.clock_skew

    def seed(self, seed: WorldSeed) -> None:
        """Add what the seed has, the client's public keys too, and change the settings that it names. Raises
        ValidationError."""
        if seed.settings:
            self.change(seed.settings)
        super().seed(seed)
        if isinstance(seed, WatchedSeed) and seed.client_jwks is not None:
            self.access.keys[seed.client_id] = seed.client_jwks

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings by name, from the next call on. Raises ValidationError."""
        with self.lock:
            self.settings = self.settings.with_changes(changes)
            # A limit that did not change goes on counting.
            if not changes.keys().isdisjoint({"rate", "group_rates", "burst", "rate_changes", "limit_window"}):
                self.limits = self.make_limits()
            if not changes.keys().isdisjoint({"quota", "quota_resets_after"}):
                self.quota = Quota(self.settings)

    def admit(self, call: Call, now: float) -> Answer | None:
        """Count a request against the limit of its group; those for devices against the quota, and in the tally,
        too."""
        if call.operation == "access_token":
            return None
        with self.lock:
            refused = super().admit(call, now)
            if refused is not None and self.settings.retry_after != "seconds":
                asked = self.settings.retry_after
                refused = replace(refused, headers={} if asked == "none" else {"retry-after": str(asked)})
            if call.group == "mfa":
                if refused is None and (resets_in := self.quota.take(now)) is not None:
                    refused = quota_answer(resets_in, self.unix_time(), self.settings)
                self.tally.count(now, self.limits["mfa"].rate, limited=refused is not None)
        return refused

    def reset(self) -> None:
        """Restore the settings of the start and a world without devices, and clear the call log."""
        with self.lock:
            self.settings = self._initial
            self.call_log.clear()
            self.begin()
