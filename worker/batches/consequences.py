"""Does what a settled record, or a failure of this process, means for a batch."""

from __future__ import annotations

from models.encrypted import DecryptionError
from models.reason import PAUSE_CURES, PauseReason
from worker.batches.upkeep import Upkeep
from worker.config.environment import Environment, Environments
from worker.fleet import NETWORK, Fitness, Sickness
from worker.leases.claim import Claim
from worker.rules.breaker_evidence import NO_ANSWER, WATCHED_FAILURES
from worker.rules.quota import Quota
from worker.rules.steps import Active, Decision, Pause, Retry


class Consequences:
    """Pauses batches, or ends this process where others can do its work. Thread-safe."""

    def __init__(self, upkeep: Upkeep, fitness: Fitness, environments: Environments) -> None:
        self._upkeep = upkeep
        self._fitness = fitness
        self._environments = environments

    def apply_decision(self, environment: Environment, claim: Claim, decision: Decision, posts: int) -> None:
        """Do what the decision of a settled attempt asks for: pause its batch, or every batch of a license whose quota
        is used up, or let the breaker judge the batch. `posts`: OTPs that the attempt has spent."""
        match decision:
            case Active(why=None):
                return
            case Active():
                self._upkeep.look_for_others(claim.batch_id)
            case Pause(quota=Quota() as quota):
                self.pause_for_quota(environment, quota)
            case Pause(reason=reason, is_own=True, detail=detail):
                self.stop_process_or_batch(claim.batch_id, reason, detail)
            case Pause(reason=reason, detail=detail):
                self.pause(claim.batch_id, reason, detail)
            case Retry(why=why) if not posts and why not in WATCHED_FAILURES:
                return
            case Retry(why=why) if why in NO_ANSWER and self._end_if_alone(claim.batch_id):
                return
            case _:
                self._upkeep.apply_breaker(claim.batch_id)

    def pause(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """Pause a batch for what only a person can mend. False if it did not run any more."""
        return self._upkeep.pause(batch_id, reason, detail)

    def pause_for_quota(self, environment: Environment, quota: Quota) -> None:
        """Pause every batch of the license that this environment belongs to until its quota resets."""
        license_of = self._environments.license_of
        self._upkeep.pause_for_quota(quota, lambda name: license_of(name) == environment.license)

    def stop_process_or_batch(self, batch_id: int, reason: PauseReason, detail: str | None = None) -> bool:
        """End this process, since what was found may be wrong with it alone; where no other process is well, pause the
        batch. False: the batch was not paused."""
        if self._fitness.fall_sick(Sickness(reason, detail or PAUSE_CURES[reason])):
            return False
        return self.pause(batch_id, reason, detail)

    def _end_if_alone(self, batch_id: int) -> bool:
        """End this process if PingOne answers others and not this one; False if that is not so."""
        if not self._upkeep.fails_alone(batch_id, self._fitness.name):
            return False
        detail = "PingOne's answers do not arrive here, and other processes have theirs: look at this machine's proxy"
        return self._fitness.fall_sick(Sickness(NETWORK, f"{detail} and network."))


def explain_decryption_failure(failure: DecryptionError) -> str:
    """Say what keeps OTPs from being decrypted, in a sentence for a person."""
    return f"An OTP or seed cannot be decrypted: {failure}. Nothing is lost: mend it, then resume."
