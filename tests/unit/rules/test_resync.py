"""Whether an environment wants `oathResync` with the first OTP already, as answers to first OTPs tell it."""

from itertools import product
from random import Random
from statistics import mean

import pytest

from worker.rules.resync import REFUSALS, TAKEN, FirstOtpAnswer, NeedsFlag, ResyncKnowledge, learn

ASKED, REFUSED, ACCEPTED = FirstOtpAnswer.ASKED_FOR_SECOND, FirstOtpAnswer.REFUSED, FirstOtpAnswer.TAKEN
# An answer, and whether its OTP went with the flag.
Answers = list[tuple[FirstOtpAnswer, bool]]
TRIED: Answers = [(REFUSED, False)] * REFUSALS


def learn_all(answers: Answers, known: ResyncKnowledge = ResyncKnowledge()) -> ResyncKnowledge:  # noqa: B008
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
    """Whatever comes back, what is refused and what is out together are no more than REFUSALS, and half as many as were
    taken."""
    known = ResyncKnowledge()
    for answer in answers:
        most = known.most_at_once
        if most is None:
            assert known.needs != NeedsFlag.UNKNOWN
            return
        assert known.refused + most <= REFUSALS + answers.count(ACCEPTED) / 2
        known = learn(known, answer, had_flag=False)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.2, 0.5])
def test_hardly_more_than_three_tokens_are_lost_to_learning_in_a_few_rounds(share: float) -> None:
    """All that may go at once go, before any is answered; `share` of the tokens are out of step, and refused."""
    lost, rounds = list[int](), list[int]()
    for seed in range(300):
        dice, known, count = Random(seed), ResyncKnowledge(), 0
        while known.most_at_once is not None:
            count += 1
            known = learn_all(
                [(REFUSED if dice.random() < share else ACCEPTED, False) for _ in range(known.most_at_once)], known
            )
        lost.append(known.refused)
        rounds.append(count)
    assert mean(lost) < REFUSALS + 0.5
    assert mean(rounds) < 10


@pytest.mark.parametrize(
    ("answers", "most"),
    [
        ([(ACCEPTED, False)] * 2, REFUSALS + 1),
        ([(ACCEPTED, False)] * (TAKEN - 1), REFUSALS + (TAKEN - 1) // 2),
        ([(ACCEPTED, False)] * TAKEN, None),
        # A refusal that comes later counts; tokens that are out of step are rare here once as many again were taken.
        ([*[(ACCEPTED, False)] * TAKEN, (REFUSED, False)], REFUSALS - 1 + TAKEN // 4),
        ([(REFUSED, False), *[(ACCEPTED, False)] * TAKEN * 2], None),
    ],
)
def test_where_tokens_out_of_step_are_rare_records_go_as_fast_as_they_can(answers: Answers, most: int | None) -> None:
    known = learn_all(answers)
    assert known.most_at_once == most
    # One more that is taken would be written down for every record.
    assert (learn(known, ACCEPTED, had_flag=False) is known) == (most is None)
