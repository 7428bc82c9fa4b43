"""Times and sizes of a running fleet, each with its reason: leases, delays, deadlines, holds, what goes into one
request. Nobody needs to set them, so they are no settings."""

from pydantic import BaseModel, ConfigDict, Field


class Tuning(BaseModel):
    """Times and sizes that nobody needs to set: constants, in whose place tests put others. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A TOTP pair older than this is not sent: PingOne's server looks a few time steps of 30 s back.
    totp_max_age: float = 120
    # A TOTP OTP made from a seed is not sent so late in its time step, since it would arrive in the next one.
    step_margin: float = 3
    # A call to PingOne takes no longer: far above its answers, and it ends inside its lease.
    call_deadline: float = 20
    # A worker holds a record no longer: two calls and what is between them.
    lease: float = 60
    # An OTP that did not go out so soon after it was marked as sent is not sent.
    send_within: float = 5
    # What must be left of the lease when an OTP goes out: a call, and time to settle.
    lease_left_for_post: float = 25
    # A record that waits longer in the queue is due again: its message is lost.
    queue_lease: float = 60
    # A device is read no sooner after an answer was lost: the call may still run at PingOne. A read that tells nothing
    # is repeated after a sixth of it, then after twice as long each time, up to ten times this.
    read_delay: float = 30
    # Between two reads of a device that PingOne does not know yet: it may have been paired moments ago.
    not_found_delay: float = 10
    # The fleet, or one worker where others reach PingOne, waits so long after an outage that does not say for how long.
    outage_hold: float = 5
    # The longest that the fleet waits, whoever asks for it. A longer `Retry-After` is a used-up quota.
    longest_hold: float = 120
    # A slot of the pace further away than this sends the record back, so that no thread sleeps on it.
    furthest_slot: float = 2
    # Between two ticks of the dispatcher.
    tick: float = 1

    # What replaces thresholds of the breaker, by their names in `worker.rules.breaker.Thresholds`.
    breaker: dict[str, int] = Field(default={})
    # Records that a batch begins with in an environment where no token ever became active; 0: all go at once.
    first_records: int = 3

    # Records queued or in work at once; None: ten seconds of the pace, at least 64.
    window: int | None = None
    # People looked up by name in one request, halved where PingOne finds it too long. PingOne publishes no number, but
    # the header of a request, access token included, has 6 KB at the most, and 40 e-mail addresses take half of that.
    names_per_request: int = 40
    # Tokens imported by one job; halved where PingOne refuses the job.
    tokens_per_import: int = 500

    @property
    def over_after(self) -> float:
        """Seconds after which a request that was marked as sent gets no answer any more, and PingOne is done with
        it."""
        return self.send_within + self.call_deadline + self.read_delay
