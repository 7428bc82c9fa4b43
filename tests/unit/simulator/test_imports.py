"""Imports and revocations over HTTP: jobs, single tokens, and each reading of what the vendor leaves open."""

import pytest

from worker.simulator.faults import FaultOrder
from worker.simulator.oath import hotp
from worker.simulator.seeding import ENVIRONMENT_ID, WorldSeed

TOKENS = f"/v1/environments/{ENVIRONMENT_ID}/oathTokens"
JOBS = f"/v1/environments/{ENVIRONMENT_ID}/oathJobs"
CREATE = "application/vnd.pingidentity.job.oathtokens.create+json"
REVOKE = "application/vnd.pingidentity.job.oathtokens.revoke+json"
SECRET = "3132333435363738393031323334353637383930"
HOTP = {"serialNumber": "MADE1", "secret": SECRET, "type": "HOTP", "otpLength": 6}
TOTP = {
    "serialNumber": "MADE2",
    "secret": SECRET,
    "type": "TOTP",
    "otpLength": 8,
    "hashAlgorithm": "HmacSHA256",
    "totp": {"timeStep": 60},
}


@pytest.fixture
def tenant(visitor):
    """An empty tenant whose jobs are done at once."""
    visitor.simulation.change({"job_takes": 0})
    return visitor


def import_tokens(visitor, *tokens):
    body = {"type": "CREATE_OATH_TOKENS", "tokens": list(tokens)}
    return visitor.http.post(JOBS, json=body, headers={"Content-Type": CREATE})


def revoke_tokens(visitor, *token_ids, **fields):
    body = {"type": "REVOKE_OATH_TOKENS", "async": True, "tokenIds": list(token_ids)} | fields
    return visitor.http.post(JOBS, json=body, headers={"Content-Type": REVOKE})


def read_job(visitor, posted):
    return visitor.http.get(f"{JOBS}/{posted.json()['id']}")


def inventory(visitor):
    """The tokens of the inventory, by serial number."""
    tokens = visitor.http.get(TOKENS, params={"expand": "devices"}).json()["_embedded"]["oathTokens"]
    return {token["serialNumber"]: token for token in tokens}


def pair(visitor, serial_number, user_id="user"):
    path = f"/v1/environments/{ENVIRONMENT_ID}/users/{user_id}/devices"
    return visitor.http.post(path, json={"type": "OATH_TOKEN", "serialNumber": serial_number})


def seed_token(visitor, serial="MADE1", **token):
    seed = {"tokens": [{"serial": serial, "secret": SECRET} | token]}
    visitor.simulation.seed(WorldSeed.model_validate(seed))


def targets(answer):
    return [detail["target"] for detail in answer.json()["details"]]


def test_a_job_imports_its_tokens(tenant):
    posted = import_tokens(tenant, HOTP | {"hotp": {"counter": 7}, "rowNumber": 1}, TOTP)
    assert posted.status_code == 201
    assert posted.headers["Location"] == f"{tenant.url}{JOBS}/{posted.json()['id']}"
    job = read_job(tenant, posted).json()
    assert (job["type"], job["status"], job["async"]) == ("CREATE_OATH_TOKENS", "DONE", True)
    assert job["result"] == {"created": 2, "duplicates": []}
    assert job["_links"]["self"]["href"].endswith(f"/jobs/{job['id']}")
    first, second = inventory(tenant).values()
    assert (first["type"], first["otpLength"], first["hashAlgorithm"]) == ("HOTP", 6, "HmacSHA1")
    assert first["hotp"] == {"counter": 7}
    assert (second["type"], second["otpLength"], second["hashAlgorithm"]) == ("TOTP", 8, "HmacSHA256")
    assert second["totp"] == {"timeStep": 60, "drift": 0}
    assert SECRET not in tenant.http.get(TOKENS).text


def test_a_job_runs_for_a_while(tenant):
    tenant.simulation.change({"job_takes": 60, "job_running_status": "PROCESSING"})
    posted = import_tokens(tenant, HOTP)
    job = read_job(tenant, posted).json()
    assert (job["status"], "result" in job, inventory(tenant)) == ("PROCESSING", False, {})
    tenant.simulation.change({"clock_skew": 60})
    assert read_job(tenant, posted).json()["status"] == "DONE"
    assert list(inventory(tenant)) == ["MADE1"]


