"""What the simulator answers over HTTP to reads of users, inventory, policy and settings, in each reading of what the
vendor leaves open."""

import pytest

from worker.simulator.faults import FaultOrder
from worker.simulator.seeding import CLIENT_ID, ENVIRONMENT_ID, WorldSeed

ENVIRONMENT = f"/v1/environments/{ENVIRONMENT_ID}"
PATHS = {
    "mfa": "/users/user/devices",
    "directory": "/users",
    "inventory": "/oathTokens",
    "configuration": "/mfaSettings",
}


def seed(visitor, **world):
    visitor.simulation.seed(WorldSeed.model_validate(world))


def read(visitor, path, **parameters):
    return visitor.http.get(f"{ENVIRONMENT}{path}", params=parameters)


def listed(visitor, path, name, **parameters):
    answer = read(visitor, path, **parameters)
    assert answer.status_code == 200
    return answer.json()["_embedded"][name]


def people(count):
    return [{"user_id": f"u{number}", "username": f"name{number}"} for number in range(count)]


def test_users_are_found_by_their_names(visitor):
    seed(visitor, users=[*people(3), {"user_id": "u9", "email": "a@x.org", "external_id": "E-9"}])
    found = listed(visitor, "/users", "users", filter='(username eq "name0") or (username eq "name2")')
    assert [user["id"] for user in found] == ["u0", "u2"]
    for filter_ in ('email eq "a@x.org"', 'externalId eq "E-9"', 'id eq "u9"'):
        assert [user["id"] for user in listed(visitor, "/users", "users", filter=filter_)] == ["u9"]
    assert listed(visitor, "/users", "users", filter='username eq "nobody"') == []


def test_a_user_says_whether_they_can_sign_on(visitor):
    seed(
        visitor,
        users=[
            {"user_id": "well", "population_id": "sales", "mfa_enabled": True},
            {"user_id": "locked", "locked": True},
            {"user_id": "disabled", "enabled": False},
        ],
    )
    well, locked, disabled = listed(visitor, "/users", "users")
    assert (well["username"], well["email"], "externalId" in well) == ("well", "well@example.com", False)
    assert (well["enabled"], well["mfaEnabled"], well["population"]) == (True, True, {"id": "sales"})
    assert well["account"] == {"canAuthenticate": True, "status": "OK"}
    assert locked["account"] == {"canAuthenticate": False, "status": "LOCKED"}
    assert (disabled["enabled"], disabled["account"]) == (False, {"canAuthenticate": False, "status": "OK"})


