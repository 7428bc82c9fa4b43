"""Other users of the same machine: what they can read, guess, and put in the way of whoever runs oathbulk; also where
they may write to the directory in which that person works, such as that of the shipments."""

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import OATHBULK, CommandDesk
from support.processes.waiting import wait_until
from support.servers.stand_in import CLIENT_SECRET, StandIn

from worker.cli.output_files import write_output
from worker.embedded.home import EmbeddedError, make_home
from worker.embedded.valkey import ValkeyConfig

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
# Modules that the libraries look for and do without where they are not installed; and some that there are.
LOOKED_FOR = ("brotli", "msgpack", "setproctitle", "tblib", "zstandard", "models", "worker", "redis")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def pingone() -> Iterator[StandIn]:
    """It knows three tokens, and holds back its answers."""
    with StandIn(make_tokens(3)) as pingone:
        pingone.hold_after(0)
        yield pingone
        pingone.let_go()


@pytest.fixture
def desk(open_folder: Path, pingone: StandIn) -> Iterator[CommandDesk]:
    with CommandDesk(open_folder / "desk", pingone.settings) as desk:
        write_shipment(desk.folder / "shipment.csv", list(pingone.tokens.values()))
        yield desk


def proc(pid: int, file: str) -> str:
    return Path(f"/proc/{pid}/{file}").read_bytes().replace(b"\0", b"\n").decode(errors="replace")


def test_a_run_is_closed_to_others_and_hands_secrets_to_those_who_need_them(
    desk: CommandDesk, pingone: StandIn
) -> None:
    """Started by somebody whose files are open to everybody."""
    running = desk.start_program("/bin/sh", "-c", 'umask 0; exec "$0" run shipment.csv', *OATHBULK)
    wait_until(lambda: pingone.held == 3 or not running.is_alive, "calls are in flight")
    check_modes(desk.home)
    config = ValkeyConfig.read(desk.home / "valkey" / "valkey.conf")
    secrets = {CLIENT_SECRET, config.password, (desk.home / "encryption.key").read_text().strip()}
    for pid in desk.processes():
        assert not [secret for secret in secrets if secret in proc(pid, "cmdline")], proc(pid, "cmdline")
    valkey = int((desk.home / "valkey" / "valkey.pid").read_text())
    assert valkey in desk.processes()
    assert proc(valkey, "environ") == ""
    (beat,) = desk.processes("beat")
    told = [each in proc(beat, "environ") for each in (config.password, CLIENT_SECRET, "PINGONE_")]
    assert told == [True, False, False]
    # It could decrypt nothing either.
    assert "cryptography" not in proc(beat, "maps")
    # Nobody else's business; /proc is as closed.
    assert mode(Path(f"/proc/{beat}/environ")) == 0o400
    pingone.let_go()
    assert running.wait().code == 0
    check_modes(desk.home)


def check_modes(home: Path) -> None:
    for directory in (home, home / "logs", home / "valkey"):
        assert mode(directory) == 0o700, directory
    # SQLite makes its file as the umask says: the home is what closes it.
    private = [path for path in home.rglob("*") if path.is_file() and not path.name.startswith("oathbulk.db")]
    assert {path: mode(path) for path in private if mode(path) & 0o077} == {}
    names = {str(path.relative_to(home)) for path in private}
    assert names >= {
        "encryption.key",
        "audit.heads",
        "logs/worker.log",
        "logs/beat.log",
        "valkey/valkey.conf",
        "valkey/valkey.log",
    }


# Prints what of the paths on its standard input it can read or list.
LOOK = """
import os, sys
for path in sys.stdin.read().split("\\0"):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).read()
    except OSError:
        continue
    print(path)
"""