def test_a_jobs_id_may_be_in_its_address_alone(tenant):
    tenant.simulation.change({"job_answer": 202, "job_id_in": "location"})
    posted = import_tokens(tenant, HOTP)
    assert (posted.status_code, posted.content) == (202, b"")
    assert tenant.http.get(posted.headers["Location"]).json()["result"]["created"] == 1


def test_a_token_that_is_there_is_left_alone_and_the_rest_is_created(tenant):
    seed_token(tenant, digits=8, counter=3)
    there = inventory(tenant)["MADE1"]
    job = read_job(tenant, import_tokens(tenant, HOTP, TOTP)).json()
    masked = {"serialNumber": "MADE1", "maskedSecret": "31******"}
    assert job["result"] == {"created": 1, "duplicates": [masked]}
    assert inventory(tenant)["MADE1"] == there


def test_a_serial_number_twice_in_a_list_is_a_duplicate_or_a_bad_token(tenant):
    job = read_job(tenant, import_tokens(tenant, HOTP, HOTP)).json()
    assert (job["result"]["created"], len(job["result"]["duplicates"])) == (1, 1)
    tenant.simulation.change({"repeated_serial": "bad"})
    refused = import_tokens(tenant, TOTP, TOTP)
    assert tenant.codes(refused) == (400, "INVALID_DATA", "UNIQUENESS_VIOLATION")
    assert targets(refused) == ["tokens[1].serialNumber"]


def test_duplicates_may_be_missing_where_there_are_none(tenant):
    tenant.simulation.change({"no_duplicates": "missing"})
    assert read_job(tenant, import_tokens(tenant, HOTP)).json()["result"] == {"created": 1}
    assert len(read_job(tenant, import_tokens(tenant, HOTP)).json()["result"]["duplicates"]) == 1


def test_one_bad_token_refuses_the_list_or_fails_the_job(tenant):
    refused = import_tokens(tenant, HOTP, TOTP | {"secret": "no hex"})
    assert tenant.codes(refused) == (400, "INVALID_DATA", "INVALID_VALUE")
    assert targets(refused) == ["tokens[1].secret"]
    tenant.simulation.change({"bad_list_entry": "failed"})
    job = read_job(tenant, import_tokens(tenant, HOTP, TOTP | {"secret": "no hex"})).json()
    assert (job["status"], job["reason"]) == ("FAILED", "tokens[1].secret: INVALID_VALUE")
    assert inventory(tenant) == {}


def test_a_list_that_is_too_long_is_refused(tenant):
    tenant.simulation.change({"most_job_tokens": 1})
    assert import_tokens(tenant, HOTP, TOTP).status_code == 413
    tenant.simulation.change({"large_job": "size_limit"})
    assert tenant.codes(import_tokens(tenant, HOTP, TOTP)) == (400, "INVALID_DATA", "SIZE_LIMIT_EXCEEDED")
    assert import_tokens(tenant, HOTP).status_code == 201


def test_an_environment_is_full_at_some_point(tenant):
    tenant.simulation.change({"most_tokens": 1})
    assert read_job(tenant, import_tokens(tenant, HOTP, TOTP)).json()["status"] == "FAILED"
    assert read_job(tenant, import_tokens(tenant, HOTP)).json()["result"]["created"] == 1
    assert len(read_job(tenant, import_tokens(tenant, HOTP)).json()["result"]["duplicates"]) == 1
    refused = tenant.http.post(TOKENS, json=TOTP)
    assert tenant.codes(refused) == (400, "REQUEST_FAILED", "LIMIT_EXCEEDED")
    assert refused.json()["details"][0]["innerError"] == {"maximumAllowed": 1}


def test_a_job_is_cleaned_up_once_its_end_was_read_or_after_a_while(tenant):
    tenant.simulation.change({"job_kept_reads": 1, "job_takes": 60})
    posted = import_tokens(tenant, HOTP)
    assert [read_job(tenant, posted).status_code for _ in range(2)] == [200, 200]
    tenant.simulation.change({"clock_skew": 60})
    assert [read_job(tenant, posted).status_code for _ in range(2)] == [200, 404]
    tenant.simulation.change({"job_kept_reads": None, "job_kept_for": 600})
    assert read_job(tenant, posted).status_code == 200
    tenant.simulation.change({"clock_skew": 661})
    assert tenant.codes(read_job(tenant, posted)) == (404, "NOT_FOUND")


