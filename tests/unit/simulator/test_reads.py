"""What the simulator answers to reads of users, lists and policies: PINGONE.md, 5, and PINGONE-WHOLE-WAY.md, 1."""

from urllib.parse import quote

import pytest

from worker.simulator.calls import Call, Refused
from worker.simulator.operations import read_filter
from worker.simulator.world import Settings

ATTRIBUTES = ("username", "email")
ADA = [("username", "ada")]


def read_terms(text):
    query = f"filter={quote(text)}".encode()
    scope = {"method": "GET", "path": "/v1/environments/e/users", "query_string": query, "headers": []}
    return read_filter(Call.from_scope(scope), ATTRIBUTES, Settings())


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ('username eq "ada"', ADA),
        (' ( username EQ "Ada" ) ', [("username", "Ada")]),
        ('username eq "bo\\"b\\\\"', [("username", 'bo"b\\')]),
        ('username eq "\\u0061da"', ADA),
        (
            '(username eq "ada") or (email eq "x") OR email eq "y"',
            [("username", "ada"), ("email", "x"), ("email", "y")],
        ),
        ('username eq "or"or email eq "x"', [("username", "or"), ("email", "x")]),
    ],
)
def test_a_filter_is_terms_joined_by_or(text, terms):
    assert read_terms(text) == terms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "()",
        "username eq",
        "username eq ada",
        'username sw "a"',
        'username in ["a", "b"]',
        'not (username eq "a")',
        'lastName eq "a"',
        'username eq "a" or',
        'username eq "a" and email eq "b"',
        'username eq "a" username eq "b"',
        '(username eq "a"',
        'username eq "a")',
        'username eq "a',
        'username eq "a\\x"',
        "(" * 1000 + 'username eq "a"' + ")" * 1000,
        "%",
    ],
)
def test_what_is_malformed_or_not_supported_is_refused(text):
    with pytest.raises(Refused):
        read_terms(text)


def people(count):
    return [{"user_id": f"u{number}", "username": f"name{number}"} for number in range(count)]


def test_users_are_found_by_their_names_also_after_a_change(visitor):
    visitor.seed(users=[*people(3), {"user_id": "u9", "username": "former"}])
    visitor.seed(users=[{"user_id": "u9", "email": "a@x.org", "external_id": "E-9"}])
    found = visitor.listed("users", filter='(username eq "name0") or (username eq "name2")')
    assert [user["id"] for user in found] == ["u0", "u2"]
    for wanted in ('email eq "a@x.org"', 'externalId eq "E-9"', 'id eq "u9"'):
        assert [user["id"] for user in visitor.listed("users", filter=wanted)] == ["u9"]
    assert visitor.listed("users", filter='username eq "former"') == []


def test_a_user_says_whether_they_can_sign_on(visitor):
    visitor.seed(
        users=[{"user_id": "well"}, {"user_id": "locked", "locked": True}, {"user_id": "disabled", "enabled": False}]
    )
    well, locked, disabled = visitor.listed("users")
    assert (well["username"], well["email"], "externalId" in well) == ("well", "well@example.com", False)
    assert (well["enabled"], well["account"]) == (True, {"canAuthenticate": True, "status": "OK"})
    assert locked["account"] == {"canAuthenticate": False, "status": "LOCKED"}
    assert (disabled["enabled"], disabled["account"]) == (False, {"canAuthenticate": False, "status": "OK"})


def test_a_list_comes_in_pages_that_lead_to_each_other_and_keep_their_filter(visitor):
    visitor.seed(users=people(6), settings={"page_size": 2})
    wanted = " or ".join(f'(username eq "name{number}")' for number in range(5))
    pages = [visitor.read("users", limit="200", filter=wanted).json()]
    while "next" in pages[-1]["_links"]:
        url = pages[-1]["_links"]["next"]["href"]
        assert url.startswith(visitor.url)
        pages.append(visitor.http.get(url).json())
    ids = [[user["id"] for user in page["_embedded"]["users"]] for page in pages]
    assert (ids, [page["count"] for page in pages]) == ([["u0", "u1"], ["u2", "u3"], ["u4"]], [2, 2, 1])
    assert len(visitor.listed("users", limit="1")) == 1


@pytest.mark.parametrize(
    ("path", "parameters", "detail"),
    [
        ("users", {"filter": 'username sw "a"'}, "INVALID_FILTER"),
        ("users", {"filter": 'id eq "a" or id eq "b" or id eq "c"'}, "INVALID_FILTER"),
        ("users", {"cursor": "*"}, "INVALID_PARAMETER"),
        ("users", {"cursor": "LTE="}, "INVALID_PARAMETER"),
        ("users", {"limit": "0"}, "INVALID_PARAMETER"),
        ("users", {"limit": "1001"}, "INVALID_PARAMETER"),
        ("oathTokens", {"expand": "users"}, "INVALID_PARAMETER"),
    ],
)
def test_a_query_that_is_malformed_or_too_long_is_refused(visitor, path, parameters, detail):
    visitor.simulation.change({"most_filter_terms": 2})
    (name,) = parameters
    assert visitor.codes(visitor.read(path, **parameters)) == (400, "INVALID_REQUEST", detail, name)


def test_the_policy_and_the_mfa_settings_say_what_the_settings_say(visitor):
    (policy,) = visitor.listed("deviceAuthenticationPolicies")
    failure = {"count": 3, "coolDown": {"duration": 120, "timeUnit": "SECONDS"}}
    assert (policy["default"], policy["newDeviceNotification"]) == (True, "NONE")
    assert policy["oathToken"] == {"enabled": True, "pairingDisabled": False, "otp": {"failure": failure}}
    assert "lockout" not in visitor.read("mfaSettings").json()
    changes = {"failure_count": 5, "cool_down": 45, "new_device_notification": "absent"}
    visitor.simulation.change(changes | {"account_lock_after": 6, "max_allowed_devices": 3})
    (policy,) = visitor.listed("deviceAuthenticationPolicies")
    assert "newDeviceNotification" not in policy
    assert policy["oathToken"]["otp"]["failure"] == {"count": 5, "coolDown": {"duration": 45, "timeUnit": "SECONDS"}}
    body = visitor.read("mfaSettings").json()
    assert (body["pairing"], body["lockout"]) == ({"maxAllowedDevices": 3}, {"failureCount": 6})


def test_the_capabilities_say_what_the_license_permits(visitor):
    visitor.simulation.change({"rate": 50, "group_rates": {"configuration": 5}})
    body = visitor.read("capabilities").json()
    assert body["canUseOATHToken"] is True
    assert body["licenseQuantities"] == {"rlgMfaRps": {"limit": 50}, "rlgConfigRpm": {"limit": 300}}


def test_the_built_in_roles_are_listed_outside_any_environment(visitor):
    roles = {role["name"]: role["permissions"] for role in visitor.http.get("/v1/roles").json()["_embedded"]["roles"]}
    assert roles["Environment Admin"] == [{"id": "mfa:create:oathToken"}]
