"""Whether OTP 1 goes with `oathResync`, learned from an environment's answers. Pure. The vendor's pages do not say
whether PingOne asks an out-of-step token for a second OTP only if the first one came with `oathResync`. Without the
flag, such a tenant refuses every out-of-step token. So while nothing is known, few records go at a time, and after a
few refusals the flag goes with OTP 1. Each accepted OTP lets more records go at a time. A token with a seed loses
nothing: its next OTP goes with the flag at once, within its budget."""

from dataclasses import dataclass, replace
from enum import StrEnum

# Refused first OTPs, in an environment where PingOne never asked for a second one, until the flag is added.
REFUSALS = 3
# Accepted first OTPs for each refused one, and before the first refusal: from there on, out-of-step tokens are rare
# here, and records go at full speed.
TAKEN = 50
# First OTPs that have to be taken until one more record may go at a time. So about half a refusal more is to be
# expected of all that go together, however many they are.
TAKEN_FOR_ONE_MORE = 2


class NeedsFlag(StrEnum):
    """What is known of an environment. Each member says what was seen, and what may change it."""

    # PingOne has not asked for a second OTP yet. OTP 1 goes without the flag; refusals are counted.
    UNKNOWN = "unknown"
    # PingOne asked for a second OTP after a first one without the flag. Final: the flag is not needed.
    NO = "no"
    # Too many first OTPs were refused without it, so the flag is added; whether that helps is not known yet.
    TRIED = "tried"
    # PingOne asked for a second OTP after a first one with the flag. Final: the flag is needed.
    YES = "yes"


class FirstOtpAnswer(StrEnum):
    """What PingOne's answer to an OTP 1 says about the flag."""

    TAKEN = "taken"
    ASKED_FOR_SECOND = "asked_for_second"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ResyncKnowledge:
    """What is known of an environment, and what was counted while nothing was: refused and accepted first OTPs."""

    needs: NeedsFlag = NeedsFlag.UNKNOWN
    refused: int = 0
    taken: int = 0

    @property
    def sends_flag(self) -> bool:
        """Whether OTP 1 goes with `oathResync`."""
        return self.needs in (NeedsFlag.TRIED, NeedsFlag.YES)

    @property
    def is_for_good(self) -> bool:
        """Whether no answer changes it anymore."""
        return self.needs in (NeedsFlag.NO, NeedsFlag.YES)

    @property
    def is_learning(self) -> bool:
        """Whether every answer counts: nothing is known, not even that out-of-step tokens are rare here."""
        return self.needs == NeedsFlag.UNKNOWN and self.taken < TAKEN * (self.refused + 1)

    @property
    def most_at_once(self) -> int | None:
        """How many records of a batch may be queued or in work at once, so that hardly more than REFUSALS are spent
        before the flag is added; None: no extra limit."""
        if not self.is_learning:
            return None
        return max(1, REFUSALS - self.refused) + self.taken // (TAKEN_FOR_ONE_MORE * (self.refused + 1))


def learn(known: ResyncKnowledge, answer: FirstOtpAnswer, *, had_flag: bool) -> ResyncKnowledge:
    """What is known after another answer to an OTP 1, which was sent with or without the flag."""
    if known.is_for_good:
        return known
    if answer == FirstOtpAnswer.ASKED_FOR_SECOND:
        return replace(known, needs=NeedsFlag.YES if had_flag else NeedsFlag.NO)
    if had_flag or known.needs == NeedsFlag.TRIED:
        return known
    if answer == FirstOtpAnswer.TAKEN:
        # More of them add no information, and would be written for every record.
        return replace(known, taken=known.taken + 1) if known.is_learning else known
    refused = known.refused + 1
    return replace(known, refused=refused, needs=NeedsFlag.TRIED if refused >= REFUSALS else NeedsFlag.UNKNOWN)
