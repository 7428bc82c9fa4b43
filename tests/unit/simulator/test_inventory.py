"""What the simulator answers to calls for the inventory: PINGONE.md, 4."""

import pytest
from unit.simulator.conftest import ENVIRONMENT, MEDIA, SECRET

from worker.simulator import operations, world

HOTP = {"serialNumber": "MADE1", "secret": SECRET, "type": "HOTP", "otpLength": 6}
TOTP = {"serialNumber": "MADE2", "secret": SECRET, "type": "TOTP", "otpLength": 8, "totp": {"timeStep": 60}}


def read_job(visitor, posted):
    return visitor.read(f"oathJobs/{posted.json()['id']}").json()


def test_a_job_imports_its_tokens(visitor):
    hotp, totp = HOTP | {"hotp": {"counter": 7}, "rowNumber": 1}, TOTP | {"hashAlgorithm": "HmacSHA256"}
    posted = visitor.import_tokens(hotp, totp)
    assert posted.status_code == 201
    job = visitor.http.get(posted.headers["Location"]).json()
    assert (job["type"], job["status"], job["async"]) == ("CREATE_OATH_TOKENS", "DONE", True)
    assert job["result"] == {"created": 2, "duplicates": []}
    assert job["_links"]["self"]["href"].endswith(f"/jobs/{job['id']}")
    first, second = visitor.inventory().values()
    assert (first["type"], first["otpLength"], first["hashAlgorithm"]) == ("HOTP", 6, "HmacSHA1")
    assert first["hotp"] == {"counter": 7}
    assert (second["type"], second["otpLength"], second["hashAlgorithm"]) == ("TOTP", 8, "HmacSHA256")
    assert second["totp"] == {"timeStep": 60, "drift": 0}
    assert SECRET not in visitor.read("oathTokens").text


def test_a_job_runs_for_a_while(visitor):
    visitor.simulation.change({"job_takes": 60})
    posted = visitor.import_tokens(HOTP)
    job = read_job(visitor, posted)
    assert (job["status"], "result" in job, visitor.inventory()) == ("IN_PROGRESS", False, {})
    visitor.simulation.change({"clock_skew": 60})
    assert (read_job(visitor, posted)["status"], list(visitor.inventory())) == ("DONE", ["MADE1"])


def test_a_token_that_is_there_is_left_alone_and_the_rest_is_created(visitor):
    visitor.seed(tokens=[{"serial": "MADE1", "secret": SECRET, "digits": 8, "counter": 3}])
    there = visitor.inventory()["MADE1"]
    job = read_job(visitor, visitor.import_tokens(HOTP, TOTP, TOTP))
    masked = [{"serialNumber": serial, "maskedSecret": "31******"} for serial in ("MADE1", "MADE2")]
    assert job["result"] == {"created": 1, "duplicates": masked}
    assert visitor.inventory()["MADE1"] == there


def test_an_environment_is_full_at_some_point(visitor, monkeypatch):
    monkeypatch.setattr(world, "MOST_TOKENS", 1)
    assert read_job(visitor, visitor.import_tokens(HOTP, TOTP))["status"] == "FAILED"
    assert [read_job(visitor, visitor.import_tokens(HOTP))["result"]["created"] for _ in range(2)] == [1, 0]


def test_a_list_that_is_too_long_is_refused(visitor, monkeypatch):
    monkeypatch.setattr(operations, "MOST_JOB_TOKENS", 1)
    assert visitor.import_tokens(HOTP, TOTP).status_code == 413
    assert visitor.inventory() == {}


def test_an_imported_token_is_activated_with_its_own_otps(visitor):
    visitor.seed(users=[{"user_id": "user"}], out_of_step=["MADE3"])
    visitor.import_tokens(HOTP | {"hotp": {"counter": 1}}, HOTP | {"serialNumber": "MADE3"})
    first, second = (visitor.pair(serial).json()["id"] for serial in ("MADE1", "MADE3"))
    assert [visitor.activate(otp, device_id=first).status_code for otp in ("755224", "287082")] == [400, 200]
    assert visitor.codes(visitor.activate("755224", device_id=second))[2] == "EXTRA_OTP_REQUIRED"
    assert visitor.activate("287082", True, device_id=second).json()["status"] == "ACTIVE"
    assert visitor.inventory()["MADE1"]["hotp"] == {"counter": 2}


