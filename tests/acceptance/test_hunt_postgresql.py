"""The hunt on PostgreSQL: there what several threads write together is one statement, which commits by itself."""

from __future__ import annotations

import pytest
from hunt import seeds
from hunt.mutants import MUTANTS, at_large

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("hunted_postgres")]

CHUNK = 40
CHUNKS = 1
# In these schedules, always the same, every mutant has to be found.
HUNTED = range(1000, 1150)
# Mutants that write together and get it wrong, each with a schedule that found it, tried first. The one that believes a
# write before its commit is not among them: here a statement commits by itself.
FOUND_BY = {
    "tells_the_result_of_one_thread_to_another": 1079,
    "forgets_a_thread_that_waits": 1110,
    "lets_nobody_lead_next": 1043,
}


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_happens_the_promises_are_kept(chunk: int) -> None:
    assert list(map(str, seeds.find(chunk * CHUNK, CHUNK).findings)) == []


@pytest.mark.parametrize("name", FOUND_BY)
def test_the_hunt_finds_code_that(name: str) -> None:
    mutant = MUTANTS[name]
    with at_large(name):
        finding = seeds.first([FOUND_BY[name], *HUNTED], mutant.charge, mutant.amid)

    assert finding is not None, f"no schedule of these ends with the charge {mutant.charge!r}"
