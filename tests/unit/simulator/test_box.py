"""The box to rehearse with: its files, its tenant, and whether each token ends as is expected of it."""

import csv
import stat
import time
import uuid

import pytest

from worker.intake import Hints, open_assignment, open_shipment
from worker.simulator.box import SPECIAL, a_few_of_each, make_box
from worker.simulator.oath import hotp, time_step_at
from worker.simulator.seeding import ENVIRONMENT_ID

ENVIRONMENT = f"/v1/environments/{ENVIRONMENT_ID}"
CREATE = "application/vnd.pingidentity.job.oathtokens.create+json"
TWO_OF_EACH = dict.fromkeys(SPECIAL, 2)
ATTRIBUTES = {"username": "username", "email": "email", "external_id": "externalId"}
HASHES = {"sha1": "HmacSHA1", "sha256": "HmacSHA256"}


class Clerk:
    """Takes the tokens of a box to ACTIVE, one by one, in the simplest way, and notes how each of them ended."""

    def __init__(self, visitor, box):
        self._visitor = visitor
        self._http = visitor.http
        self._by = box.by

    def import_all(self, tokens):
        body = {"type": "CREATE_OATH_TOKENS", "tokens": [self._describe(token) for token in tokens]}
        posted = self._http.post(f"{ENVIRONMENT}/oathJobs", json=body, headers={"Content-Type": CREATE})
        return self._http.get(f"{ENVIRONMENT}/oathJobs/{posted.json()['id']}").json()["result"]

    def finish(self, token):
        """How the token ends: status, reason, and whether it needed a second OTP."""
        users = self._find("users", f'{ATTRIBUTES[self._by]} eq "{getattr(token, self._by)}"')
        if len(users) != 1:
            return "dead_letter", "user_ambiguous" if users else "user_not_found", False
        (there,) = self._find("oathTokens", f'serialNumber eq "{token.serial}"')
        if (there["otpLength"], there["hashAlgorithm"]) != (token.digits, HASHES[token.hash]):
            return "dead_letter", "token_differs", False
        if devices := there.get("devices"):
            if devices[0]["user"]["id"] != users[0]["id"]:
                return "dead_letter", "token_taken", False
            return self._activate(token, users[0]["id"], devices[0]["id"])
        body = {"type": "OATH_TOKEN", "serialNumber": token.serial}
        paired = self._http.post(f"{ENVIRONMENT}/users/{users[0]['id']}/devices", json=body)
        if paired.status_code != 201:
            code = self._visitor.codes(paired)[-1]
            reasons = {"LIMIT_EXCEEDED": "too_many_devices", "ACCOUNT_NOT_USABLE": "account_not_usable"}
            return "dead_letter", reasons[code], False
        return self._activate(token, users[0]["id"], paired.json()["id"])

    def _activate(self, token, user_id, device_id):
        path = f"{ENVIRONMENT}/users/{user_id}/devices/{device_id}"
        if self._http.get(path).json()["status"] == "ACTIVE":
            return "active", None, False
        headers = {"Content-Type": "application/vnd.pingidentity.device.activate+json"}
        position = token.counter if token.type == "hotp" else time_step_at(time.time(), token.time_step)
        for number, resync in enumerate((False, True)):
            otp = hotp(bytes.fromhex(token.secret), position + number, token.digits, token.hash)
            answer = self._http.post(path, json={"otp": otp, "oathResync": resync}, headers=headers)
            if answer.status_code == 200:
                return "active", None, resync
            if self._visitor.codes(answer)[-1] != "EXTRA_OTP_REQUIRED":
                return "dead_letter", "invalid_otp", False
        return "dead_letter", "resync_failed", False

    def _find(self, collection, query):
        parameters = {"filter": query} | ({"expand": "devices"} if collection == "oathTokens" else {})
        return self._http.get(f"{ENVIRONMENT}/{collection}", params=parameters).json()["_embedded"][collection]

    @staticmethod
    def _describe(token):
        moving = {"hotp": {"counter": token.counter}} if token.type == "hotp" else {"totp": {"timeStep": 30}}
        return {
            "serialNumber": token.serial,
            "secret": token.secret,
            "type": token.type.upper(),
            "otpLength": token.digits,
            "hashAlgorithm": HASHES[token.hash],
        } | moving


