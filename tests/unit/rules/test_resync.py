"""Whether an environment wants `oathResync` with the first OTP already, as answers to first OTPs tell it."""

from itertools import product

import pytest

from worker.rules.resync import REFUSALS, TAKEN, FirstOtpAnswer, NeedsFlag, ResyncKnowledge, learn

ASKED, REFUSED, ACCEPTED = FirstOtpAnswer.ASKED_FOR_SECOND, FirstOtpAnswer.REFUSED, FirstOtpAnswer.TAKEN
# An answer, and whether its OTP went with the flag.
Answers = list[tuple[FirstOtpAnswer, bool]]
TRIED: Answers = [(REFUSED, False)] * REFUSALS


def learn_all(answers: Answers) -> ResyncKnowledge:
    known = ResyncKnowledge()
    for answer, had_flag in answers:
        known = learn(known, answer, had_flag=had_flag)
    return known


@pytest.mark.parametrize(
    ("answers", "needs", "sends_flag"),
    [
        # As long as nothing is known the first OTP goes as the user asked.
        ([], NeedsFlag.UNKNOWN, False),
        ([(ACCEPTED, False)] * 1000, NeedsFlag.UNKNOWN, False),
        # A second OTP that was asked for without the flag settles it.
        ([(REFUSED, False), (ASKED, False)], NeedsFlag.NO, False),
        ([(REFUSED, False), (ASKED, False), *TRIED], NeedsFlag.NO, False),
        # So many refusals, and no second OTP asked for, send the flag along.
        (TRIED[1:], NeedsFlag.UNKNOWN, False),
        (TRIED, NeedsFlag.TRIED, True),
        # With it a second OTP that is asked for settles it, and refusals change nothing.
        ([*TRIED, (REFUSED, True)], NeedsFlag.TRIED, True),
        ([*TRIED, (ASKED, True)], NeedsFlag.YES, True),
        # An answer that was on its way without it still does.
        ([*TRIED, (ASKED, False)], NeedsFlag.NO, False),
    ],
)
def test_what_answers_tell_of_the_flag(answers: Answers, needs: NeedsFlag, sends_flag: bool) -> None:
    known = learn_all(answers)
    assert (known.needs, known.sends_flag) == (needs, sends_flag)
    assert known.is_for_good == (needs in (NeedsFlag.NO, NeedsFlag.YES))


@pytest.mark.parametrize("answers", list(product(FirstOtpAnswer, repeat=5)))
def test_no_more_first_otps_are_out_than_may_be_lost(answers: tuple[FirstOtpAnswer, ...]) -> None:
    """Whatever comes back, what is refused and what is out together are no more than REFUSALS."""
    known = ResyncKnowledge()
    for answer in answers:
        most = known.most_at_once
        if most is None:
            assert known.needs != NeedsFlag.UNKNOWN
            return
        assert known.refused + most <= REFUSALS
        known = learn(known, answer, had_flag=False)


@pytest.mark.parametrize(
    ("answers", "most"),
    [
        ([(ACCEPTED, False)] * (TAKEN - 1), REFUSALS),
        ([(ACCEPTED, False)] * TAKEN, None),
        ([*[(ACCEPTED, False)] * TAKEN, (REFUSED, False)], REFUSALS - 1),
    ],
)
def test_where_tokens_out_of_step_are_rare_records_go_as_fast_as_they_can(answers: Answers, most: int | None) -> None:
    known = learn_all(answers)
    assert known.most_at_once == most
    # One more that is taken would be written down for every record.
    assert (learn(known, ACCEPTED, had_flag=False) is known) == (most is None)
