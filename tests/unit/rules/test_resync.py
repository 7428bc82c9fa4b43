from itertools import product

import pytest

from worker.rules.resync import REFUSALS, TAKEN, FirstOtpAnswer, NeedsFlag, ResyncKnowledge, learn

UNKNOWN = ResyncKnowledge()


def learn_all(*answers: tuple[FirstOtpAnswer, bool]) -> ResyncKnowledge:
    known = UNKNOWN
    for answer, had_flag in answers:
        known = learn(known, answer, had_flag=had_flag)
    return known


def test_as_long_as_nothing_is_known_the_first_otp_goes_as_the_user_asked() -> None:
    assert not UNKNOWN.sends_flag
    assert not learn_all(*[(FirstOtpAnswer.TAKEN, False)] * 1000).sends_flag


def test_a_second_otp_that_was_asked_for_without_the_flag_settles_it() -> None:
    known = learn_all((FirstOtpAnswer.REFUSED, False), (FirstOtpAnswer.ASKED_FOR_SECOND, False))
    assert (known.needs, known.sends_flag, known.is_for_good) == (NeedsFlag.NO, False, True)
    assert learn(known, FirstOtpAnswer.REFUSED, had_flag=False) is known


def test_three_refusals_and_no_second_otp_asked_for_send_the_flag_along() -> None:
    known = learn_all(*[(FirstOtpAnswer.REFUSED, False)] * REFUSALS)
    assert (known.needs, known.sends_flag, known.is_for_good) == (NeedsFlag.TRIED, True, False)
    assert not learn_all(*[(FirstOtpAnswer.REFUSED, False)] * (REFUSALS - 1)).sends_flag


def test_with_the_flag_a_second_otp_that_is_asked_for_settles_it_and_refusals_change_nothing() -> None:
    tried = learn_all(*[(FirstOtpAnswer.REFUSED, False)] * REFUSALS)
    assert learn(tried, FirstOtpAnswer.REFUSED, had_flag=True) == tried
    assert learn(tried, FirstOtpAnswer.ASKED_FOR_SECOND, had_flag=True).needs == NeedsFlag.YES


def test_an_answer_that_was_on_its_way_without_the_flag_still_settles_it() -> None:
    tried = learn_all(*[(FirstOtpAnswer.REFUSED, False)] * REFUSALS)
    assert learn(tried, FirstOtpAnswer.ASKED_FOR_SECOND, had_flag=False).needs == NeedsFlag.NO


@pytest.mark.parametrize("answers", list(product(FirstOtpAnswer, repeat=5)))
def test_no_more_first_otps_are_out_than_may_be_lost(answers: tuple[FirstOtpAnswer, ...]) -> None:
    """Whatever comes back, what is refused and what is out together are no more than REFUSALS."""
    known = UNKNOWN
    for answer in answers:
        most = known.most_at_once
        if most is None:
            assert known.needs != NeedsFlag.UNKNOWN
            return
        assert known.refused + most <= REFUSALS
        known = learn(known, answer, had_flag=False)


def test_where_tokens_out_of_step_are_rare_records_go_as_fast_as_they_can() -> None:
    assert learn_all(*[(FirstOtpAnswer.TAKEN, False)] * (TAKEN - 1)).most_at_once == REFUSALS
    often = learn_all(*[(FirstOtpAnswer.TAKEN, False)] * TAKEN)
    assert often.most_at_once is None
    assert learn(often, FirstOtpAnswer.TAKEN, had_flag=False) is often
    assert (
        learn_all(*[(FirstOtpAnswer.TAKEN, False)] * TAKEN, (FirstOtpAnswer.REFUSED, False)).most_at_once
        == REFUSALS - 1
    )
