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
from worker.simulator.box import SPECIAL, make_box
from worker.simulator.call_log import CallLog
from worker.simulator.seeding import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID

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


def test_it_serves_a_world_until_interrupted(tmp_path):
    device = {"serial": "MADE1", "user_id": "user", "device_id": "device", "otps": ["111111", "222222"]}
    (tmp_path / "world.json").write_text(json.dumps({"devices": [device], "settings": {"rate": 9, "cool_down": 7}}))
    options = ["--world", tmp_path / "world.json", "--rate", "50", "--latency", "5", "--set", "failure_count=2"]
    journal = ["--journal", tmp_path / "journal", "--journal-salt", "salt"]
    with serving(tmp_path, *options, *journal) as (process, port), httpx.Client(verify=False) as http:
        url = f"http://127.0.0.1:{port}"
        settings = http.get(f"{url}/simulator/settings").json()
        assert (settings["rate"], settings["latency"]) == (50, 0.005)
        assert (settings["cool_down"], settings["failure_count"]) == (7, 2)
        token_url = f"{url}/{ENVIRONMENT_ID}/as/token"
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        access_token = http.post(token_url, data=form).json()["access_token"]
        answer = http.post(
            f"{url}/v1/environments/{ENVIRONMENT_ID}/users/user/devices/device",
            content='{"otp": "111111"}',
            headers={
                "Authorization": f"Bearer {access_token}",
                "Content-Type": "application/vnd.pingidentity.device.activate+json",
            },
        )
        assert answer.json()["status"] == "ACTIVE"
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    assert f"export PINGONE_ENVIRONMENT_ID={ENVIRONMENT_ID}\n" in printed
    assert f"export PINGONE_API_URL={url}/v1\n" in printed
    assert f"export PINGONE_TOKEN_URL={token_url}\n" in printed
    assert "OATHBULK_HOME" not in printed
    entries = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert [entry["operation"] for entry in entries] == ["access_token", "activate"]
    assert entries[1]["otp"] == CallLog(salt="salt").fingerprint("111111")
    assert "111111" not in (tmp_path / "journal").read_text()


def test_a_limit_is_given_with_its_window_and_its_changes(tmp_path):
    options = ["--rate", "200", "--rate-window", "1", "--rate-at", "30=50", "--rate-at", "60=500"]
    with serving(tmp_path, *options) as (_, port):
        settings = httpx.get(f"http://127.0.0.1:{port}/simulator/settings").json()
    assert (settings["rate"], settings["limit_window"]) == (200, 1)
    assert {float(at): rate for at, rate in settings["rate_changes"].items()} == {30: 50, 60: 500}


def test_beyond_loopback_there_is_no_control_api(tmp_path):
    with serving(tmp_path, "--host", "0.0.0.0") as (_, port):
        assert httpx.get(f"http://127.0.0.1:{port}/simulator/settings").status_code == 401


def test_on_loopback_it_can_be_left_out(tmp_path):
    with serving(tmp_path, "--no-control") as (_, port):
        assert httpx.get(f"http://127.0.0.1:{port}/simulator/settings").status_code == 401


def test_made_up_tokens_come_with_their_otp_pairs_and_control_for_those_who_ask(tmp_path):
    options = ["--host", "0.0.0.0", "--control", "--tokens", "10", "--pairs", tmp_path / "pairs.csv"]
    with serving(tmp_path, *options) as (_, port):
        devices = httpx.get(f"http://127.0.0.1:{port}/simulator/devices").json()["devices"]
    lines = (tmp_path / "pairs.csv").read_text().splitlines()
    assert lines[0] == "serial,otp1,otp2,user_id,device_id"
    assert [line.split(",")[0] for line in lines[1:]] == [device["serial"] for device in devices]
    assert len(devices) == 10


def test_pairs_come_with_the_command_to_run_them_and_their_troubles(tmp_path):
    pairs = tmp_path / "two pairs.csv"
    with serving(tmp_path, "--tokens", "6", "--pairs", pairs, "--troubles", "1") as (process, _):
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert [line for line in printed.splitlines() if line.startswith("oathbulk")] == [f"oathbulk run '{pairs}'"]
    assert sum(row["otp2"] == "" for row in csv.DictReader(pairs.read_text().splitlines())) == 1