def test_an_imported_token_is_activated_with_its_own_otps(tenant):
    tenant.seed(serial="OTHER", device_id="other")
    import_tokens(tenant, HOTP | {"hotp": {"counter": 40}})
    device_id = pair(tenant, "MADE1").json()["id"]
    secret = bytes.fromhex(SECRET)
    assert tenant.activate(hotp(secret, 39), device_id=device_id).status_code == 400
    assert tenant.activate(hotp(secret, 40), device_id=device_id).json()["status"] == "ACTIVE"


def test_a_token_that_is_out_of_step_from_its_import_on_needs_two_otps(tenant):
    tenant.seed(serial="OTHER", device_id="other")
    tenant.simulation.seed(WorldSeed(out_of_step=("MADE1",)))
    import_tokens(tenant, HOTP)
    device_id = pair(tenant, "MADE1").json()["id"]
    secret = bytes.fromhex(SECRET)
    first = tenant.activate(hotp(secret, 0), device_id=device_id)
    assert tenant.codes(first) == (400, "INVALID_DATA", "EXTRA_OTP_REQUIRED")
    assert tenant.activate(hotp(secret, 1), True, device_id=device_id).json()["status"] == "ACTIVE"


def test_one_token_is_imported_and_revoked_by_itself(tenant):
    created = tenant.http.post(TOKENS, json=HOTP)
    assert created.status_code == 201
    assert created.json() == tenant.http.get(created.headers["Location"]).json()
    assert (created.json()["serialNumber"], SECRET in created.text) == ("MADE1", False)
    assert tenant.http.delete(created.headers["Location"]).status_code == 204
    assert tenant.http.delete(created.headers["Location"]).status_code == 404
    assert inventory(tenant) == {}
    assert tenant.http.post(TOKENS, json=HOTP).json()["id"] != created.json()["id"]


def test_a_token_that_is_seeded_takes_the_place_of_an_imported_one(tenant):
    imported = tenant.http.post(TOKENS, json=HOTP).json()
    seed_token(tenant, digits=8)
    assert inventory(tenant)["MADE1"]["otpLength"] == 8
    assert tenant.http.get(f"{TOKENS}/{imported['id']}").status_code == 404


@pytest.mark.parametrize(("status", "code"), [(400, "INVALID_DATA"), (409, "REQUEST_FAILED")])
def test_a_serial_number_that_is_there_is_refused(tenant, status, code):
    tenant.simulation.change({"existing_serial": status})
    seed_token(tenant)
    assert tenant.codes(tenant.http.post(TOKENS, json=HOTP)) == (status, code, "UNIQUENESS_VIOLATION")


def test_revoking_a_token_unpairs_it(tenant):
    tenant.seed()
    token_id = inventory(tenant)["MADE1"]["id"]
    assert tenant.http.delete(f"{TOKENS}/{token_id}").status_code == 204
    assert tenant.read().status_code == 404


def test_a_job_revokes_free_tokens(tenant):
    import_tokens(tenant, HOTP, TOTP)
    ids = [token["id"] for token in inventory(tenant).values()]
    job = read_job(tenant, revoke_tokens(tenant, *ids, "another")).json()
    assert (job["type"], job["status"], job["result"]) == ("REVOKE_OATH_TOKENS", "DONE", {"revoked": 2})
    assert inventory(tenant) == {}


@pytest.mark.parametrize(
    ("reading", "force", "status", "left"),
    [
        ("failed", False, "FAILED", {"MADE1", "MADE2"}),
        ("skipped", False, "DONE", {"MADE1"}),
        ("failed", True, "DONE", set()),
    ],
)
def test_a_paired_token_is_revoked_by_force_alone(tenant, reading, force, status, left):
    tenant.simulation.change({"revoke_paired": reading})
    tenant.seed()
    seed_token(tenant, "MADE2")
    ids = [token["id"] for token in inventory(tenant).values()]
    assert read_job(tenant, revoke_tokens(tenant, *ids, forceUnpair=force)).json()["status"] == status
    assert set(inventory(tenant)) == left
    assert tenant.read().status_code == (404 if force else 200)


