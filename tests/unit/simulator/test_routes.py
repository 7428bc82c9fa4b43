"""What a request asks for: by path, method and media type."""

import pytest

from worker.simulator.answers import Answer
from worker.simulator.routes import Request, Target, find_filter, find_operation, find_target

DEVICE = "/v1/environments/e/users/u/devices/d"
DEVICES = "/v1/environments/e/users/u/devices"
ACTIVATE = "application/vnd.pingidentity.device.activate+json"


def find(method, path, media_type=None):
    headers = {} if media_type is None else {b"content-type": media_type.encode()}
    found = find_operation(Request(method, path, "", headers), find_target(path))
    return found.status if isinstance(found, Answer) else found


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (DEVICE, Target("e", "u", "d")),
        (DEVICES, Target("e", "u")),
        ("/e/as/token", Target("e")),
        ("/as/token", Target()),
        ("/v1/environments/e/users", Target("e", read="find_users")),
        ("/v1/environments/e/oathTokens/t", Target("e", read="read_token", token_id="t")),
        ("/v1/environments/e/capabilities", Target("e", read="read_capabilities")),
        ("/v1/environments/e/oathTokens/", None),
        ("/v1/environments/e/oathJobs", None),
        ("/v1/environments/e/users/u/devices/", None),
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
        ("DELETE", "/v1/environments/e/oathTokens/t", 405),
        ("POST", "/e/as/token", "access_token"),
        ("PUT", DEVICE, 405),
        ("POST", DEVICES, 405),
        ("GET", "/e/as/token", 405),
        ("GET", "/made/up", 404),
    ],
)
def test_a_method_and_a_path_make_an_operation(method, path, found):
    assert find(method, path) == found


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
