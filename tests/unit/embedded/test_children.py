"""Child processes end with their parent, however it ends."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest
from support.processes.waiting import is_running, wait_until

from worker.embedded.children import Children
from worker.embedded.home import EmbeddedError

# A module that writes down its pid, arguments, process group and variables, and then does what its arguments say.
TOLD = """
import json, os, signal, sys, time

if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "polite" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("goodbye", flush=True)))
print(json.dumps([__name__, os.getpid(), os.getpgid(0), sys.argv[1:], dict(os.environ)]), flush=True)
if "brief" not in sys.argv:
    time.sleep(600)
"""

PARENT = """
import os, sys, time
from pathlib import Path
from worker.embedded.children import Children

children = Children(orphan_grace=0.2)
for name in sys.argv[2:]:
    log = Path(sys.argv[1]) / f"{name}.log"
    children.start(name, [sys.executable, "-m", "told", name], dict(os.environ), log)
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def env(tmp_path):
    (tmp_path / "told.py").write_text(TOLD)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}


@pytest.fixture
def children():
    children = Children()
    yield children
    children.stop(grace=0)


def start(children, env, tmp_path, *arguments, name="told"):
    children.start(name, [sys.executable, "-m", "told", *arguments], env, tmp_path / f"{name}.log")


def told(tmp_path, name="told"):
    """What the child wrote down when it began: its __name__, pid, process group, arguments, variables."""
    log = tmp_path / f"{name}.log"
    return json.loads(
        wait_until(lambda: log.exists() and "\n" in log.read_text() and log.read_text(), 15, f"{name} speaks")
    )


def test_a_child_runs_as_main_with_its_arguments_and_variables_alone(children, env, tmp_path):
    start(children, env | {"GIVEN": "yes"}, tmp_path, "polite", "--flag")
    name, _, _, arguments, variables = told(tmp_path)
    assert (name, arguments) == ("__main__", ["polite", "--flag"])
    assert set(variables) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == {"PYTHONPATH", "GIVEN"}


def test_a_child_has_a_process_group_of_its_own(children, env, tmp_path):
    start(children, env, tmp_path)
    _, pid, group, *_ = told(tmp_path)
    assert group == pid


def test_the_log_is_for_the_owner_alone_even_if_it_was_open_before(children, env, tmp_path):
    (tmp_path / "told.log").touch(mode=0o644)
    start(children, env, tmp_path)
    told(tmp_path)
    assert stat.S_IMODE((tmp_path / "told.log").stat().st_mode) == 0o600


def test_stopping_lets_a_child_end_in_good_order(children, env, tmp_path):
    start(children, env, tmp_path, "polite")
    _, pid, *_ = told(tmp_path)
    children.stop(grace=15)
    assert not is_running(pid)
    assert (tmp_path / "told.log").read_text().endswith("goodbye\n")
    assert children.find_ended() == []


def test_stopping_kills_a_child_that_does_not_end(children, env, tmp_path):
    start(children, env, tmp_path, "stubborn")
    _, pid, *_ = told(tmp_path)
    children.stop(grace=0.1)
    assert not is_running(pid)


def test_a_child_that_ended_by_itself_is_named(children, env, tmp_path):
    start(children, env, tmp_path, name="lasting")
    start(children, env, tmp_path, "brief", name="brief")
    assert wait_until(children.find_ended, 15, "the brief child ends") == ["brief"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_their_parent(env, tmp_path, end):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path, "polite", "stubborn"], stdout=subprocess.PIPE, env=env
    )
    with parent:
        parent.stdout.readline()
        pids = [told(tmp_path, name)[1] for name in ("polite", "stubborn")]
        parent.send_signal(end)
    for pid in pids:
        wait_until(lambda pid=pid: not is_running(pid), 15, "a child ends with its parent")
    assert (tmp_path / "polite.log").read_text().endswith("goodbye\n")


def test_the_end_of_one_child_does_not_end_another(children, env, tmp_path):
    start(children, env, tmp_path, name="first")
    start(children, env, tmp_path, name="second")
    _, first, *_ = told(tmp_path, "first")
    _, second, *_ = told(tmp_path, "second")
    os.kill(first, signal.SIGKILL)
    wait_until(children.find_ended, 15, "the first child ends")
    assert is_running(second)


def test_a_program_that_is_missing_is_named(children, env, tmp_path):
    with pytest.raises(EmbeddedError, match=r"told cannot be started .*no-such-python"):
        children.start("told", [str(tmp_path / "no-such-python"), "-m", "told"], env, tmp_path / "told.log")
    assert children.find_ended() == []
