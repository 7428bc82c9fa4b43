"""Learns from an environment's answers whether OTP 1 needs `oathResync`. Pure. The vendor's pages do not say whether
PingOne asks for a second OTP from an out-of-step token only if the first one came with `oathResync`. If that is so,
PingOne refuses every out-of-step token without the flag. So while nothing is known, few records are tried at a time,
and after a few refusals OTP 1 is sent with the flag. As OTPs are accepted, more records are tried at a time. A token
with a seed loses nothing: its next OTP is sent with the flag at once, within its budget."""

from dataclasses import dataclass, replace
from enum import StrEnum

# Number of refused first OTPs, in an environment where PingOne never asked for a second one, after which the flag is
# added.
REFUSALS = 3
# Number of accepted first OTPs, for each refused one and before the first refusal, after which out-of-step tokens count
# as rare here, and records are tried at full speed.
TAKEN = 50
# Number of accepted first OTPs after which one more record may be tried at a time. At the refusal
# rate seen so far, the records added this way cause about half a refusal in total, however many there are.
TAKEN_FOR_ONE_MORE = 2


class NeedsFlag(StrEnum):
    """What is known about an environment. The comment on each member says what was seen, and whether that may
    change."""

    # PingOne has not asked for a second OTP yet. OTP 1 is sent without the flag; refusals are counted.
    UNKNOWN = "unknown"
    # PingOne asked for a second OTP after a first one without the flag. Final: the flag is not needed.
    NO = "no"
    # Too many first OTPs were refused without the flag, so it is added; whether that helps is not known yet.
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
    """What is known about an environment, and how many first OTPs were refused and accepted while nothing was known."""

    needs: NeedsFlag = NeedsFlag.UNKNOWN
    refused: int = 0
    taken: int = 0

    @property
    def sends_flag(self) -> bool:
        """Whether OTP 1 is sent with `oathResync`."""
        return self.needs in (NeedsFlag.TRIED, NeedsFlag.YES)

    @property
    def is_for_good(self) -> bool:
        """Whether no further answer can change what is known."""
        return self.needs in (NeedsFlag.NO, NeedsFlag.YES)

    @property
    def is_learning(self) -> bool:
        """Whether every answer counts: nothing is known, not even that out-of-step tokens are rare here."""
        return self.needs == NeedsFlag.UNKNOWN and self.taken < TAKEN * (self.refused + 1)

    @property
    def most_at_once(self) -> int | None:
        """How many records of a batch may be queued or in progress at once, so that hardly more than REFUSALS first
        OTPs are refused before the flag is added; None: no extra limit."""
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
        # Further accepted OTPs add no information, and each would have to be written.
        return replace(known, taken=known.taken + 1) if known.is_learning else known
    refused = known.refused + 1
    return replace(known, refused=refused, needs=NeedsFlag.TRIED if refused >= REFUSALS else NeedsFlag.UNKNOWN)
