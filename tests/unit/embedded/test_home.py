"""The home is private, one process at a time works in it, and its key is made once; child processes end with their
parent, however it ends, and when a part of the stack is started again; what commands beside no worker log; and what an
installation without an extra says to who types a command that needs it."""

import base64
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from support.processes.waiting import is_running, wait_until
from typer.testing import CliRunner

from worker.cli.desk import desk
from worker.cli.rehearse import rehearse
from worker.config.settings import ConfigError
from worker.embedded import INSTALL_LOCAL, can_serve
from worker.embedded.children import Children
from worker.embedded.home import EmbeddedError, HomeInUse, find_run_alone, home_key, lock_home, make_home, note_run
from worker.fleet import FAILS_ALONE
from worker.installation.installation import Installation
from worker.installation.stack import PAUSE, Stack

HOLDER = """
import sys, time
from pathlib import Path
from worker.embedded.home import lock_home, note_run

with lock_home(Path(sys.argv[1])):
    note_run(Path(sys.argv[1]), sys.argv[2])
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a home will be."""
    return tmp_path / "new" / "home"


@pytest.fixture
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the home, and works there on a batch."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, home, "pallet 7"], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def lock(home: Path) -> None:
    with lock_home(home):
        pass


def test_the_home_is_made_for_its_owner_alone(home: Path) -> None:
    make_home(home)
    # The long pid of a former holder leaves nothing behind.
    (home / "lock").write_text("99999999999\n")
    (home / "lock").chmod(0o600)
    with lock_home(home), lock_home(home.with_name("beside")):
        assert (mode(home), mode(home / "lock"), mode(home.with_name("beside") / "lock")) == (0o700, 0o600, 0o600)
        assert (home / "lock").read_text() == f"{os.getpid()}\n"


def test_a_second_run_is_told_the_pid_of_the_first_and_on_which_batch_it_works(
    holder: subprocess.Popen[str], home: Path
) -> None:
    # One that is stopped still holds.
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(HomeInUse) as refusal:
        lock(home)
    holder.send_signal(signal.SIGCONT)
    told = f"in use by process {holder.pid} (`oathbulk run 'pallet 7'`), which works only on pallet 7"
    # Another home is another database: there, the same tokens would be sent again.
    assert (told in str(refusal.value), "OATHBULK_HOME" in str(refusal.value)) == (True, False)
    assert (refusal.value.pid, find_run_alone(home)) == (holder.pid, "pallet 7")
    holder.kill()
    holder.wait()
    assert find_run_alone(home) is None
    lock(home)


def test_a_run_of_all_batches_says_so_and_what_a_run_worked_on_is_forgotten_with_its_lock(home: Path) -> None:
    with lock_home(home):
        with pytest.raises(HomeInUse, match=f"in use by process {os.getpid()}: wait until it ends$"):
            lock(home)
        note_run(home, "july")
        assert find_run_alone(home) == "july"
        note_run(home, None)
        assert find_run_alone(home) is None
        with pytest.raises(HomeInUse, match="works on every running batch"):
            lock(home)
        note_run(home, "july")
    assert find_run_alone(home) is None


