"""What a request asks for: by path, method and media type."""

import pytest

from worker.simulator.answers import Answer
from worker.simulator.routes import Request, Target, find_filter, find_operation, find_target

DEVICE = "/v1/environments/e/users/u/devices/d"
DEVICES = "/v1/environments/e/users/u/devices"
JOBS = "/v1/environments/e/oathJobs"
JOB = "application/vnd.pingidentity.job.oathtokens"
ACTIVATE = "application/vnd.pingidentity.device.activate+json"


def find(method, path, media_type=None):
    headers = {} if media_type is None else {b"content-type": media_type.encode()}
    found = find_operation(Request(method, path, "", headers), find_target(path))
    return found.status if isinstance(found, Answer) else found


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (DEVICE, Target("device", "e", "u", "d")),
        (DEVICES, Target("devices", "e", "u")),
        (f"{DEVICES}/", Target("devices", "e", "u")),
        ("/e/as/token", Target("token endpoint", "e")),
        ("/as/token", Target("token endpoint")),
        ("/v1/environments/e/users", Target("users", "e")),
        ("/v1/environments/e/users/u/mfaEnabled", Target("mfaEnabled", "e", "u")),
        ("/v1/environments/e/oathTokens", Target("oathTokens", "e")),
        ("/v1/environments/e/oathTokens/t", Target("oathToken", "e", resource_id="t")),
        ("/v1/environments/e/oathJobs", Target("oathJobs", "e")),
        ("/v1/environments/e/oathJobs/j", Target("oathJob", "e", resource_id="j")),
        ("/v1/environments/e/capabilities", Target("capabilities", "e")),
        ("/v1/environments/e/oathTokens/", None),
        ("/v1/environments/e/oathJobs/", None),
        ("/v1/environments/e/jobs/j", None),
        ("/v1/environments/e", None),
        ("/", None),
    ],
)
def test_a_path_names_a_target(path, target):
    assert find_target(path) == target


@pytest.mark.parametrize("operation", ["activate", "unlock", "block", "unblock"])
def test_operations_differ_by_media_type_only(operation):
    assert find("POST", DEVICE, f"application/vnd.pingidentity.device.{operation}+json") == operation


def test_a_media_type_may_have_parameters_and_capitals():
    assert find("POST", DEVICE, ACTIVATE.upper() + "; charset=utf-8") == "activate"


@pytest.mark.parametrize("media_type", [None, "application/json", "application/vnd.pingidentity.device.made+json"])
def test_another_media_type_is_not_supported(media_type):
    assert find("POST", DEVICE, media_type) == 415


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", DEVICE, "read"),
        ("GET", DEVICES, "list"),
        ("DELETE", DEVICE, "unpair"),
        ("GET", "/v1/environments/e/oathTokens", "list_tokens"),
        ("DELETE", DEVICES, "remove_order"),
        ("DELETE", f"{DEVICES}/", "remove_order"),
        ("POST", DEVICES, 415),
        ("GET", "/v1/environments/e/users/u/mfaEnabled", "read_mfa_enabled"),
        ("DELETE", "/v1/environments/e/oathTokens/t", "revoke_token"),
        ("PUT", "/v1/environments/e/oathTokens/t", 405),
        ("PATCH", "/v1/environments/e/oathTokens/t", 405),
        ("GET", "/v1/environments/e/oathJobs", 405),
        ("GET", "/v1/environments/e/oathJobs/j", "read_job"),
        ("POST", "/e/as/token", "access_token"),
        ("PUT", DEVICE, 405),
        ("GET", "/e/as/token", 405),
        ("GET", "/made/up", 404),
    ],
)
def test_a_method_and_a_path_make_an_operation(method, path, found):
    assert find(method, path) == found


@pytest.mark.parametrize(
    ("method", "path", "media_type", "found"),
    [
        ("POST", DEVICES, "application/json", "pair"),
        ("PUT", "/v1/environments/e/users/u/mfaEnabled", "application/json", "set_mfa_enabled"),
        ("POST", "/v1/environments/e/oathTokens", "application/json", "create_token"),
        ("POST", JOBS, f"{JOB}.create+json", "import_tokens"),
        ("POST", JOBS, f"{JOB}.revoke+json", "revoke_tokens"),
        ("POST", JOBS, "application/json", 415),
    ],
)
def test_tokens_and_devices_are_made_by_media_types_of_their_own(method, path, media_type, found):
    assert find(method, path, media_type) == found


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", {}),
        ("limit=5", {}),
        ("filter=status%20eq%20%22ACTIVE%22", {"status": "ACTIVE"}),
        ("filter=type+eq+%22OATH_TOKEN%22+and+status+EQ+%22ACTIVE%22", {"type": "OATH_TOKEN", "status": "ACTIVE"}),
        ("filter=serialNumber+eq+%22MADE1%22", None),
        ("filter=status+ne+%22ACTIVE%22", None),
        ("filter=status+eq+ACTIVE", None),
        ("filter=status+eq+%22ACTIVE%22+or+type+eq+%22TOTP%22", None),
        ("filter=status", None),
    ],
)
def test_a_listing_is_filtered_by_status_and_type_only(query, wanted):
    assert find_filter(query) == wanted