@pytest.mark.parametrize(("by", "seed"), [("email", 1), ("external_id", 2), ("username", 3)])
def test_each_token_ends_as_is_expected_of_it(visitor, by, seed):
    special = {kind: 2 for kind in SPECIAL if (by, kind) != ("username", "user_ambiguous")}
    box = make_box(60, seed=seed, special=special, by=by)
    visitor.simulation.change({"job_takes": 0})
    visitor.simulation.seed(box.world)
    clerk = Clerk(visitor, box)
    result = clerk.import_all(box.tokens)
    there = {token.serial for token in (*box.world.tokens, *box.world.devices)}
    assert {each["serialNumber"] for each in result["duplicates"]} == {each for each in there if each in box.expected}
    ended = {token.serial: clerk.finish(token) for token in box.tokens}
    expected = {serial: (end.status, end.reason, end.resynced) for serial, end in box.expected.items()}
    assert ended == expected
    assert {kind: [token.kind for token in box.tokens].count(kind) for kind in special} == special


def test_our_intake_reads_the_files(tmp_path):
    box = make_box(40, special=TWO_OF_EACH)
    box.write(tmp_path / "box")
    key = bytes.fromhex((tmp_path / "box" / "box.key").read_text())
    people = open_assignment(tmp_path / "box" / "who.csv")
    rows = list(open_shipment(tmp_path / "box" / "box.pskc", hints=Hints(key=key), assignment=people).tokens())
    assert [(row.serial_number, row.email) for row in rows] == [(token.serial, token.email) for token in box.tokens]
    for row, token in zip(rows, box.tokens, strict=True):
        assert row.otps.secret.reveal().hex() == token.secret
        assert (row.otps.otp_type, row.otps.hash_algorithm) == (token.type, token.hash)
        assert row.otps.counter == token.counter
    assert {row.otps.otp_type for row in rows} == {"hotp", "totp"}


def test_the_key_is_for_its_owner_alone(tmp_path):
    (tmp_path / "box.key").write_text("readable before")
    make_box(1).write(tmp_path)
    assert stat.S_IMODE((tmp_path / "box.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("by", ["username", "email", "external_id"])
def test_the_list_has_a_person_and_a_site_for_each_token(tmp_path, by):
    box = make_box(5, by=by)
    box.write_list(tmp_path / "who.csv")
    lines = list(csv.DictReader((tmp_path / "who.csv").read_text().splitlines()))
    assert list(lines[0]) == ["serial", by, "site"]
    assert [line[by] for line in lines] == [getattr(token, by) for token in box.tokens]
    assert {line["site"] for line in lines} == {"Oslo", "Porto", "Riga"}


def test_the_same_number_makes_the_same_box(tmp_path):
    for name, seed in (("one", 7), ("same", 7), ("another", 8)):
        make_box(30, seed=seed, special=dict.fromkeys(SPECIAL, 1)).write(tmp_path / name)
    files = {name: (tmp_path / name / "box.pskc").read_bytes() for name in ("one", "same", "another")}
    assert files["one"] == files["same"] != files["another"]


def test_a_plain_box_has_an_empty_inventory_and_a_fifth_out_of_step():
    box = make_box(100)
    assert (box.world.tokens, box.world.devices, len(box.world.users)) == ((), (), 100)
    assert len(box.world.out_of_step) == 20
    assert sum(end.resynced for end in box.expected.values()) == 20


def test_ids_are_as_pingone_has_them():
    world = make_box(60, special=TWO_OF_EACH).world
    for text in [*(user.user_id for user in world.users), *(device.device_id for device in world.devices)]:
        assert str(uuid.UUID(text)) == text
    assert len({user.user_id for user in world.users}) == len(world.users) == 60 - 2 + 2


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="22 special tokens do not fit into a box of 21"):
        make_box(21, special=TWO_OF_EACH)
    with pytest.raises(ValueError, match="no two users have the same username"):
        make_box(60, special=TWO_OF_EACH, by="username")


def test_a_big_box_has_a_few_tokens_of_each_kind():
    assert a_few_of_each(109) == {}
    assert a_few_of_each(110) == dict.fromkeys(SPECIAL, 1)
    assert a_few_of_each(220, each=2) == TWO_OF_EACH
    assert "user_ambiguous" not in a_few_of_each(110, by="username")


def test_nothing_secret_is_in_its_description():
    box = make_box(2)
    assert box.tokens[0].secret not in repr(box)
    assert box.keys.pre_shared.hex() not in repr(box)