def test_a_child_of_the_holder_does_not_keep_the_home(home: Path) -> None:
    with ExitStack() as children:
        with lock_home(home):
            child = children.enter_context(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        lock(home)
        assert child.poll() is None


@pytest.mark.parametrize("sign", [None, "oathbulk.toml", "oathbulk.db"])
def test_an_open_directory_is_closed_if_it_is_empty_or_a_home(tmp_path: Path, sign: str | None) -> None:
    tmp_path.chmod(0o755)
    if sign:
        (tmp_path / sign).touch()
    make_home(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_home_that_cannot_be_made_or_locked_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "letters").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(EmbeddedError, match=r"open to other users.*chmod 700"):
        make_home(tmp_path)
    assert mode(tmp_path) == 0o755
    with pytest.raises(EmbeddedError, match="OATHBULK_HOME"):
        make_home(tmp_path / "letters" / "home")
    make_home(tmp_path / "home")
    (tmp_path / "home" / "lock").mkdir()
    with pytest.raises(EmbeddedError, match=r"cannot be locked.*OATHBULK_HOME"):
        lock(tmp_path / "home")


# The key.


RACER = """
import sys
from pathlib import Path
from worker.embedded.home import home_key

sys.stdin.read()
print(home_key(Path(sys.argv[1])))
"""


def test_the_key_is_32_random_bytes_that_stay_the_same_for_its_owner_alone(tmp_path: Path) -> None:
    key = home_key(tmp_path / "one")
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert home_key(tmp_path / "one") == key != home_key(tmp_path / "two")
    assert mode(tmp_path / "one" / "encryption.key") == 0o600


def test_processes_that_race_get_one_key_and_leave_no_draft(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACER, tmp_path / "home"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as running:
        racers = [running.enter_context(subprocess.Popen(command, **pipes)) for _ in range(4)]
        for racer in racers:
            racer.stdin.close()
        assert {racer.stdout.read() for racer in racers} == {home_key(tmp_path / "home") + "\n"}
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["encryption.key"]


@pytest.mark.parametrize(
    ("content", "permits", "complaint"),
    [
        *((None, permits, r"chmod 600 .*encryption\.key") for permits in (0o640, 0o604, 0o660)),
        *((content, 0o600, "backup") for content in ("", "short\n", "ü" * 44, "=" * 43 + "=", "a" * 45)),
    ],
)
def test_a_key_that_others_can_read_or_that_is_damaged_is_refused_and_not_replaced(
    tmp_path: Path, content: str | None, permits: int, complaint: str
) -> None:
    key, path = home_key(tmp_path), tmp_path / "encryption.key"
    if content is not None:
        path.write_text(content)
    before = path.read_text()
    path.chmod(permits)
    with pytest.raises(ConfigError, match=complaint) as refusal:
        home_key(tmp_path)
    assert path.read_text() == before
    assert [text for text in (key, before.strip()) if text and text in str(refusal.value)] == []


def test_a_key_that_cannot_be_read_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "encryption.key").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="OATHBULK_ENCRYPTION_KEYS"):
        home_key(tmp_path)


# Children.


# A module that writes down its name, pid, process group, arguments, variables, and then does what its arguments say.
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
for name in ("polite", "stubborn"):
    children.start(name, [sys.executable, "-m", "told", name], dict(os.environ), Path(f"{name}.log"))
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a child needs, whose logs stand in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("told.py").write_text(TOLD)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}


@pytest.fixture
def children() -> Iterator[Children]:
    yield (children := Children())
    children.stop(grace=0)


def read_told(name: str) -> list[Any]:
    log = Path(f"{name}.log")
    return json.loads(
        wait_until(lambda: log.exists() and "\n" in log.read_text() and log.read_text(), f"{name} speaks")
    )


def start(children: Children, env: dict[str, str], *names: str) -> list[int]:
    """Start children that do what their names say, wait until they run, and return their pids."""
    for name in names:
        children.start(name, [sys.executable, "-m", "told", name, "--flag"], env, Path(f"{name}.log"))
    return [read_told(name)[1] for name in names]


def test_a_child_runs_as_main_in_a_group_of_its_own_with_what_it_was_given_alone_and_ends_in_good_order(
    children: Children, env: dict[str, str]
) -> None:
    # Even if its log was open before.
    Path("polite.log").touch(mode=0o644)
    start(children, env | {"GIVEN": "yes"}, "polite")
    name, pid, group, arguments, variables = read_told("polite")
    assert (name, arguments, group) == ("__main__", ["polite", "--flag"], pid)
    assert set(variables) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == {"PYTHONPATH", "GIVEN"}
    assert mode(Path("polite.log")) == 0o600
    children.stop(grace=15)
    assert not is_running(pid)
    assert Path("polite.log").read_text().endswith("goodbye\n")
    assert children.find_ended() == []


def test_stopping_kills_a_child_that_does_not_end(children: Children, env: dict[str, str]) -> None:
    (pid,) = start(children, env, "stubborn")
    children.stop(grace=0.1)
    assert not is_running(pid)


def test_a_child_that_ended_is_named_and_ends_no_other(children: Children, env: dict[str, str]) -> None:
    first, second, _ = start(children, env, "first", "second", "brief")
    assert wait_until(children.find_ended, "the brief child ends") == ["brief"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: "first" in children.find_ended(), "the first child ends")
    assert is_running(second)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_their_parent(env: dict[str, str], end: int) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=env) as parent:
        pids = [read_told(name)[1] for name in ("polite", "stubborn")]
        parent.send_signal(end)
    wait_until(lambda: not any(map(is_running, pids)), "children end with their parent")
    assert Path("polite.log").read_text().endswith("goodbye\n")