@pytest.mark.parametrize(("force", "status", "left"), [(False, "FAILED", 2), (True, "DONE", 0)])
def test_a_paired_token_is_revoked_by_force_alone(visitor, force, status, left):
    visitor.seed_device()
    visitor.seed(tokens=[{"serial": "FREE1"}])
    ids = [token["id"] for token in visitor.inventory().values()]
    job = read_job(visitor, visitor.revoke_tokens(*ids, "another", forceUnpair=force))
    assert (job["status"], job.get("result"), len(visitor.inventory())) == (
        status,
        {"revoked": 2} if force else None,
        left,
    )
    assert visitor.read().status_code == (404 if force else 200)


# What is wrong with a token: the fields that differ from those of a good one, and which of them the refusal names.
BAD_TOKENS = [
    *(({name: None}, "REQUIRED_VALUE", name) for name in ("serialNumber", "secret", "type", "otpLength")),
    *(({"serialNumber": value}, "INVALID_VALUE", "serialNumber") for value in ("AB-1", "", "A" * 51, 7)),
    *(({"secret": value}, "INVALID_VALUE", "secret") for value in ("no hex", "abc", "00" * 101)),
    *(({"otpLength": value}, "INVALID_VALUE", "otpLength") for value in (7, "6", True)),
    ({"type": "OCRA"}, "INVALID_VALUE", "type"),
    ({"hashAlgorithm": "HmacSHA256"}, "INVALID_VALUE", "hashAlgorithm"),
    ({"hotp": {"counter": -1}}, "INVALID_VALUE", "hotp.counter"),
    ({"hotp": 7}, "INVALID_VALUE", "hotp"),
    ({"type": "TOTP"}, "REQUIRED_VALUE", "totp.timeStep"),
    ({"type": "TOTP", "totp": {"timeStep": 45}}, "INVALID_VALUE", "totp.timeStep"),
]


@pytest.mark.parametrize(("fields", "code", "target"), BAD_TOKENS, ids=str)
def test_a_bad_token_is_refused_with_its_whole_list(visitor, fields, code, target):
    listed = visitor.import_tokens(TOTP, HOTP | fields)
    assert visitor.codes(listed) == (400, "INVALID_DATA", code, f"tokens[1].{target}")
    assert visitor.inventory() == {}


@pytest.mark.parametrize(
    ("kind", "body", "target"),
    [
        ("create", {"tokens": [HOTP]}, "type"),
        ("create", {"type": "REVOKE_OATH_TOKENS", "tokens": [HOTP]}, "type"),
        ("create", {"type": "CREATE_OATH_TOKENS", "tokens": []}, "tokens"),
        ("create", {"type": "CREATE_OATH_TOKENS", "tokens": "MADE1"}, "tokens"),
        ("create", {"type": "CREATE_OATH_TOKENS", "tokens": [7]}, "tokens[0]"),
        ("revoke", {"type": "REVOKE_OATH_TOKENS", "tokenIds": ["a"]}, "async"),
        ("revoke", {"type": "REVOKE_OATH_TOKENS", "async": True, "tokenIds": [7]}, "tokenIds[0]"),
    ],
)
def test_a_malformed_job_is_refused(visitor, kind, body, target):
    refused = visitor.send("POST", f"{ENVIRONMENT}/oathJobs", body, f"{MEDIA}.job.oathtokens.{kind}+json")
    assert (refused.status_code, visitor.codes(refused)[3]) == (400, target)


def test_an_environment_has_its_own_users_tokens_and_jobs(visitor):
    other = "0a7b0000-5e1f-4c0d-8000-0000000000ff"
    visitor.seed(environment_id=other, users=[{"user_id": "u0"}], tokens=[{"serial": "FREE1"}])
    assert (visitor.listed("users"), visitor.inventory()) == ([], {})
    posted = visitor.import_tokens(HOTP)
    assert visitor.http.get(f"/v1/environments/{other}/oathJobs/{posted.json()['id']}").status_code == 404
    users = visitor.http.get(f"/v1/environments/{other}/users").json()["_embedded"]["users"]
    assert [user["id"] for user in users] == ["u0"]
