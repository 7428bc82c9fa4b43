"""Jobs on the inventory: what is sent, and what is read of the answers, ugly ones included."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.data.recorded_answers import REFUSED_READS, names_of, opened

from worker.config.environment import Environment
from worker.pingone.errors import (
    AlreadyImported,
    BadToken,
    InventoryFull,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    Rejected,
    TooManyTokens,
)
from worker.pingone.inventory import (
    JobState,
    NewToken,
    build_import_request,
    build_revocation_request,
    parse_job,
    parse_started_job,
)
from worker.pingone.wire import Request
from worker.vault.otps import MASK, Secret, Seed

JOB_ID = "c1d7a2f0-5b9e-4a63-8f24-7e0d9b1c3a58"
HOTP = NewToken(
    serial_number="2308734700388",
    seed=Seed(secret=Secret(b"12345678901234567890"), counter=7),
    row_number=2,
)
TOTP = NewToken(
    serial_number="2308734700389",
    seed=Seed(secret=Secret(bytes([0, 171, 205])), otp_type="totp", digits=8, hash_algorithm="sha256", time_step=60),
    row_number=3,
)

STARTED = {"created", "accepted", "location_alone", "location_of_jobs", "id_empty_with_location"}
BAD_TOKENS: dict[str, tuple[int | None, str | None]] = {
    "bad_secret": (7, "secret"),
    "bad_short_secret": (0, "secret"),
    "bad_time_step": (12, "totp.timeStep"),
    "bad_token_without_field": (3, None),
    "bad_field_without_index": (None, "otpLength"),
    "bad_index": (None, "serialNumber"),
    "bad_list": (None, None),
    "secret_too_long": (2, "secret"),
    "token_is_paired": (1, None),
}
NOT_STARTED: dict[str, type[PingOneError]] = {
    **dict.fromkeys(BAD_TOKENS, BadToken),
    "list_too_long": TooManyTokens,
    "request_too_long": TooManyTokens,
    "content_too_large": TooManyTokens,
    "content_too_large_by_proxy": TooManyTokens,
    "bad_type": Rejected,
    "inventory_full": InventoryFull,
    "already_imported": AlreadyImported,
    "target_of_a_wrong_type": Rejected,
    "id_empty": OutcomeUnknown,
    "id_of_a_wrong_type": OutcomeUnknown,
    "id_leads_elsewhere": OutcomeUnknown,
    "id_is_a_dot": OutcomeUnknown,
    "id_too_long": OutcomeUnknown,
    "half_a_body": OutcomeUnknown,
    "location_without_an_id": OutcomeUnknown,
    "location_of_the_list": OutcomeUnknown,
    "location_of_a_sign_on_page": OutcomeUnknown,
    "location_encoded": OutcomeUnknown,
    "location_is_no_address": OutcomeUnknown,
}

# State, tokens created, duplicates, tokens revoked.
JOBS: dict[str, tuple[JobState, int | None, tuple[str, ...], int | None]] = {
    "done": (JobState.DONE, 6, ("2308734700412",), None),
    "done_in_hal": (JobState.DONE, 7, (), None),
    "done_without_duplicates": (JobState.DONE, 7, (), None),
    "done_without_result": (JobState.DONE, None, (), None),
    "revoked": (JobState.DONE, None, (), 4),
    "failed": (JobState.FAILED, None, (), None),
    "failure": (JobState.FAILED, None, (), None),
    "in_progress": (JobState.RUNNING, None, (), None),
    "of_unknown_status": (JobState.RUNNING, None, (), None),
    "without_status": (JobState.RUNNING, None, (), None),
    "status_is_prose": (JobState.RUNNING, None, (), None),
    "without_id": (JobState.DONE, 1, (), None),
    "wrong_types": (JobState.RUNNING, None, (), None),
    "wrong_types_in_duplicates": (JobState.DONE, None, ("2308734700413",), None),
}
NO_JOBS: dict[str, type[PingOneError]] = {
    "another_job": OtherDevice,
    "neither_id_nor_status": OutcomeUnknown,
    "half_a_body": OutcomeUnknown,
    "cleaned_up": NotFound,
}


@pytest.fixture
def environment(make_environment: Callable[..., Environment]) -> Environment:
    return make_environment("https://api.pingone.eu")


def build_import(environment: Environment, *tokens: NewToken) -> Request:
    return build_import_request(environment, tokens)


def build_revocation(environment: Environment, *token_ids: str) -> Request:
    return build_revocation_request(environment, token_ids)


def test_tokens_of_both_types_go_into_one_import(environment: Environment) -> None:
    request = build_import(environment, HOTP, TOTP)
    assert request.method == "POST"
    assert request.url.endswith(f"/environments/{environment.environment_id}/oathJobs")
    assert request.headers == {"Content-Type": "application/vnd.pingidentity.job.oathtokens.create+json"}
    assert json.loads(request.content) == {
        "type": "CREATE_OATH_TOKENS",
        "tokens": [
            {
                "serialNumber": "2308734700388",
                "secret": "3132333435363738393031323334353637383930",
                "type": "HOTP",
                "otpLength": 6,
                "hashAlgorithm": "HmacSHA1",
                "hotp": {"counter": 7},
                "rowNumber": 2,
            },
            {
                "serialNumber": "2308734700389",
                "secret": "00ABCD",
                "type": "TOTP",
                "otpLength": 8,
                "hashAlgorithm": "HmacSHA256",
                "totp": {"timeStep": 60},
                "rowNumber": 3,
            },
        ],
    }


def test_a_hash_has_the_name_that_pingone_gives_it(environment: Environment) -> None:
    token = replace(TOTP, seed=replace(TOTP.seed, hash_algorithm="sha512"))
    (totp,) = json.loads(build_import(environment, token).content)["tokens"]
    assert totp["hashAlgorithm"] == "HmacSHA512"


def test_no_secret_shows_in_what_is_printed(environment: Environment) -> None:
    request = build_import(environment, HOTP)
    for text in (repr(request), str(request), repr(HOTP), str([HOTP])):
        assert "31323334" not in text
        assert "12345678" not in text


def test_tokens_are_revoked_by_their_ids_and_none_is_unpaired_by_it(environment: Environment) -> None:
    request = build_revocation(environment, "7a1d", "7a1e")
    assert request.url.endswith("/oathJobs")
    assert request.headers["Content-Type"] == "application/vnd.pingidentity.job.oathtokens.revoke+json"
    assert json.loads(request.content) == {
        "type": "REVOKE_OATH_TOKENS",
        "async": True,
        "forceUnpair": False,
        "tokenIds": ["7a1d", "7a1e"],
    }


def test_a_list_that_is_empty_or_names_a_token_twice_makes_no_request(environment: Environment) -> None:
    with pytest.raises(ValueError, match="no token"):
        build_import(environment)
    with pytest.raises(ValueError, match="without a name"):
        build_import(environment, HOTP, replace(TOTP, serial_number=""))
    with pytest.raises(ValueError, match="twice"):
        build_import(environment, HOTP, replace(TOTP, serial_number=HOTP.serial_number))
    with pytest.raises(ValueError, match="no token"):
        build_revocation(environment)
    with pytest.raises(ValueError, match="without a name"):
        build_revocation(environment, "7a1d", "")
    with pytest.raises(ValueError, match="twice"):
        build_revocation(environment, "7a1d", "7a1d")


@pytest.mark.parametrize("name", sorted(STARTED))
def test_the_id_of_a_started_job_is_found_in_the_body_or_in_the_location(name: str) -> None:
    assert parse_started_job(opened(f"started_job/{name}"), count=500) == JOB_ID


@pytest.mark.parametrize(
    ("name", "error"),
    ({f"started_job/{name}": error for name, error in NOT_STARTED.items()} | REFUSED_READS).items(),
)
def test_every_recorded_answer_that_starts_no_job_becomes_its_error(name: str, error: type[PingOneError]) -> None:
    with pytest.raises(PingOneError) as caught:
        parse_started_job(opened(name), count=500)
    assert type(caught.value) is error


@pytest.mark.parametrize(("name", "place"), BAD_TOKENS.items())
def test_a_refused_token_is_named_by_its_place_and_field(name: str, place: tuple[int | None, str | None]) -> None:
    with pytest.raises(BadToken) as caught:
        parse_started_job(opened(f"started_job/{name}"), count=500)
    assert (caught.value.index, caught.value.field) == place


@pytest.mark.parametrize("name", ["bad_secret", "bad_short_secret"])
def test_a_secret_that_a_refusal_repeats_is_masked(name: str) -> None:
    with pytest.raises(BadToken) as caught:
        parse_started_job(opened(f"started_job/{name}"), count=500)
    text = f"{caught.value!r} {caught.value}"
    assert "is not valid" in text
    assert "31323334" not in text
    assert "abcdef" not in text


@pytest.mark.parametrize(("name", "told"), JOBS.items())
def test_every_recorded_job_is_read(name: str, told: tuple[JobState, int | None, tuple[str, ...], int | None]) -> None:
    job = parse_job(opened(f"job/{name}"), job_id=JOB_ID)
    assert (job.state, job.created, job.duplicates, job.revoked) == told
    assert job.id == JOB_ID


def test_the_reason_of_a_failure_is_printable_and_shows_no_secret() -> None:
    assert parse_job(opened("job/failed"), job_id=JOB_ID).reason == f"Row 8: the secret [2J {MASK} is not valid"
    assert parse_job(opened("job/failure"), job_id=JOB_ID).reason == "INTERNAL"
    assert parse_job(opened("job/wrong_types"), job_id=JOB_ID).reason is None


@pytest.mark.parametrize("name", ["done", "wrong_types_in_duplicates"])
def test_what_an_answer_shows_of_a_duplicates_secret_is_not_kept(name: str) -> None:
    assert "6E" not in repr(parse_job(opened(f"job/{name}"), job_id=JOB_ID))


@pytest.mark.parametrize(
    ("name", "error"), ({f"job/{name}": error for name, error in NO_JOBS.items()} | REFUSED_READS).items()
)
def test_every_recorded_answer_about_no_job_becomes_its_error(name: str, error: type[PingOneError]) -> None:
    with pytest.raises(PingOneError) as caught:
        parse_job(opened(name), job_id=JOB_ID)
    assert type(caught.value) is error


def test_no_recorded_answer_is_left_out() -> None:
    assert names_of("started_job") == {*STARTED, *NOT_STARTED}
    assert names_of("job") == {*JOBS, *NO_JOBS}