@pytest.mark.parametrize(
    ("media_type", "body", "target"),
    [
        (CREATE, {"tokens": [HOTP]}, "type"),
        (CREATE, {"type": "REVOKE_OATH_TOKENS", "tokens": [HOTP]}, "type"),
        (CREATE, {"type": "CREATE_OATH_TOKENS", "tokens": []}, "tokens"),
        (CREATE, {"type": "CREATE_OATH_TOKENS", "tokens": "MADE1"}, "tokens"),
        (CREATE, {"type": "CREATE_OATH_TOKENS", "tokens": [7]}, "tokens[0]"),
        (REVOKE, {"type": "REVOKE_OATH_TOKENS", "tokenIds": ["a"]}, "async"),
        (REVOKE, {"type": "REVOKE_OATH_TOKENS", "async": True, "tokenIds": [7]}, "tokenIds"),
    ],
)
def test_a_malformed_job_is_refused(tenant, media_type, body, target):
    refused = tenant.http.post(JOBS, json=body, headers={"Content-Type": media_type})
    assert (refused.status_code, targets(refused)) == (400, [target])


def test_a_job_of_another_environment_is_not_found(tenant):
    posted = import_tokens(tenant, HOTP)
    assert tenant.http.get(f"/v1/environments/another/oathJobs/{posted.json()['id']}").status_code == 404


def test_the_live_counter_is_shown_or_that_of_the_import(tenant):
    tenant.seed(serial="MADE1", otps=None, secret=SECRET)
    tenant.activate(hotp(bytes.fromhex(SECRET), 4))
    assert inventory(tenant)["MADE1"]["hotp"] == {"counter": 5}
    tenant.simulation.change({"hotp_counter_shown": "imported"})
    assert inventory(tenant)["MADE1"]["hotp"] == {"counter": 0}


def test_an_import_whose_answer_is_lost_has_taken_effect(tenant):
    tenant.simulation.faults.orders.append(FaultOrder("error_after", "import_tokens"))
    assert import_tokens(tenant, HOTP).status_code >= 500
    assert list(inventory(tenant)) == ["MADE1"]
    (entry,) = [entry for entry in tenant.entries() if entry.operation == "import_tokens"]
    assert (entry.took_effect, entry.outcome, entry.serial_numbers) == (True, "JOB_TAKEN", ["MADE1"])
    assert entry.job_id == tenant.simulation.jobs.all()[0].id


def test_an_import_that_a_fault_stops_has_no_effect(tenant):
    tenant.simulation.faults.orders.append(FaultOrder("error_before", "import_tokens"))
    assert import_tokens(tenant, HOTP).status_code >= 500
    assert (inventory(tenant), tenant.entries()[0].took_effect) == ({}, False)


def test_the_call_log_notes_tokens_and_jobs_but_no_secret(tenant):
    posted = import_tokens(tenant, HOTP)
    read_job(tenant, posted)
    created = tenant.http.post(TOKENS, json=TOTP).json()
    tenant.http.delete(f"{TOKENS}/{created['id']}")
    job, read, single, revoked = tenant.entries()
    assert job.job_id == read.job_id == posted.json()["id"]
    assert (read.outcome, read.took_effect) == ("DONE", False)
    assert (single.serial_number, single.made_token_id, single.took_effect) == ("MADE2", created["id"], True)
    assert (revoked.serial_number, revoked.outcome, revoked.took_effect) == ("MADE2", "REVOKED", True)
    assert SECRET not in str([entry.to_dict() for entry in tenant.entries()])


def test_calls_for_the_inventory_may_count_as_calls_of_another_group(tenant):
    tenant.simulation.change({"group_rates": {"configuration": 0}})
    assert import_tokens(tenant, HOTP).status_code == 201
    tenant.simulation.change({"inventory_counts_as": "configuration"})
    assert import_tokens(tenant, HOTP).status_code == 429
    tenant.simulation.change({"inventory_counts_as": "mfa"})
    assert import_tokens(tenant, HOTP).status_code == 201