@as_root
def test_another_user_reads_neither_the_home_nor_an_export(desk: CommandDesk) -> None:
    assert desk.oathbulk("load", "shipment.csv").code == 0
    assert desk.oathbulk("export", "shipment", "-o", "out.csv", "--with-otps").code == 0
    paths = [desk.folder / "shipment.csv", desk.folder / "out.csv", desk.home, *desk.home.rglob("*")]
    assert len(paths) >= 5
    nobody = pwd.getpwnam("nobody")
    # The interpreter of a virtual environment may lie where nobody gets to.
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    looked = subprocess.run(
        [python, "-I", "-c", LOOK],
        input="\0".join(map(str, paths)),
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # The shipment is the person's own file, and open: so nobody did look.
    assert looked.stdout.split() == [str(desk.folder / "shipment.csv")]


def test_an_export_is_its_owner_s_alone_and_takes_no_file_or_link_that_waits_in_its_place(desk: CommandDesk) -> None:
    """In a directory that others may write to as well."""
    assert desk.oathbulk("load", "shipment.csv").code == 0
    precious, ours = desk.folder / "precious", desk.folder / "out.csv"
    precious.write_text("precious")
    for name in ("out.csv.part", "out.csv.draft", "out.csv.tmp"):
        (desk.folder / name).symlink_to(precious)
    assert desk.oathbulk("export", "shipment", "-o", "out.csv", "--with-otps").code == 0
    assert precious.read_text() == "precious"
    assert "ACME00000" in ours.read_text()
    assert mode(ours) == 0o600
    # An old one that others may read is replaced, not written into: whoever has it open sees nothing of the new one.
    ours.chmod(0o666)
    with ours.open() as opened:
        assert desk.oathbulk("export", "shipment", "-o", "out.csv", "--overwrite").code == 0
        assert os.fstat(opened.fileno()).st_nlink == 0
    assert mode(ours) == 0o600
    assert [path.name for path in desk.folder.glob("*.part") if not path.is_symlink()] == []


def test_a_draft_that_is_replaced_by_a_link_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to the directory sees the name of the draft as soon as it is there."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    really_open = os.open

    def open_and_be_robbed(path: Path, *rest: int) -> int:
        descriptor = really_open(path, *rest)
        path.rename(tmp_path / "stolen")
        path.symlink_to(precious)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_be_robbed)
    write_output(tmp_path / "out.csv", lambda file: file.write("012345"))

    assert precious.read_text() == "precious"


def test_an_export_replaces_no_link_and_no_device(desk: CommandDesk) -> None:
    """As root it would replace /dev/stdout."""
    (desk.folder / "link.csv").symlink_to("precious")
    os.mkfifo(desk.folder / "fifo.csv")
    for name in ("link.csv", "fifo.csv"):
        refused = desk.oathbulk("export", "shipment", "-o", name)
        assert (refused.code, "link, a device or a" in refused.stderr) == (2, True)
    assert (desk.folder / "link.csv").is_symlink()
    assert (desk.folder / "fifo.csv").is_fifo()


@as_root
def test_a_home_of_another_user_is_refused(open_folder: Path) -> None:
    """Its owner could put a key of theirs in the place of ours."""
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
    link = open_folder / "link"
    link.symlink_to(home)
    for place in (home, link):
        with pytest.raises(EmbeddedError, match="belongs to another user"):
            make_home(place)
    os.chown(home, 0, -1)
    make_home(link)


def test_a_sqlite_database_elsewhere_is_its_owners_alone_as_well(open_folder: Path) -> None:
    """It has names of people."""
    with CommandDesk(open_folder / "desk") as desk:
        file = open_folder / "elsewhere.db"
        assert desk.oathbulk("db", "upgrade", OATHBULK_DATABASE_URL=f"sqlite:///{file}").code == 0
    assert mode(file) == 0o600


def test_a_link_in_the_place_of_the_home_closes_no_directory_of_other_things(open_folder: Path) -> None:
    elsewhere = open_folder / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "thesis.txt").write_text("precious")
    (open_folder / ".oathbulk").symlink_to(elsewhere)
    with pytest.raises(EmbeddedError, match="holds other files"):
        make_home(open_folder / ".oathbulk")
    assert mode(elsewhere) == 0o755


def test_no_module_of_the_working_directory_is_imported(open_folder: Path) -> None:
    with CommandDesk(open_folder / "desk") as desk:
        for name in LOOKED_FOR:
            (desk.folder / f"{name}.py").write_text(f"open(__file__ + '.was-run', 'w')\nraise ImportError({name!r})\n")
        result = desk.oathbulk("rehearse", "--tokens", "3")
        assert result.code == 0, result.stdout + result.stderr
        assert [path.name for path in desk.folder.glob("*.was-run")] == []
