"""What the simulator answers (PINGONE.md, PINGONE-WHOLE-WAY.md), and what the call log, by which the promises are
judged, says of a call and of one whose answer a fault hides."""

import base64
import json
import re
from urllib.parse import quote

import httpx
import pytest
from support.processes.waiting import wait_until
from support.simulator.call_log import CallLog
from support.simulator.server import running
from support.simulator.simulation import WatchedSimulation

from worker.simulator import operations, world
from worker.simulator.calls import Call, Refused
from worker.simulator.operations import read_filter
from worker.simulator.world import (
    CLIENT_ID,
    CLIENT_SECRET,
    ENVIRONMENT_ID,
    AccessTokens,
    Settings,
    TokenBucket,
    WorldSeed,
)

ENVIRONMENT = f"/v1/environments/{ENVIRONMENT_ID}"
MEDIA = "application/vnd.pingidentity"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Of RFC 4226, appendix D; its first OTPs are 755224, 287082 and 359152.
SECRET = b"12345678901234567890".hex()
HOTP = {"serialNumber": "MADE1", "secret": SECRET, "type": "HOTP", "otpLength": 6}
TOTP = {"serialNumber": "MADE2", "secret": SECRET, "type": "TOTP", "otpLength": 8, "totp": {"timeStep": 60}}


