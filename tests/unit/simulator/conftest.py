"""A running simulator, and a client that calls it."""

import json

import httpx
import pytest

from worker.simulator.call_log import CallLog
from worker.simulator.seeding import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID, WorldSeed
from worker.simulator.server import running
from worker.simulator.simulation import Simulation

ACTIVATE = "application/vnd.pingidentity.device.activate+json"


class Visitor:
    """Calls a simulator over HTTP, and looks at its state through `simulation`."""

    def __init__(self, simulation, url, http):
        self.simulation = simulation
        self.url = url
        self.http = http

    def access_token(self):
        form = {"grant_type": "client_credentials"}
        answer = self.http.post(f"/{ENVIRONMENT_ID}/as/token", data=form, auth=(CLIENT_ID, CLIENT_SECRET))
        return answer.json()["access_token"]

    def seed(self, **device):
        device = {"serial": "MADE1", "user_id": "user", "device_id": "device", "otps": ["111111", "222222"]} | device
        self.simulation.seed(WorldSeed.model_validate({"devices": [device]}))

    def path(self, device_id="device", user_id="user"):
        return f"/v1/environments/{ENVIRONMENT_ID}/users/{user_id}/devices/{device_id}"

    def activate(self, otp, resync=None, *, device_id="device", media_type=ACTIVATE, headers=None):
        body = {"otp": otp} | ({} if resync is None else {"oathResync": resync})
        headers = {"Content-Type": media_type} | (headers or {})
        return self.http.post(self.path(device_id), content=json.dumps(body), headers=headers)

    def administer(self, operation):
        media_type = f"application/vnd.pingidentity.device.{operation}+json"
        return self.http.post(self.path(), headers={"Content-Type": media_type})

    def read(self, device_id="device"):
        return self.http.get(self.path(device_id))

    @staticmethod
    def codes(answer):
        """The status of an answer, its code, and the codes of its details."""
        body = answer.json()
        return answer.status_code, body["code"], *(detail["code"] for detail in body.get("details", []))

    def entries(self):
        """The entries of the call log, without the request for the access token that the visitor began with."""
        return [entry for entry in self.simulation.call_log.entries() if entry.operation != "access_token"]


@pytest.fixture(scope="session")
def regular():
    """One simulator a test process: for most tests it is enough to reset it."""
    simulation = Simulation(call_log=CallLog(salt="salt"))
    with running(simulation) as url, httpx.Client(base_url=url, timeout=10, verify=False) as http:
        yield Visitor(simulation, url, http)


@pytest.fixture
def visitor(regular):
    """A visitor to an empty world, with an access token."""
    regular.simulation.reset()
    regular.http.headers["Authorization"] = f"Bearer {regular.access_token()}"
    return regular