def test_a_disabled_user_cannot_activate(visitor):
    visitor.seed()
    seed(visitor, users=[{"user_id": "user", "enabled": False}])
    assert visitor.codes(visitor.activate("111111")) == (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")


def test_users_of_devices_are_there_without_a_seed_of_their_own(visitor):
    visitor.seed()
    assert [user["username"] for user in listed(visitor, "/users", "users")] == ["user"]


def test_a_list_comes_in_pages_that_lead_to_each_other(visitor):
    seed(visitor, users=people(5), settings={"page_size": 2})
    answer = read(visitor, "/users", limit="200")
    pages = [answer.json()]
    while "next" in pages[-1]["_links"]:
        url = pages[-1]["_links"]["next"]["href"]
        assert url.startswith(f"{visitor.url}{ENVIRONMENT}/users?limit=200&cursor=")
        pages.append(visitor.http.get(url).json())
    assert [[user["id"] for user in page["_embedded"]["users"]] for page in pages] == [
        ["u0", "u1"],
        ["u2", "u3"],
        ["u4"],
    ]
    assert [page["count"] for page in pages] == [2, 2, 1]


def test_a_next_page_keeps_its_filter(visitor):
    seed(visitor, users=people(5), settings={"page_size": 1})
    page = read(visitor, "/users", filter='username eq "name1" or username eq "name3"').json()
    second = visitor.http.get(page["_links"]["next"]["href"]).json()
    assert [user["id"] for user in second["_embedded"]["users"]] == ["u3"]
    assert "next" not in second["_links"]


def test_fewer_may_be_asked_for_than_a_page_holds(visitor):
    seed(visitor, users=people(3))
    assert len(listed(visitor, "/users", "users", limit="2")) == 2


@pytest.mark.parametrize(
    ("parameters", "detail"),
    [
        ({"filter": 'username sw "a"'}, "INVALID_FILTER"),
        ({"filter": ""}, "INVALID_FILTER"),
        ({"cursor": "*"}, "INVALID_PARAMETER"),
        ({"cursor": "YQ=="}, "INVALID_PARAMETER"),
        ({"cursor": "LTE="}, "INVALID_PARAMETER"),
        ({"limit": "0"}, "INVALID_PARAMETER"),
        ({"limit": "1001"}, "INVALID_PARAMETER"),
        ({"limit": "many"}, "INVALID_PARAMETER"),
    ],
)
def test_a_malformed_query_is_refused(visitor, parameters, detail):
    assert visitor.codes(read(visitor, "/users", **parameters)) == (400, "INVALID_REQUEST", detail)


def test_a_filter_may_have_so_many_terms(visitor):
    seed(visitor, users=people(3), settings={"most_filter_terms": 2})
    terms = [f'(username eq "name{number}")' for number in range(3)]
    assert len(listed(visitor, "/users", "users", filter=" or ".join(terms[:2]))) == 2
    refused = read(visitor, "/users", filter=" or ".join(terms))
    assert visitor.codes(refused) == (400, "INVALID_REQUEST", "INVALID_FILTER")


TOTP = {"type": "totp", "digits": 8, "hash": "sha256", "time_step": 60, "drift": 2}
TOKENS = [{"serial": "FREE1", "secret": "31323334"} | TOTP, {"serial": "FREE2"}]


def test_the_inventory_has_free_and_paired_tokens_and_no_secret(visitor):
    seed(visitor, tokens=TOKENS)
    visitor.seed(counter=4, otps=None, secret="00ff")
    free, other, paired = listed(visitor, "/oathTokens", "oathTokens")
    assert (free["serialNumber"], free["type"], free["otpLength"]) == ("FREE1", "TOTP", 8)
    assert (free["hashAlgorithm"], free["totp"]) == ("HmacSHA256", {"timeStep": 60, "drift": 2})
    assert (other["serialNumber"], other["type"], other["hashAlgorithm"]) == ("FREE2", "HOTP", "HmacSHA1")
    assert (paired["serialNumber"], paired["hotp"]) == ("MADE1", {"counter": 4})
    for token in (free, other, paired):
        assert not {"secret", "devices", "_embedded"} & token.keys()


def test_devices_are_shown_to_those_who_ask_and_where_they_are_expected(visitor):
    seed(visitor, tokens=TOKENS)
    visitor.seed()
    devices = [{"id": "device", "user": {"id": "user"}}]
    free, _, paired = listed(visitor, "/oathTokens", "oathTokens", expand="devices")
    assert ("devices" in free, paired["devices"]) == (False, devices)
    visitor.simulation.change({"expanded_devices": "embedded"})
    _, _, paired = listed(visitor, "/oathTokens", "oathTokens", expand="devices")
    assert ("devices" in paired, paired["_embedded"]) == (False, {"devices": devices})
    assert visitor.codes(read(visitor, "/oathTokens", expand="users")) == (400, "INVALID_REQUEST", "INVALID_PARAMETER")


def test_filter_and_expand_go_together_or_not(visitor):
    visitor.seed()
    both = {"filter": 'serialNumber eq "MADE1"', "expand": "devices"}
    (token,) = listed(visitor, "/oathTokens", "oathTokens", **both)
    assert token["devices"][0]["id"] == "device"
    visitor.simulation.change({"expand_with_filter": False})
    assert visitor.codes(read(visitor, "/oathTokens", **both)) == (400, "INVALID_REQUEST", "INVALID_PARAMETER")
    (token,) = listed(visitor, "/oathTokens", "oathTokens", filter=both["filter"])
    assert read(visitor, f"/oathTokens/{token['id']}", expand="devices").json()["devices"][0]["user"] == {"id": "user"}
    assert "devices" not in read(visitor, f"/oathTokens/{token['id']}").json()
    assert visitor.codes(read(visitor, "/oathTokens/another")) == (404, "NOT_FOUND")


def test_an_unpaired_token_stays_in_the_inventory(visitor):
    visitor.seed()
    visitor.http.delete(visitor.path())
    (token,) = listed(visitor, "/oathTokens", "oathTokens", expand="devices")
    assert (token["serialNumber"], "devices" in token) == ("MADE1", False)


def test_an_environment_has_its_own_users_and_tokens(visitor):
    other = "0a7b0000-5e1f-4c0d-8000-0000000000ff"
    seed(visitor, environment_id=other, users=people(1), tokens=TOKENS)
    assert (listed(visitor, "/users", "users"), listed(visitor, "/oathTokens", "oathTokens")) == ([], [])
    users = visitor.http.get(f"/v1/environments/{other}/users").json()["_embedded"]["users"]
    assert [user["id"] for user in users] == ["u0"]


def test_the_policy_says_what_the_settings_say(visitor):
    (policy,) = listed(visitor, "/deviceAuthenticationPolicies", "deviceAuthenticationPolicies")
    assert (policy["default"], policy["newDeviceNotification"]) == (True, "NONE")
    failure = {"count": 3, "coolDown": {"duration": 2, "timeUnit": "MINUTES"}}
    assert policy["oathToken"] == {"enabled": True, "pairingDisabled": False, "otp": {"failure": failure}}
    changes = {"oath_enabled": False, "failure_count": 5, "cool_down": 45, "new_device_notification": "absent"}
    visitor.simulation.change(changes)
    (policy,) = listed(visitor, "/deviceAuthenticationPolicies", "deviceAuthenticationPolicies")
    assert "newDeviceNotification" not in policy
    assert policy["oathToken"]["enabled"] is False
    assert policy["oathToken"]["otp"]["failure"] == {"count": 5, "coolDown": {"duration": 45, "timeUnit": "SECONDS"}}


def test_the_mfa_settings_say_what_the_settings_say(visitor):
    body = read(visitor, "/mfaSettings").json()
    assert (body["pairing"], body["users"], "lockout" in body) == (
        {"maxAllowedDevices": 5},
        {"mfaEnabled": False},
        False,
    )
    visitor.simulation.change({"account_lock_after": 6, "max_allowed_devices": 3, "mfa_enabled_for_new_users": True})
    body = read(visitor, "/mfaSettings").json()
    assert (body["pairing"], body["users"]) == ({"maxAllowedDevices": 3}, {"mfaEnabled": True})
    assert body["lockout"] == {"failureCount": 6}


def test_the_capabilities_are_filled_or_not(visitor):
    visitor.simulation.change({"rate": 50, "group_rates": {"configuration": 5}})
    body = read(visitor, "/capabilities").json()
    assert body["canUseOATHToken"] is True
    assert body["licenseQuantities"] == {"rlgMfaRps": {"limit": 50}, "rlgConfigRpm": {"limit": 300}}
    visitor.simulation.change({"capabilities_filled": False})
    assert read(visitor, "/capabilities").json().keys() == {"_links"}


def test_a_device_shows_its_serial_number_or_not(visitor):
    visitor.seed()
    assert "serialNumber" not in visitor.read().json()
    visitor.simulation.change({"device_shows_serial_number": True})
    assert visitor.read().json()["serialNumber"] == "MADE1"


@pytest.mark.parametrize("group", PATHS)
def test_each_group_can_be_forbidden_by_itself(visitor, group):
    visitor.seed()
    visitor.simulation.change({"forbidden_groups": [group]})
    answers = {name: read(visitor, path) for name, path in PATHS.items()}
    assert {name for name, answer in answers.items() if answer.status_code == 403} == {group}
    assert visitor.codes(answers[group]) == (403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")


def test_each_group_has_a_limit_of_its_own(visitor):
    visitor.seed()
    visitor.simulation.change({"rate": 0.001, "group_rates": {"inventory": 0.001, "configuration": 0}, "burst": 1})
    statuses = {name: [read(visitor, path).status_code for _ in range(2)] for name, path in PATHS.items()}
    assert statuses == {
        "mfa": [200, 429],
        "directory": [200, 200],
        "inventory": [200, 429],
        "configuration": [429, 429],
    }
    assert sum(second["limited"] for second in visitor.simulation.tally.to_list()) == 1


@pytest.mark.parametrize("path", [*PATHS.values(), "/oathTokens/x", "/deviceAuthenticationPolicies", "/capabilities"])
def test_without_an_access_token_nothing_is_told(visitor, path):
    visitor.seed()
    answer = visitor.http.get(f"{ENVIRONMENT}{path}", headers={"Authorization": "Bearer made-up"})
    assert visitor.codes(answer) == (401, "ACCESS_FAILED", "INVALID_TOKEN")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_users_and_settings_cannot_be_changed(visitor, method):
    for path in ("/users", "/mfaSettings", "/deviceAuthenticationPolicies", "/capabilities"):
        assert visitor.http.request(method, f"{ENVIRONMENT}{path}").status_code == 405


def test_reads_are_logged_and_can_be_hit_by_faults(visitor):
    visitor.simulation.faults.orders.append(FaultOrder("error_before", "find_users"))
    assert read(visitor, "/mfaSettings").status_code == 200
    assert read(visitor, "/users").status_code >= 500
    assert read(visitor, "/users").status_code == 200
    first, second, _ = visitor.entries()
    assert (first.operation, first.fault) == ("read_mfa_settings", None)
    assert (second.operation, second.fault, second.environment_id) == ("find_users", "error_before", ENVIRONMENT_ID)


def test_a_world_of_before_still_loads():
    world = WorldSeed.model_validate(
        {"client_id": CLIENT_ID, "devices": [{"serial": "MADE1", "user_id": "u", "device_id": "d", "otps": ["1"]}]}
    )
    assert (world.users, world.tokens) == ((), ())


def test_the_built_in_roles_are_listed_outside_any_environment(visitor):
    answer = visitor.http.get("/v1/roles")
    assert answer.status_code == 200
    roles = {role["name"]: role["permissions"] for role in answer.json()["_embedded"]["roles"]}
    assert roles["Environment Admin"] == [{"id": "mfa:create:oathToken"}]
    visitor.simulation.change({"forbidden_groups": ["configuration"]})
    assert visitor.http.get("/v1/roles").status_code == 403