class Visitor:
    """Calls a simulator over HTTP, and looks at its state through `simulation`."""

    def __init__(self, simulation, url, http):
        self.simulation = simulation
        self.url = url
        self.http = http

    def seed(self, **world):
        self.simulation.seed(WorldSeed.model_validate(world))

    def seed_device(self, **device):
        own = {"serial": "MADE1", "user_id": "user", "device_id": "device", "secret": SECRET}
        self.seed(devices=[own | device])

    def path(self, device_id="device"):
        return f"{ENVIRONMENT}/users/user/devices/{device_id}"

    def send(self, method, path, body=None, media_type="application/json"):
        """Send a request with this body, which is JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body)
        return self.http.request(method, path, content=content, headers={"Content-Type": media_type})

    def activate(self, otp, resync=None, device_id="device"):
        return self.post_otp({"otp": otp} | ({} if resync is None else {"oathResync": resync}), device_id)

    def post_otp(self, body, device_id="device"):
        return self.send("POST", self.path(device_id), body, f"{MEDIA}.device.activate+json")

    def read(self, path="users/user/devices/device", **parameters):
        """Read the device, or what is in the environment at this path."""
        return self.http.get(f"{ENVIRONMENT}/{path}", params=parameters)

    def listed(self, path, **parameters):
        answer = self.read(path, **parameters)
        assert answer.status_code == 200, answer.text
        (things,) = answer.json()["_embedded"].values()
        return things

    def pair(self, serial="FREE1", user_id="user", **fields):
        path = f"{ENVIRONMENT}/users/{user_id}/devices/"
        return self.send("POST", path, {"type": "OATH_TOKEN", "serialNumber": serial} | fields)

    def start_job(self, kind, body):
        return self.send("POST", f"{ENVIRONMENT}/oathJobs", body, f"{MEDIA}.job.oathtokens.{kind}+json")

    def import_tokens(self, *tokens):
        return self.start_job("create", {"type": "CREATE_OATH_TOKENS", "tokens": list(tokens)})

    def read_job(self, posted):
        return self.read(f"oathJobs/{posted.json()['id']}").json()

    def inventory(self):
        """The tokens of the inventory with their devices, by serial number."""
        return {token["serialNumber"]: token for token in self.listed("oathTokens", expand="devices")}

    @staticmethod
    def codes(answer):
        """The status of an answer, its code, and of its details the codes with what they are about."""
        body = answer.json()
        details = [part for each in body.get("details", []) for part in (each["code"], each.get("target")) if part]
        return answer.status_code, body["code"], *details

    def entries(self):
        """The entries of the call log, without the request for the access token that the visitor began with."""
        return [entry for entry in self.simulation.call_log.entries() if entry.operation != "access_token"]


@pytest.fixture(scope="module")
def regular():
    """One simulator for all: for most tests it is enough to reset it."""
    simulation = WatchedSimulation(call_log=CallLog(salt="salt"))
    with running(simulation) as url, httpx.Client(base_url=url, timeout=10, verify=False) as http:
        yield Visitor(simulation, url, http)


@pytest.fixture
def visitor(regular):
    """A visitor to an empty world whose jobs are done at once, with an access token."""
    # A call that is open is counted when it ends, which may be after its client has the answer.
    wait_until(lambda: not regular.simulation.call_log.counts()["open"], "the calls before are over, and counted")
    regular.simulation.reset()
    regular.simulation.change({"job_takes": 0})
    form = {"grant_type": "client_credentials"}
    granted = regular.http.post(f"/{ENVIRONMENT_ID}/as/token", data=form, auth=(CLIENT_ID, CLIENT_SECRET))
    regular.http.headers["Authorization"] = f"Bearer {granted.json()['access_token']}"
    return regular


def make_call(method, path, media_type="", query="", **headers):
    sent = [(name.encode(), value.encode()) for name, value in {"content-type": media_type, **headers}.items()]
    return Call.from_scope({"method": method, "path": path, "query_string": query.encode(), "headers": sent})


# Access tokens, operations and limits.


def test_a_client_gets_an_access_token_for_its_secret_and_for_an_hour():
    now = [0.0]
    access = AccessTokens(lambda: now[0])
    access.clients["the client"] = "the: secret"
    grant = b"grant_type=client_credentials"
    for body, credentials, status in [
        (grant, b"the+client:the%3A+secret", 200),
        (grant + b"&client_id=the+client&client_secret=the: secret", None, 200),
        (grant, b"the+client:wrong", 401),
        (grant, None, 401),
        (b"", b"the+client:x", 400),
    ]:
        headers = {"authorization": f"Basic {base64.b64encode(credentials).decode()}"} if credentials else {}
        call = make_call("POST", "/e/as/token", **headers)
        call.body = body
        assert access.answer_request(call).status == status
    first, _ = access.expires_at
    for at, token, is_admitted in ((0.0, first, True), (0.0, "made-up", False), (3600.0, first, False)):
        now[0] = at
        assert access.admits(make_call("GET", "/", authorization=f"Bearer {token}")) is is_admitted
    assert first not in repr(access)


def test_without_an_access_token_nothing_is_told_or_done(visitor):
    visitor.seed_device()
    visitor.http.headers["Authorization"] = "Bearer made-up"
    for answer in (visitor.activate("755224"), visitor.read(), visitor.read("users"), visitor.read("oathTokens")):
        assert visitor.codes(answer) == (401, "ACCESS_FAILED", "INVALID_TOKEN")
    assert visitor.simulation.world.devices["device"].status == "ACTIVATION_REQUIRED"


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = TokenBucket(Settings(rate=4, burst=2), "mfa")
    assert [bucket.take(at) for at in (0.0, 0.0, 0.0, 0.25)] == [None, None, pytest.approx(0.25), None]
    # It holds no more than its burst, and a refused request takes nothing.
    assert [bucket.take(1000.0) is None for _ in range(4)] == [True, True, False, False]
    assert [TokenBucket(Settings(rate=rate), "mfa").take(0.0) for rate in (None, 0)] == [None, 1.0]


def test_each_group_has_a_limit_of_its_own_which_says_when_to_come_again(visitor):
    visitor.seed_device()
    visitor.simulation.change({"rate": 0.001, "group_rates": {"inventory": 0.001, "configuration": 0}, "burst": 1})
    paths = ("users/user/devices/device", "users", "oathTokens", "mfaSettings")
    statuses = [[visitor.read(path).status_code for _ in range(2)] for path in paths]
    assert statuses == [[200, 429], [200, 200], [200, 429], [429, 429]]
    limited = visitor.read()
    assert visitor.codes(limited) == (429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")
    assert 900 < int(limited.headers["Retry-After"]) <= 1000


# Devices.


def test_an_activation_answers_the_active_device(visitor):
    visitor.seed_device()
    answer = visitor.activate("755224")
    assert (answer.status_code, visitor.read().json()) == (200, answer.json())
    assert UUID.fullmatch(answer.headers["Correlation-Id"])
    assert answer.headers["Date"].endswith("GMT")
    told = {"id": "device", "type": "OATH_TOKEN", "status": "ACTIVE"}
    told |= {"lock": {"status": "UNLOCKED"}, "block": {"status": "UNBLOCKED"}}
    assert told.items() <= answer.json().items()


def test_a_token_out_of_step_is_activated_with_its_second_otp(visitor):
    visitor.seed_device(out_of_step=True)
    answer = visitor.activate("755224")
    assert (answer.status_code, answer.json() | {"id": ""}) == (
        400,
        {
            "id": "",
            "code": "INVALID_DATA",
            "message": "The request could not be completed. One or more validation errors were in the request.",
            "details": [{"code": "EXTRA_OTP_REQUIRED", "target": "otp", "message": "An extra OTP is required"}],
        },
    )
    assert visitor.read().json()["status"] == "ACTIVATION_REQUIRED"
    assert visitor.activate("287082", True).json()["status"] == "ACTIVE"


# What is answered to the OTP 755224, or to another body, by what the device is.
OTP = {"otp": "755224"}
OBSTACLES = {
    "wrong": ({}, {"otp": "999999"}, (400, "INVALID_DATA", "INVALID_OTP", "otp")),
    "no secret": ({"secret": None}, OTP, (400, "INVALID_DATA", "INVALID_OTP", "otp")),
    "locked": ({"locked": True}, OTP, (400, "REQUEST_FAILED", "DEVICE_LOCKED")),
    "blocked": ({"blocked": True}, OTP, (400, "REQUEST_FAILED", "DEVICE_BLOCKED")),
    "account": ({"account_usable": False}, OTP, (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")),
    "active": ({"status": "ACTIVE"}, OTP, (400, "REQUEST_FAILED", "INVALID_VALUE", "status")),
    "elsewhere": ({"device_id": "other"}, OTP, (404, "NOT_FOUND")),
    "another's": ({"user_id": "other"}, OTP, (404, "NOT_FOUND")),
    "no body": ({}, b"", (400, "INVALID_REQUEST")),
    "no object": ({}, [], (400, "INVALID_REQUEST")),
    "no OTP": ({}, {}, (400, "INVALID_DATA", "REQUIRED_VALUE", "otp")),
    "a number": ({}, {"otp": 755224}, (400, "INVALID_DATA", "INVALID_VALUE", "otp")),
    "too short": ({}, {"otp": "75522"}, (400, "INVALID_DATA", "INVALID_VALUE", "otp")),
    "half a character": ({}, {"otp": "\ud800"}, (400, "INVALID_DATA", "INVALID_VALUE", "otp")),
    "resync as text": ({}, OTP | {"oathResync": "yes"}, (400, "INVALID_DATA", "INVALID_VALUE", "oathResync")),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_an_obstacle_has_a_code_and_only_a_wrong_otp_counts_as_a_failure(visitor, obstacle):
    device, body, codes = OBSTACLES[obstacle]
    visitor.seed_device(**device)
    assert visitor.codes(visitor.post_otp(body)) == codes
    (seeded,) = visitor.simulation.world.devices.values()
    assert seeded.failures == ("INVALID_OTP" in codes)


def test_failures_lock_a_device_until_it_has_cooled_down(visitor):
    visitor.simulation.change({"failure_count": 2, "cool_down": 60})
    visitor.seed_device()
    refused = [visitor.codes(visitor.activate("999999"))[2] for _ in range(3)]
    assert refused == ["INVALID_OTP", "INVALID_OTP", "DEVICE_LOCKED"]
    lock = visitor.read().json()["lock"]
    assert (lock["status"], lock["expiresAt"][-1]) == ("LOCKED", "Z")
    visitor.simulation.change({"clock_skew": 60})
    assert visitor.activate("755224").status_code == 200


def test_failures_over_all_devices_lock_the_account(visitor):
    visitor.simulation.change({"account_lock_after": 2})
    visitor.seed_device()
    visitor.seed_device(serial="MADE2", device_id="second")
    tried = [("device", "999999"), ("second", "999999"), ("device", "755224")]
    refused = [visitor.codes(visitor.activate(otp, device_id=each))[2] for each, otp in tried]
    assert refused == ["INVALID_OTP", "INVALID_OTP", "ACCOUNT_NOT_USABLE"]


def test_an_unpaired_device_is_gone_and_its_token_free_and_accepts_no_otp_again(visitor):
    visitor.seed_device()
    visitor.activate("755224")
    # Without a device it is another operation, which removes an order and no device.
    for path in (visitor.path("").rstrip("/"), visitor.path("")):
        assert visitor.http.delete(path).status_code == 204
        assert (visitor.read().status_code, visitor.entries()[-2].operation) == (200, "remove_order")
    assert visitor.http.delete(visitor.path()).status_code == 204
    assert visitor.read().status_code == 404
    assert "devices" not in visitor.inventory()["MADE1"]
    device_id = visitor.pair("MADE1").json()["id"]
    assert [visitor.activate(otp, device_id=device_id).status_code for otp in ("755224", "287082")] == [400, 200]


def test_a_pairing_makes_a_device_that_waits_for_its_activation(visitor):
    visitor.seed(users=[{"user_id": "user"}], tokens=[{"serial": "FREE1"}, {"serial": "FREE2"}])
    answer = visitor.pair()
    device = answer.json()
    assert (answer.status_code, device["status"], device["user"]) == (201, "ACTIVATION_REQUIRED", {"id": "user"})
    assert visitor.http.get(answer.headers["Location"]).json() == device
    assert visitor.inventory()["FREE1"]["devices"] == [{"id": device["id"], "user": {"id": "user"}}]
    assert visitor.pair("FREE2", status="ACTIVE").json()["status"] == "ACTIVE"


# What is answered to a pairing: user, fields besides those of a good one, and the codes.
PAIRINGS = {
    "unknown token": ("user", {"serialNumber": "NONE1"}, (400, "INVALID_DATA", "INVALID_VALUE", "serialNumber")),
    "paired": ("user", {"serialNumber": "MADE1"}, (400, "INVALID_DATA", "UNIQUENESS_VIOLATION", "serialNumber")),
    "another's": ("idle", {"serialNumber": "MADE1"}, (400, "INVALID_DATA", "UNIQUENESS_VIOLATION", "serialNumber")),
    "nobody": ("eve", {}, (404, "NOT_FOUND")),
    "disabled": ("disabled", {}, (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")),
    "locked": ("locked", {}, (400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")),
    "no type": ("user", {"type": None}, (400, "INVALID_DATA", "REQUIRED_VALUE", "type")),
    "another type": ("user", {"type": "TOTP"}, (400, "INVALID_DATA", "INVALID_VALUE", "type")),
    "no serial number": ("user", {"serialNumber": None}, (400, "INVALID_DATA", "REQUIRED_VALUE", "serialNumber")),
    "a made-up status": ("user", {"status": "MADE_UP"}, (400, "INVALID_DATA", "INVALID_VALUE", "status")),
    "too many": ("rich", {}, (400, "REQUEST_FAILED", "LIMIT_EXCEEDED")),
}


@pytest.mark.parametrize("case", PAIRINGS)
def test_a_pairing_is_refused_with_a_code(visitor, case):
    user_id, fields, codes = PAIRINGS[case]
    users = [{"user_id": "idle"}, {"user_id": "disabled", "enabled": False}, {"user_id": "locked", "locked": True}]
    owners = {"MADE1": "user", "MADE2": "rich", "MADE3": "rich"}
    devices = [{"serial": serial, "user_id": owner, "device_id": serial} for serial, owner in owners.items()]
    visitor.simulation.change({"max_allowed_devices": 2})
    visitor.seed(users=users, tokens=[{"serial": "FREE1"}], devices=devices)
    refused = visitor.pair(user_id=user_id, **fields)
    assert visitor.codes(refused) == codes
    assert ("'maximumAllowed': 2" in str(refused.json())) is (case == "too many")


def test_a_device_that_waits_for_a_day_is_deleted_and_its_token_is_free(visitor):
    visitor.seed_device()
    visitor.seed_device(serial="MADE2", device_id="second", status="ACTIVE")
    for seconds, left in ((86_390, ["device", "second"]), (86_410, ["second"])):
        visitor.simulation.change({"clock_skew": seconds})
        assert [device["id"] for device in visitor.listed("users/user/devices")] == left
    assert visitor.pair("MADE1").status_code == 201


# The inventory.


def test_a_job_imports_its_tokens(visitor):
    hotp, totp = HOTP | {"hotp": {"counter": 7}, "rowNumber": 1}, TOTP | {"hashAlgorithm": "HmacSHA256"}
    posted = visitor.import_tokens(hotp, totp)
    job = visitor.http.get(posted.headers["Location"]).json()
    done = {"type": "CREATE_OATH_TOKENS", "status": "DONE", "result": {"created": 2, "duplicates": []}}
    assert (posted.status_code, done.items() <= job.items()) == (201, True)
    first, second = visitor.inventory().values()
    made = {"type": "HOTP", "otpLength": 6, "hashAlgorithm": "HmacSHA1", "hotp": {"counter": 7}}
    assert made.items() <= first.items()
    made = {"type": "TOTP", "otpLength": 8, "hashAlgorithm": "HmacSHA256", "totp": {"timeStep": 60, "drift": 0}}
    assert made.items() <= second.items()
    assert SECRET not in visitor.read("oathTokens").text
    # Another environment has jobs, tokens and users of its own.
    other = "0a7b0000-5e1f-4c0d-8000-0000000000ff"
    visitor.seed(environment_id=other, users=[{"user_id": "u0"}], tokens=[{"serial": "FREE1"}])
    assert (visitor.listed("users"), visitor.inventory().keys()) == ([], {"MADE1", "MADE2"})
    assert visitor.http.get(f"/v1/environments/{other}/oathJobs/{job['id']}").status_code == 404


def test_a_job_runs_for_a_while(visitor):
    visitor.simulation.change({"job_takes": 60})
    posted = visitor.import_tokens(HOTP)
    job = visitor.read_job(posted)
    assert (job["status"], "result" in job, visitor.inventory()) == ("IN_PROGRESS", False, {})
    visitor.simulation.change({"clock_skew": 60})
    assert (visitor.read_job(posted)["status"], list(visitor.inventory())) == ("DONE", ["MADE1"])


def test_a_token_that_is_there_is_left_alone_and_the_rest_is_created(visitor):
    visitor.seed(tokens=[{"serial": "MADE1", "secret": SECRET, "digits": 8, "counter": 3}])
    there = visitor.inventory()["MADE1"]
    job = visitor.read_job(visitor.import_tokens(HOTP, TOTP, TOTP))
    masked = [{"serialNumber": serial, "maskedSecret": "31******"} for serial in ("MADE1", "MADE2")]
    assert job["result"] == {"created": 1, "duplicates": masked}
    assert visitor.inventory()["MADE1"] == there


def test_an_environment_is_full_at_some_point_and_a_list_too_long(visitor, monkeypatch):
    monkeypatch.setattr(world, "MOST_TOKENS", 1)
    assert visitor.read_job(visitor.import_tokens(HOTP, TOTP))["status"] == "FAILED"
    assert [visitor.read_job(visitor.import_tokens(HOTP))["result"]["created"] for _ in range(2)] == [1, 0]
    monkeypatch.setattr(operations, "MOST_JOB_TOKENS", 1)
    assert visitor.import_tokens(HOTP, TOTP).status_code == 413


def test_an_imported_token_is_activated_with_its_own_otps(visitor):
    visitor.seed(users=[{"user_id": "user"}], out_of_step=["MADE3"])
    visitor.import_tokens(HOTP | {"hotp": {"counter": 1}}, HOTP | {"serialNumber": "MADE3"})
    first, second = (visitor.pair(serial).json()["id"] for serial in ("MADE1", "MADE3"))
    assert [visitor.activate(otp, device_id=first).status_code for otp in ("755224", "287082")] == [400, 200]
    assert visitor.codes(visitor.activate("755224", device_id=second))[2] == "EXTRA_OTP_REQUIRED"
    assert visitor.activate("287082", True, device_id=second).json()["status"] == "ACTIVE"
    assert visitor.inventory()["MADE1"]["hotp"] == {"counter": 2}


@pytest.mark.parametrize(
    ("force", "expected"), [(False, ("FAILED", None, 2, 200)), (True, ("DONE", {"revoked": 2}, 0, 404))]
)
def test_a_paired_token_is_revoked_by_force_alone(visitor, force, expected):
    visitor.seed_device()
    visitor.seed(tokens=[{"serial": "FREE1"}])
    ids = [*(token["id"] for token in visitor.inventory().values()), "another"]
    body = {"type": "REVOKE_OATH_TOKENS", "async": True, "tokenIds": ids, "forceUnpair": force}
    job = visitor.read_job(visitor.start_job("revoke", body))
    assert (job["status"], job.get("result"), len(visitor.inventory()), visitor.read().status_code) == expected


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
# Jobs, and what their refusal names.
MALFORMED = [
    *(
        ("create", {"type": "CREATE_OATH_TOKENS", "tokens": [TOTP, HOTP | fields]}, (code, f"tokens[1].{target}"))
        for fields, code, target in BAD_TOKENS
    ),
    ("create", {"tokens": [HOTP]}, ("REQUIRED_VALUE", "type")),
    ("create", {"type": "REVOKE_OATH_TOKENS", "tokens": [HOTP]}, ("INVALID_VALUE", "type")),
    ("create", {"type": "CREATE_OATH_TOKENS", "tokens": []}, ("INVALID_VALUE", "tokens")),
    ("create", {"type": "CREATE_OATH_TOKENS", "tokens": "MADE1"}, ("INVALID_VALUE", "tokens")),
    ("create", {"type": "CREATE_OATH_TOKENS", "tokens": [7]}, ("INVALID_VALUE", "tokens[0]")),
    ("revoke", {"type": "REVOKE_OATH_TOKENS", "tokenIds": ["a"]}, ("REQUIRED_VALUE", "async")),
    ("revoke", {"type": "REVOKE_OATH_TOKENS", "async": True, "tokenIds": [7]}, ("INVALID_VALUE", "tokenIds[0]")),
]


def test_a_malformed_job_is_refused_with_its_whole_list(visitor):
    refused = [visitor.codes(visitor.start_job(kind, body)) for kind, body, _ in MALFORMED]
    assert refused == [(400, "INVALID_DATA", *detail) for _, _, detail in MALFORMED]
    assert visitor.inventory() == {}


# Lists, policies and settings.


def read_terms(text):
    call = make_call("GET", "/v1/environments/e/users", query=f"filter={quote(text)}")
    return read_filter(call, ("username", "email"), Settings())


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ('username eq "ada"', [("username", "ada")]),
        (' ( username EQ "Ada" ) ', [("username", "Ada")]),
        ('username eq "bo\\"b\\\\"', [("username", 'bo"b\\')]),
        ('username eq "\\u0061da"', [("username", "ada")]),
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
        *("", "()", "username eq", "username eq ada", 'username sw "a"', 'username in ["a", "b"]', "%"),
        *('not (username eq "a")', 'lastName eq "a"', 'username eq "a" or', 'username eq "a" and email eq "b"'),
        *('username eq "a" username eq "b"', '(username eq "a"', 'username eq "a")', 'username eq "a'),
        *('username eq "a\\x"', "(" * 1000 + 'username eq "a"' + ")" * 1000),
    ],
)
def test_what_is_malformed_or_not_supported_is_refused(text):
    with pytest.raises(Refused):
        read_terms(text)


def people(count):
    return [{"user_id": f"u{number}", "username": f"name{number}"} for number in range(count)]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ('(username eq "name0") or (username eq "name2")', ["u0", "u2"]),
        *((wanted, ["u9"]) for wanted in ('email eq "a@x.org"', 'externalId eq "E-9"', 'id eq "u9"')),
        ('username eq "former"', []),
    ],
)
def test_users_are_found_by_their_names_also_after_a_change(visitor, wanted, ids):
    visitor.seed(users=[*people(3), {"user_id": "u9", "username": "former"}])
    visitor.seed(users=[{"user_id": "u9", "email": "a@x.org", "external_id": "E-9"}])
    assert [user["id"] for user in visitor.listed("users", filter=wanted)] == ids


def test_a_user_says_whether_they_can_sign_on(visitor):
    fields = {"well": {}, "locked": {"locked": True}, "disabled": {"enabled": False}}
    visitor.seed(users=[{"user_id": name} | each for name, each in fields.items()])
    users = visitor.listed("users")
    assert (users[0]["username"], users[0]["email"], "externalId" in users[0]) == ("well", "well@example.com", False)
    assert [(user["enabled"], *user["account"].values()) for user in users] == [
        (True, True, "OK"),
        (True, False, "LOCKED"),
        (False, False, "OK"),
    ]


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
        ("users/user/devices", {"filter": 'status eq "ACTIVE"'}, "INVALID_FILTER"),
        ("oathTokens", {"expand": "users"}, "INVALID_PARAMETER"),
    ],
)
def test_a_query_that_is_malformed_or_too_long_is_refused(visitor, path, parameters, detail):
    visitor.simulation.change({"most_filter_terms": 2})
    visitor.seed_device()
    (name,) = parameters
    assert visitor.codes(visitor.read(path, **parameters)) == (400, "INVALID_REQUEST", detail, name)


def test_policy_settings_capabilities_and_roles_say_what_the_settings_say(visitor):
    told = {"failure_count": 5, "cool_down": 45, "new_device_notification": "absent"}
    for changes, count, seconds, notified in (({}, 3, 120, "NONE"), (told, 5, 45, None)):
        visitor.simulation.change(changes)
        (policy,) = visitor.listed("deviceAuthenticationPolicies")
        failure = {"count": count, "coolDown": {"duration": seconds, "timeUnit": "SECONDS"}}
        assert policy["oathToken"] == {"enabled": True, "pairingDisabled": False, "otp": {"failure": failure}}
        assert (policy["default"], policy.get("newDeviceNotification")) == (True, notified)
    assert "lockout" not in visitor.read("mfaSettings").json()
    changes = {"account_lock_after": 6, "max_allowed_devices": 3, "rate": 50, "group_rates": {"configuration": 5}}
    visitor.simulation.change(changes)
    settings, capabilities = visitor.read("mfaSettings").json(), visitor.read("capabilities").json()
    assert (settings["pairing"], settings["lockout"]) == ({"maxAllowedDevices": 3}, {"failureCount": 6})
    assert capabilities["canUseOATHToken"] is True
    assert capabilities["licenseQuantities"] == {"rlgMfaRps": {"limit": 50}, "rlgConfigRpm": {"limit": 300}}
    # Roles are listed outside any environment.
    roles = {role["name"]: role["permissions"] for role in visitor.http.get("/v1/roles").json()["_embedded"]["roles"]}
    assert roles["Environment Admin"] == [{"id": "mfa:create:oathToken"}]


# The call log, and faults that tests turn.

# Of each fault: what the client sees, and whether the device is ACTIVE then.
FAULTS = {
    "reset_before": (httpx.ReadError, False),
    "reset_after": (httpx.ReadError, True),
    "reset_late": (httpx.ReadError, True),
    "error_before": (503, False),
    "error_after": (503, True),
    "hang_before": (httpx.ReadTimeout, False),
    "hang_after": (httpx.ReadTimeout, True),
    "drip": (200, True),
    "garbled": (200, True),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_hides_what_the_call_log_knows(visitor, monkeypatch, kind):
    seen, is_active = FAULTS[kind]
    visitor.seed_device()
    visitor.simulation.change({"error_statuses": [503], "error_html_share": 1, "error_retry_after": 9})
    visitor.simulation.change({"drip_interval": 0.0001, "late_effect_after": 0.2})
    # It hits the next call that fits, and no other.
    visitor.send("POST", "/simulator/faults", [{"kind": kind, "operation": "activate"}])
    with monkeypatch.context() as patch:
        patch.setattr(visitor.http, "timeout", 0.5 if seen is httpx.ReadTimeout else 10)
        if isinstance(seen, int):
            answer = visitor.activate("755224")
            assert (answer.status_code, answer.headers.get("Retry-After")) == (seen, "9" if seen == 503 else None)
            assert answer.text.startswith("<!doctype") is (kind != "drip")
        else:
            with pytest.raises(seen):
                visitor.activate("755224")
    wait_until(lambda: visitor.entries()[-1].ended_at, "the call has ended")
    entry = visitor.entries()[-1]
    assert (entry.fault, entry.took_effect, entry.outcome) == (kind, is_active, "ACTIVE" if is_active else None)
    assert entry.status == (seen if isinstance(seen, int) else None)
    assert entry.client_gone is (seen is httpx.ReadTimeout)
    assert (visitor.read().json()["status"] == "ACTIVE") is is_active
    assert kind != "reset_late" or entry.effect_at - entry.arrived_at >= 0.2


def test_the_call_log_tells_what_was_sent_done_answered_and_made(visitor):
    visitor.seed_device(out_of_step=True)
    visitor.http.headers["X-Ping-External-Transaction-Id"] = "record"
    visitor.activate("755224")
    visitor.activate("287082", True)
    del visitor.http.headers["X-Ping-External-Transaction-Id"]
    visitor.import_tokens(TOTP)
    visitor.pair("MADE2")
    wait_until(lambda: visitor.entries()[-1].ended_at, "the last call is over, and counted")
    one, two, job, pairing = visitor.entries()
    assert (one.method, one.path, one.user_id, one.device_id) == ("POST", visitor.path(), "user", "device")
    assert (one.operation, one.detail_code, one.transaction_id) == ("activate", "EXTRA_OTP_REQUIRED", "record")
    assert [(each.outcome, each.status, each.oath_resync, each.took_effect) for each in (one, two)] == [
        ("EXTRA_OTP_REQUIRED", 400, None, True),
        ("ACTIVE", 200, True, True),
    ]
    assert one.arrived_at <= one.effect_at <= one.ended_at <= two.arrived_at
    assert one.otp not in (None, "755224", two.otp)
    counts = visitor.simulation.call_log.counts()
    assert counts["operations"] == {"access_token": 1, "activate": 2, "import_tokens": 1, "pair": 1}
    assert (counts["otp_posts"], counts["began_at"]) == (2, one.arrived_at)
    told = {what: visitor.http.get(f"/simulator/{what}").json()[what] for what in ("devices", "tokens", "jobs")}
    assert {each["serial"]: each["made_by"] for each in told["tokens"]} == {"MADE1": None, "MADE2": job.number}
    assert [each["made_by"] for each in told["devices"]] == [None, pairing.number]
    assert (job.serial_numbers, job.job_id) == (["MADE2"], told["jobs"][0]["job_id"])
    assert pairing.serial_number == "MADE2"