def test_a_box_comes_with_its_files_its_tenant_and_the_command_to_run_it(tmp_path):
    box = tmp_path / "a box"
    with serving(tmp_path, "--tokens", "12", "--box", box, "--troubles", "1", "--seed", "3") as (process, port):
        url = f"http://127.0.0.1:{port}/simulator"
        tokens = httpx.get(f"{url}/tokens").json()["tokens"]
        counts = httpx.get(f"{url}/counts").json()
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert sorted(path.name for path in box.iterdir()) == ["box.key", "box.pskc", "expected.json", "who.csv"]
    assert (len(tokens), counts["devices"]) == (11, {"ACTIVATION_REQUIRED": 2, "ACTIVE": 6})
    command = f"oathbulk run '{box}/box.pskc' --key-file '{box}/box.key' --assign '{box}/who.csv' --import --pair"
    assert printed.splitlines()[-1] == command
    made = make_box(12, seed=3, special=dict.fromkeys(SPECIAL, 1))
    assert json.loads((box / "expected.json").read_text()).keys() == made.expected.keys()
    assert {token["serial"] for token in tokens} >= {each.serial for each in made.world.tokens}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tokens", "5"], "--tokens and --pairs go together"),
        (["--box", "here"], "--tokens and --box"),
        (["--tokens", "5", "--pairs", "pairs.csv", "--box", "here"], "--tokens and --box"),
        (["--troubles", "1"], "--troubles goes with --tokens"),
        (["--tokens", "5", "--pairs", "pairs.csv", "--troubles", "2"], "6 hopeless rows do not fit into 5"),
        (["--tokens", "5", "--box", "here", "--troubles", "1"], "11 special tokens do not fit into a box of 5"),
        (["--tokens", "5", "--box", "/dev/null/here"], "/dev/null/here cannot be written: Not a directory"),
        (["--tokens", "5", "--pairs", "/no/such/pairs.csv"], "/no/such/pairs.csv cannot be written"),
        (["--set", "look_aheat=5"], "--set look_aheat: no setting of the simulator; did you mean look_ahead?"),
        (["--set", "look_ahead"], "must be NAME=VALUE"),
        (["--rate-at", "30"], "--rate-at 30: must be SECONDS=RATE"),
        (["--rate-at", "30=fast"], "settings: rate_changes.30: Input should be a valid number"),
        (["--rate", "-1"], "settings: rate: Input should be greater than or equal to 0"),
        (["--world", "/no/such/world"], "/no/such/world cannot be read: No such file or directory"),
    ],
)
def test_wrong_usage_is_named(arguments, complaint):
    code, printed = refused("--port", "0", *arguments)
    assert code == 2
    assert complaint in printed


def test_a_wrong_world_is_named_without_what_it_holds(tmp_path):
    device = {"serial": "MADE1", "user_id": "user", "device_id": "device", "otps": ["111111"], "secret": "c0ffee"}
    (tmp_path / "world.json").write_text(json.dumps({"devices": [device]}))
    code, printed = refused("--port", "0", "--world", tmp_path / "world.json")
    assert code == 2
    assert "devices.0: Value error, a token has a secret or otps, not both" in printed
    assert "c0ffee" not in printed


@pytest.mark.parametrize("option", ["--pairs", "--box", "--journal"])
def test_a_port_in_use_is_named_with_the_cure_and_no_file_is_written(option, tmp_path):
    tokens = [] if option == "--journal" else ["--tokens", "12"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, printed = refused("--port", port, *tokens, option, tmp_path / "written")
    assert code == 3
    assert f"cannot serve at 127.0.0.1 port {port}: Address already in use; give another --port" in printed
    assert list(tmp_path.iterdir()) == []


def test_an_address_of_another_machine_is_named_with_its_option():
    code, printed = refused("--port", "0", "--host", "192.0.2.1")
    assert (code, "cannot serve at 192.0.2.1 port 0" in printed) == (3, True)
    assert printed.endswith("; give another --host\n")


def test_without_its_extra_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, printed = refused("--port", "0")
    assert code == 3
    assert "install oathbulk again, as docs/installing.md says, with the extra `rehearsal`" in printed