def test_a_program_that_is_missing_is_named(children: Children, env: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"told cannot be started .*no-such-python"):
        children.start("told", [str(tmp_path / "no-such-python"), "-m", "told"], env, tmp_path / "told.log")
    assert children.find_ended() == []


# Extras.


CHECKOUT = Path(__file__).parents[3]
# A command that names the package fetches what has that name on an index: before a release, it is not ours.
FROM_AN_INDEX = re.compile(r"(?:pipx?|uv tool|uv pip) install[^\n`]*[ '\"]oathbulk\b")


def test_the_extras_that_are_named_are_there_and_one_page_names_an_index() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    paths = [path for folder in ("docs", "worker") for path in (CHECKOUT / folder).rglob("*.*")]
    pages = [CHECKOUT / "README.md", *(path for path in paths if path.suffix in {".md", ".py"})]
    extra = r"\boathbulk\[(\w+)\]|install '\.\[(\w+)\]'|the extra `(\w+)`"
    named = {*re.findall(extra, "\n".join(path.read_text(encoding="utf-8") for path in pages))}
    assert {name for names in named for name in names if name} == {"local"} < {*project["optional-dependencies"]}
    assert INSTALL_LOCAL.endswith("with the extra `local`")
    # Releases are fetched from an index: one page says how, and that there may be none yet.
    assert [path.name for path in pages if FROM_AN_INDEX.search(path.read_text(encoding="utf-8"))] == ["deployment.md"]


@pytest.mark.parametrize(
    ("command", "missing", "failure"),
    [(desk, "uvicorn", ConfigError), (desk, "starlette", ConfigError), (rehearse, "uvicorn", EmbeddedError)],
)
def test_a_command_that_lacks_its_extra_names_it_and_touches_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: Callable[[], None],
    missing: str,
    failure: type[Exception],
) -> None:
    earlier = tmp_path / "home-rehearsals" / "rehearsal" / "oathbulk.db"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    monkeypatch.setenv("OATHBULK_HOME", str(tmp_path / "home"))
    assert can_serve()
    monkeypatch.setitem(sys.modules, missing, None)
    app = typer.Typer()
    app.command()(command)
    raised = CliRunner().invoke(app, []).exception
    assert (type(raised), earlier.exists()) == (failure, True)
    assert re.search("is not installed: .* with the extra `local`", str(raised))


# The stack of a run.


class EndingWorker:
    """A worker that ends as soon as it is started, since it fails where others do not."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.started = list[float]()

    def find_ended(self) -> list[str]:
        return ["worker"]

    def exit_code(self, name: str) -> int:
        return FAILS_ALONE

    def start(self, *_: object) -> None:
        self.started.append(self.now)


def test_a_worker_that_fails_alone_again_and_again_is_started_after_pauses_and_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = EndingWorker()
    monkeypatch.setattr("worker.installation.stack.time", SimpleNamespace(monotonic=lambda: worker.now))
    servers = {"OATHBULK_DATABASE_URL": "postgresql+psycopg://db/oathbulk", "OATHBULK_REDIS_URL": "redis://broker/0"}
    stack = Stack(Installation({"OATHBULK_HOME": str(tmp_path), **servers}))
    monkeypatch.setattr(stack, "_children", worker)
    for _ in range(300):
        assert stack.restart_ended() is None
        worker.now += 1
    first, *later = [after - before for before, after in pairwise([1000.0, *worker.started])]
    assert (first, len(later) > 5, min(later) >= PAUSE) == (PAUSE, True, True)


LOGGING = """
import sys
import structlog
from worker.installation.stack import parts_with_redis
from worker.installation.installation import Installation

settings = {"OATHBULK_HOME": sys.argv[1], "OATHBULK_REDIS_URL": "redis://127.0.0.1:1/0"}
with parts_with_redis(Installation(settings)):
    structlog.get_logger().warning("pace_out_of_reach")
print("{}")
"""


def test_what_they_log_stands_on_stderr_so_that_json_on_stdout_stays_json(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    ran = subprocess.run([sys.executable, "-c", LOGGING, home], check=True, capture_output=True, text=True)
    assert (json.loads(ran.stdout), json.loads(ran.stderr)["event"]) == ({}, "pace_out_of_reach")
