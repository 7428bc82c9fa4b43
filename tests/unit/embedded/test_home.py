"""The home is private, one process at a time works in it, and its key is made once."""

import base64
import os
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack

import pytest
from support.processes.waiting import wait_until

from worker.config.settings import ConfigError
from worker.embedded.home import EmbeddedError, HomeInUse, find_run_alone, home_key, lock_home, make_home, note_run

HOLDER = """
import sys, time
from pathlib import Path
from worker.embedded.home import lock_home, note_run

with lock_home(Path(sys.argv[1])):
    for batch in sys.argv[2:]:
        note_run(Path(sys.argv[1]), batch)
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(request, tmp_path):
    """Another process that holds the lock of the home; the parameter is the batch on which it works."""
    batch = [request.param] if hasattr(request, "param") else []
    argv = [sys.executable, "-c", HOLDER, tmp_path / "home", *batch]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def lock(home):
    with lock_home(home):
        pass


def test_the_home_is_made_for_its_owner_alone(tmp_path):
    home = tmp_path / "new" / "home"
    with lock_home(home):
        assert mode(home) == 0o700
        assert mode(home / "lock") == 0o600
        assert (home / "lock").read_text() == f"{os.getpid()}\n"


def test_a_second_holder_is_told_the_pid_of_the_first(holder, tmp_path):
    with pytest.raises(HomeInUse, match=f"in use by process {holder.pid}: wait for its end$") as refusal:
        lock(tmp_path / "home")
    assert refusal.value.pid == holder.pid


@pytest.mark.parametrize("holder", ["pallet 7"], indirect=True)
def test_a_second_run_is_told_on_which_batch_the_first_works(holder, tmp_path):
    with pytest.raises(HomeInUse) as refusal:
        lock(tmp_path / "home")
    told = f"in use by process {holder.pid}, `oathbulk run 'pallet 7'`, which works on pallet 7 alone"
    assert told in str(refusal.value)
    # Another home is another database: there, the same tokens would be sent again.
    assert "OATHBULK_HOME" not in str(refusal.value)
    assert find_run_alone(tmp_path / "home") == "pallet 7"
    holder.kill()
    holder.wait()
    assert find_run_alone(tmp_path / "home") is None


def test_a_run_of_all_batches_says_so(tmp_path):
    with lock_home(tmp_path):
        note_run(tmp_path, None)
        assert find_run_alone(tmp_path) is None
        with pytest.raises(HomeInUse, match="works on every batch that runs"):
            lock(tmp_path)


def test_what_a_run_worked_on_is_forgotten_with_its_lock(tmp_path):
    with lock_home(tmp_path):
        note_run(tmp_path, "july")
        assert find_run_alone(tmp_path) == "july"
    assert find_run_alone(tmp_path) is None


def test_the_lock_ends_with_a_killed_holder(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock(tmp_path / "home")


def test_the_lock_is_free_again_after_its_holder_has_left(tmp_path):
    lock(tmp_path)
    lock(tmp_path)


def test_a_long_pid_of_a_former_holder_leaves_nothing_behind(tmp_path):
    make_home(tmp_path)
    (tmp_path / "lock").write_text("99999999999\n")
    with lock_home(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_child_of_the_holder_does_not_keep_the_home(tmp_path):
    with ExitStack() as children:
        with lock_home(tmp_path):
            child = children.enter_context(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        lock(tmp_path)
        assert child.poll() is None


def test_two_homes_stand_side_by_side(tmp_path):
    with lock_home(tmp_path / "one"), lock_home(tmp_path / "two"):
        assert (tmp_path / "one" / "lock").exists()


@pytest.mark.parametrize("sign", [None, "oathbulk.toml", "oathbulk.db"])
def test_an_open_directory_is_closed_if_it_is_empty_or_a_home(tmp_path, sign):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    if sign:
        (home / sign).touch()
    make_home(home)
    assert mode(home) == 0o700


def test_an_open_directory_of_other_things_is_refused_and_left_alone(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    (shared / "letters").touch()
    with pytest.raises(EmbeddedError, match=r"open to other users.*chmod 700"):
        make_home(shared)
    assert mode(shared) == 0o755


def test_a_home_that_cannot_be_made_names_the_cure(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="OATHBULK_HOME"):
        make_home(tmp_path / "file" / "home")


def test_a_lock_that_cannot_be_opened_names_the_cure(tmp_path):
    make_home(tmp_path)
    (tmp_path / "lock").mkdir()
    with pytest.raises(EmbeddedError, match=r"cannot be locked.*OATHBULK_HOME"):
        lock(tmp_path)


def test_a_holder_that_is_stopped_still_holds(holder, tmp_path):
    holder.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(HomeInUse):
            lock(tmp_path / "home")
    finally:
        holder.send_signal(signal.SIGCONT)
    wait_until(lambda: holder.poll() is None, 5, "the holder goes on")


RACER = """
import sys
from pathlib import Path
from worker.embedded.home import home_key

sys.stdin.read()
print(home_key(Path(sys.argv[1])))
"""


def test_the_key_is_32_random_bytes_and_stays_the_same(tmp_path):
    key = home_key(tmp_path / "one")
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert home_key(tmp_path / "one") == key
    assert home_key(tmp_path / "two") != key


def test_only_the_owner_reads_the_key_and_no_draft_is_left(tmp_path):
    home_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "encryption.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["encryption.key"]


def test_processes_that_race_get_one_key(tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, tmp_path / "home"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        racer.stdin.close()
    keys = set()
    for racer in racers:
        with racer:
            keys.add(racer.stdout.read())
    assert keys == {home_key(tmp_path / "home") + "\n"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    home_key(tmp_path)
    (tmp_path / "encryption.key").chmod(mode)
    with pytest.raises(ConfigError, match=r"chmod 600 .*encryption\.key"):
        home_key(tmp_path)


@pytest.mark.parametrize("content", ["", "short\n", "ü" * 44, "=" * 43 + "=", "a" * 45])
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path, content):
    path = tmp_path / "encryption.key"
    home_key(tmp_path)
    path.write_text(content)
    with pytest.raises(ConfigError, match="backup") as refusal:
        home_key(tmp_path)
    assert path.read_text() == content
    assert not content.strip() or content.strip() not in str(refusal.value)


def test_a_key_that_cannot_be_read_names_the_cure(tmp_path):
    home_key(tmp_path)
    (tmp_path / "encryption.key").unlink()
    (tmp_path / "encryption.key").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="OATHBULK_ENCRYPTION_KEYS"):
        home_key(tmp_path)
