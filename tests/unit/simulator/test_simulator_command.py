"""`oathbulk simulator`, as a process of its own."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest
import typer
from support.processes.waiting import wait_until
from typer.testing import CliRunner

from worker.cli.simulator import simulator
from worker.simulator.shipment import SPECIAL, make_box
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID

PROGRAM = "import typer; from worker.cli.simulator import simulator; typer.run(simulator)"


@contextmanager
def serving(tmp_path, *arguments):
    """The process, and its port."""
    ready = tmp_path / "ready"
    command = [sys.executable, "-c", PROGRAM, "--port", "0", "--ready-file", ready, *arguments]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            wait_until(lambda: ready.exists() or process.poll() is not None, 30, "it listens or has failed")
            yield process, json.loads(ready.read_text())["port"]
        finally:
            process.kill()


def refused(*arguments):
    """The exit code and complaint of a command line that serves nothing."""
    app = typer.Typer()
    app.command()(simulator)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stderr


def press(port, serial):
    return httpx.post(f"http://127.0.0.1:{port}/simulator/tokens/press", json={"serials": [serial, "another"]})


def test_it_serves_a_world_until_interrupted(tmp_path):
    device = {"serial": "MADE1", "user_id": "user", "device_id": "device", "secret": b"12345678901234567890".hex()}
    settings = {"page_size": 9, "cool_down": 7}
    (tmp_path / "world.json").write_text(json.dumps({"devices": [device], "settings": settings}))
    options = ["--world", tmp_path / "world.json", "--rate", "50", "--latency", "5", "--set", "failure_count=2"]
    with serving(tmp_path, *options) as (process, port):
        url = f"http://127.0.0.1:{port}"
        token_url = f"{url}/{ENVIRONMENT_ID}/as/token"
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        granted = httpx.post(token_url, data=form).json()
        bearer = {"headers": {"Authorization": f"Bearer {granted['access_token']}"}}
        environment = f"{url}/v1/environments/{ENVIRONMENT_ID}"
        policies = httpx.get(f"{environment}/deviceAuthenticationPolicies", **bearer)
        capabilities = httpx.get(f"{environment}/capabilities", **bearer)
        assert press(port, "MADE1").json()["otps"]["MADE1"] == ["755224", "287082"]
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    (policy,) = policies.json()["_embedded"]["deviceAuthenticationPolicies"]
    failure = {"count": 2, "coolDown": {"duration": 7, "timeUnit": "SECONDS"}}
    assert policy["oathToken"]["otp"]["failure"] == failure
    assert capabilities.json()["licenseQuantities"]["rlgMfaRps"] == {"limit": 50}
    told = {"ENVIRONMENT_ID": ENVIRONMENT_ID, "API_URL": f"{url}/v1", "TOKEN_URL": token_url}
    assert [name for name, value in told.items() if f"export PINGONE_{name}={value}\n" not in printed] == []
    assert "OATHBULK_HOME" not in printed


@pytest.mark.parametrize(
    ("options", "status"),
    [([], 400), (["--no-control"], 401), (["--host", "0.0.0.0"], 401), (["--host", "0.0.0.0", "--control"], 400)],
)
def test_tokens_are_pressed_on_loopback_alone_unless_it_is_told_otherwise(tmp_path, options, status):
    with serving(tmp_path, *options) as (_, port):
        assert httpx.post(f"http://127.0.0.1:{port}/simulator/tokens/press", content="{}").status_code == status


def test_pairs_come_with_the_command_to_run_them_and_their_troubles(tmp_path):
    pairs = tmp_path / "two pairs.csv"
    with serving(tmp_path, "--tokens", "6", "--pairs", pairs, "--troubles", "1") as (process, _):
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert [line for line in printed.splitlines() if line.startswith("oathbulk")] == [f"oathbulk run '{pairs}'"]
    assert sum(row["otp2"] == "" for row in csv.DictReader(pairs.read_text().splitlines())) == 1


def test_a_box_comes_with_its_files_and_the_command_to_run_it(tmp_path):
    box = tmp_path / "a box"
    with serving(tmp_path, "--tokens", "12", "--box", box, "--troubles", "1", "--seed", "3") as (process, port):
        made = make_box(12, seed=3, special=dict.fromkeys(SPECIAL, 1))
        pressed = [bool(press(port, token.serial).json()["otps"]) for token in made.world.tokens]
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert pressed == [token.type == "hotp" for token in made.world.tokens]
    assert sorted(path.name for path in box.iterdir()) == ["box.key", "box.pskc", "expected.json", "who.csv"]
    command = f"oathbulk run '{box}/box.pskc' --key-file '{box}/box.key' --assign '{box}/who.csv' --import --pair"
    assert printed.splitlines()[-1] == command
    assert json.loads((box / "expected.json").read_text()).keys() == made.expected.keys()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tokens", "5"], "--tokens and --pairs go together"),
        (["--box", "here"], "--tokens and --box"),
        (["--tokens", "5", "--pairs", "pairs.csv", "--box", "here"], "--tokens and --box"),
        (["--troubles", "1"], "--troubles goes with --tokens"),
        (["--tokens", "5", "--pairs", "pairs.csv", "--troubles", "2"], "6 tokens with troubles do not fit into 5"),
        (["--tokens", "5", "--box", "here", "--troubles", "1"], "11 tokens with troubles do not fit into 5"),
        (["--tokens", "5", "--box", "/dev/null/here"], "/dev/null/here cannot be written: Not a directory"),
        (["--tokens", "5", "--pairs", "/no/such/pairs.csv"], "/no/such/pairs.csv cannot be written"),
        (["--set", "failure_cuont=5"], "--set failure_cuont: no setting of the simulator; did you mean failure_count?"),
        (["--set", "failure_count"], "must be NAME=VALUE"),
        (["--rate", "-1"], "settings: rate: Input should be greater than or equal to 0"),
        (["--world", "/no/such/world"], "/no/such/world cannot be read: No such file or directory"),
    ],
)
def test_wrong_usage_is_named(arguments, complaint):
    code, printed = refused("--port", "0", *arguments)
    assert code == 2
    assert complaint in printed


def test_a_wrong_world_is_named_without_what_it_holds(tmp_path):
    device = {"serial": "MADE1", "user_id": "user", "device_id": "device", "secret": "no c0ffee"}
    (tmp_path / "world.json").write_text(json.dumps({"devices": [device]}))
    code, printed = refused("--port", "0", "--world", tmp_path / "world.json")
    assert (code, "devices.0.secret: String should match pattern" in printed, "c0ffee" in printed) == (2, True, False)


@pytest.mark.parametrize("option", ["--pairs", "--box"])
@pytest.mark.parametrize(
    ("host", "reason", "cure"),
    [("127.0.0.1", ": Address already in use", "--port"), ("192.0.2.1", "", "--host")],
    ids=["taken", "no address of this machine"],
)
def test_where_it_cannot_listen_that_is_named_with_the_cure_and_no_file_is_written(
    tmp_path, option, host, reason, cure
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, printed = refused("--port", port, "--host", host, "--tokens", "12", option, tmp_path / "written")
    assert (code, f"cannot serve at {host} port {port}{reason}" in printed) == (3, True)
    assert printed.endswith(f"; give another {cure}\n")
    assert list(tmp_path.iterdir()) == []


def test_without_its_extra_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, printed = refused("--port", "0")
    assert code == 3
    assert "install oathbulk again, as docs/deployment.md says, with the extra `rehearsal`" in printed
