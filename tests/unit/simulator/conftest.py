"""A running simulator, watched, and a client that calls it."""

import json

import httpx
import pytest
from support.simulator.call_log import CallLog
from support.simulator.server import running
from support.simulator.simulation import WatchedSimulation

from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID, WorldSeed

ENVIRONMENT = f"/v1/environments/{ENVIRONMENT_ID}"
MEDIA = "application/vnd.pingidentity"
# Of RFC 4226, appendix D; its first OTPs are 755224, 287082 and 359152.
SECRET = b"12345678901234567890".hex()


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

    def path(self, device_id="device", user_id="user"):
        return f"{ENVIRONMENT}/users/{user_id}/devices/{device_id}"

    def send(self, method, path, body=None, media_type="application/json"):
        """Send a request with this body, which is JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body)
        return self.http.request(method, path, content=content, headers={"Content-Type": media_type})

    def activate(self, otp, resync=None, device_id="device"):
        body = {"otp": otp} | ({} if resync is None else {"oathResync": resync})
        return self.send("POST", self.path(device_id), body, f"{MEDIA}.device.activate+json")

    def read(self, path=None, **parameters):
        """Read the device, or what is in the environment at this path."""
        return self.http.get(self.path() if path is None else f"{ENVIRONMENT}/{path}", params=parameters)

    def listed(self, path, **parameters):
        answer = self.read(path, **parameters)
        assert answer.status_code == 200, answer.text
        (things,) = answer.json()["_embedded"].values()
        return things

    def pair(self, serial="FREE1", user_id="user", **fields):
        return self.send("POST", self.path("", user_id), {"type": "OATH_TOKEN", "serialNumber": serial} | fields)

    def import_tokens(self, *tokens):
        body = {"type": "CREATE_OATH_TOKENS", "tokens": list(tokens)}
        return self.send("POST", f"{ENVIRONMENT}/oathJobs", body, f"{MEDIA}.job.oathtokens.create+json")

    def revoke_tokens(self, *token_ids, **fields):
        body = {"type": "REVOKE_OATH_TOKENS", "async": True, "tokenIds": list(token_ids)} | fields
        return self.send("POST", f"{ENVIRONMENT}/oathJobs", body, f"{MEDIA}.job.oathtokens.revoke+json")

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


@pytest.fixture(scope="session")
def regular():
    """One simulator a test process: for most tests it is enough to reset it."""
    simulation = WatchedSimulation(call_log=CallLog(salt="salt"))
    with running(simulation) as url, httpx.Client(base_url=url, timeout=10, verify=False) as http:
        yield Visitor(simulation, url, http)


@pytest.fixture
def visitor(regular):
    """A visitor to an empty world whose jobs are done at once, with an access token."""
    regular.simulation.reset()
    regular.simulation.change({"job_takes": 0})
    form = {"grant_type": "client_credentials"}
    granted = regular.http.post(f"/{ENVIRONMENT_ID}/as/token", data=form, auth=(CLIENT_ID, CLIENT_SECRET))
    regular.http.headers["Authorization"] = f"Bearer {granted.json()['access_token']}"
    return regular
