"""The network under the real client: where a request gets lost, and when, is drawn here."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import partial

from hunt.model_pingone import ModelPingOne
from hunt.schedule import Clock, Dice, Died, Strands
from hunt.tenant import EPOCH, FIND, PAIR, UNPAIR, Call, Reply, answer
from worker.pingone.errors import Answer, NotDelivered, OutcomeUnknown, TooLateToSend
from worker.pingone.wire import Request

# How a request fails before its first byte.
UNDELIVERED = (("refused", 0.06), ("slow_connect", 0.04))
# PingOne, or what stands before it, answers and does nothing.
NOTHING_DONE = (
    ("rate_limited", 0.05),
    ("rate_limited_long", 0.02),
    ("unauthorized", 0.03),
    ("forbidden", 0.03),
    ("not_found", 0.05),
    ("not_allowed", 0.005),
    ("media_type", 0.005),
)
# No readable answer comes, though PingOne may act, or has acted.
UNREADABLE = (
    ("reset", 0.1),
    ("timeout", 0.1),
    ("late", 0.1),
    ("server_error", 0.1),
    ("unavailable", 0.03),
    ("request_timeout", 0.01),
    ("redirect", 0.01),
    ("no_status", 0.02),
    ("garbled", 0.02),
    ("other_device", 0.03),
    ("proxy_not_found", 0.03),
    ("proxy_forbidden", 0.03),
    ("own_fault", 0.03),
)


class Bug(Exception):
    """A fault of our own, in the middle of a call."""


PAGE = {"content-type": "text/html", "server": "a gateway"}, b"<!doctype html><title>Not here</title>"


def nothing_done(evil: str) -> Reply:
    return {
        "rate_limited": answer(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED", retry_after=1),
        "rate_limited_long": answer(429, "REQUEST_LIMITED", "QUOTA_EXCEEDED", retry_after=45),
        "unauthorized": answer(401, "ACCESS_FAILED", "INVALID_TOKEN"),
        "forbidden": answer(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS"),
        "not_found": answer(404, "NOT_FOUND"),
        "not_allowed": answer(405),
        "media_type": answer(415, "INVALID_REQUEST"),
    }[evil]


def unreadable(evil: str, dice: Dice, call: Call) -> Reply:
    return {
        "server_error": answer(dice.pick("status", (500, 502, 504)), "UNEXPECTED_ERROR"),
        "unavailable": answer(503, retry_after=7),
        "request_timeout": answer(408),
        "redirect": answer(302),
        "no_status": answer(200),
        "other_device": _about_another(dice, call),
        "proxy_not_found": (404, *PAGE),
        "proxy_forbidden": (403, *PAGE),
        "garbled": (dice.pick("status", (200, 400)), {}, b'{"code": "INVALID_DA'),
    }[evil]


def _about_another(dice: Dice, call: Call) -> Reply:
    """What another request of its kind was to be answered."""
    device_id, status = str(uuid.UUID(int=7)), dice.pick("other_status", ("ACTIVE", "ACTIVATION_REQUIRED"))
    if call.kind == PAIR:
        return answer(201, id=device_id, status=status, serialNumber="OTHER")
    if call.kind == FIND:
        is_paired = dice.chance("other_status", 0.5)
        user_id = call.device.user_id if call.device else ""
        devices = {"devices": [{"id": device_id, "user": {"id": user_id}}]} if is_paired else {}
        return answer(200, id="token-OTHER", serialNumber="OTHER", **devices)
    return answer(200, id="another", status=status)


# Longest that PingOne goes on with a request whose sender has lost it, in seconds.
LATEST = 20.0


class ModelNetwork:
    """Hands out transports. `deadline`: of one exchange, in seconds."""

    def __init__(self, clock: Clock, strands: Strands, dice: Dice, pingone: ModelPingOne) -> None:
        self._clock = clock
        self._strands = strands
        self._dice = dice
        self.pingone = pingone
        # Calls on which PingOne has still to act.
        self.on_their_way: list[Call] = []

    def transport(self, url: str, *, deadline: float, largest_body: int) -> ModelTransport:
        return ModelTransport(partial(self.exchange, deadline), self.doubled)

    def token_transport(self, url: str, *, deadline: float) -> ModelTransport:
        """To the token endpoint: AccessTokens holds a lock meanwhile, so no one comes between."""
        return ModelTransport(self.grant)

    def doubled(self) -> bool:
        """Whether an answer comes twice."""
        return self._dice.happens("answers_doubled", 0.2)

    def grant(self, request: Request, send_before: float | None) -> Reply:
        if self._dice.happens("token_endpoint_down", 0.1):
            raise NotDelivered(Answer(message="refused"))
        if self._dice.happens("token_endpoint_broken", 0.1):
            return answer(503)
        if self._dice.happens("credentials_refused", 0.03):
            return answer(401, error="invalid_client")
        return answer(200, access_token=self.pingone.new_access_token(), expires_in=3600)

    def exchange(self, deadline: float, request: Request, send_before: float | None) -> Reply:
        self.pingone.expect(request)
        began = self._clock.monotonic()
        self._connect()
        now = self._clock.monotonic()
        if now - began >= deadline / 2:
            raise NotDelivered(Answer(message="connecting left no time to wait for an answer"))
        if send_before is not None and now >= send_before:
            raise TooLateToSend(Answer(message="the time to send had passed"))
        # No switch here: a worker that freezes between this look at the clock and the first byte cannot be fenced.
        call = self.pingone.arrive(request)
        try:
            call.heard = self._conclude(call, deadline)
            return call.heard
        except Died:
            self._abandon(call, deadline)
            raise

    def act_until(self, moment: float) -> None:
        """Whatever is due by now takes effect, in its order."""
        while due := [call for call in self.on_their_way if (call.acts_at or 0.0) <= moment]:
            first = min(due, key=lambda call: (call.acts_at or 0.0, call.number))
            self.on_their_way.remove(first)
            self._clock.advance_to(first.acts_at or 0.0)
            self.pingone.act(first)

    def _connect(self) -> None:
        match self._dice.one_of(UNDELIVERED):
            case "refused":
                self._sleep("connect", 0.0, 2.0)
                raise NotDelivered(Answer(message="refused"))
            case "slow_connect":
                self._sleep("connect", 4.0, 12.0)
            case _:
                self._strands.switch()

    def _conclude(self, call: Call, deadline: float) -> Reply:
        if self._dice.happens("dies_waiting", 0.05):
            self._die(call, deadline)
        if evil := self._dice.one_of(NOTHING_DONE):
            return self._do_nothing(call, evil)
        if evil := self._dice.one_of(UNREADABLE):
            return self._fail(call, evil, deadline)
        self._send(call, self._lag())
        self._strands.sleep_until(call.acts_at or 0.0)
        self._strands.sleep_until((call.acts_at or 0.0) + self._lag())
        self._may_be_cut(call, deadline)
        call.heard_at = self._clock.monotonic()
        self.pingone.note_heard(call)
        assert call.reply is not None
        status, headers, body = call.reply
        date = formatdate(int(EPOCH + (call.acted_at or 0.0)), usegmt=True)
        return status, headers | {"date": date}, body

    def _do_nothing(self, call: Call, evil: str) -> Reply:
        call.did_nothing = call.is_change
        if evil == "not_found" and call.device is not None:
            if call.device.misses >= 3:
                # Four of them are taken for the truth.
                evil = "rate_limited"
            call.device.misses += 1
        self._strands.sleep(self._lag())
        call.heard_at = self._clock.monotonic()
        return nothing_done(evil)

    def _fail(self, call: Call, evil: str, deadline: float) -> Reply:
        if call.kind == UNPAIR and evil in ("no_status", "other_device"):
            # Any success would say that the device is gone.
            evil = "server_error"
        lag = deadline if evil == "timeout" else self._lag()
        may_act_later = evil in ("reset", "timeout", "server_error")
        acts = self._dice.pick("acts", ("never", "before", "after") if may_act_later else ("never", "before"))
        if evil == "late":
            lag, acts = self._dice.between("late", 0.0, deadline), "after"
        if acts == "before":
            self._send(call, self._dice.between("effect", 0.0, lag))
        elif acts == "after":
            self._send(call, lag + self._dice.between("effect", 0.0, LATEST))
        self._strands.sleep(lag)
        match evil:
            case "reset" | "timeout" | "late":
                raise OutcomeUnknown(Answer(message="no answer"))
            case "own_fault":
                raise Bug
        return unreadable(evil, self._dice, call)

    def _die(self, call: Call, deadline: float) -> None:
        """The process dies in this call, when it has waited long, and PingOne has not come far with it."""
        self._send(call, deadline + LATEST)
        self._sleep("dies", deadline / 2, deadline)
        raise Died

    def _send(self, call: Call, delay: float) -> None:
        call.acts_at = call.sent_at + delay
        self.on_their_way.append(call)

    def _may_be_cut(self, call: Call, deadline: float) -> None:
        """A worker that froze meanwhile may find an answer that had come in time, or a connection that was cut."""
        is_late = self._clock.monotonic() > call.sent_at + deadline
        if is_late and self._dice.chance("cut", 0.5):
            raise OutcomeUnknown(Answer(message="no complete answer in time"))

    def _abandon(self, call: Call, deadline: float) -> None:
        """Its process died: whatever acts on it does so soon, or never. However late that is, the kernel has delivered
        it within the deadline, or has dropped it."""
        now = self._clock.monotonic()
        latest = min(now, call.sent_at + deadline) + LATEST
        if call not in self.on_their_way:
            return
        match self._dice.pick("abandoned", ("broken", "lingers", "lingers", "lingers", "as it was")):
            case "lingers" if latest > now:
                call.acts_at = self._dice.between("linger", now, latest)
            case "as it was" if latest > now:
                call.acts_at = min(call.acts_at or now, latest)
            case _:
                self.on_their_way.remove(call)
                call.acts_at = None

    def _lag(self) -> float:
        long = self._dice.happens("slow_answer", 0.1)
        return self._dice.between("lag", 2.0, 9.9) if long else self._dice.between("lag", 0.02, 0.4)

    def _sleep(self, name: str, low: float, high: float) -> None:
        self._strands.sleep(self._dice.between(name, low, high))


class ModelTransport:
    """Takes the place of worker.pingone.transport's Transport."""

    def __init__(
        self, exchange: Callable[[Request, float | None], Reply], doubled: Callable[[], bool] = lambda: False
    ) -> None:
        self._exchange = exchange
        self._doubled = doubled
        # What came by the connection beyond the answer.
        self._rest: Reply | None = None

    def exchange(self, request: Request, *, send_before: float | None = None) -> tuple[int, Mapping[str, str], bytes]:
        rest, self._rest = self._rest, None
        reply = self._exchange(request, send_before)
        if self._doubled():
            self._rest = reply
            self.look_behind()
        return rest or reply

    def look_behind(self) -> None:
        """What the real one does: a connection by which more came is not used again."""
        self._rest = None

    def drop_connection(self) -> None:
        self._rest = None

    def close(self) -> None:
        """Nothing is open."""
