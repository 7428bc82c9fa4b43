"""A backup is made while others work, and put back later with its keys: what PingOne has made ACTIVE since ends active,
nothing is made twice, and only an OTP that was refused or asked for another may go again; docs/operating.md says it in
these steps."""

import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url
from support.data.shipments import ACCEPTED, OPTIONS
from support.judges.call_log import LoggedCall, Tenant, sent_after_their_answer
from support.judges.otp_calls import make_seed_cases
from support.judges.verdict import find_box_seeds
from support.processes.command_desk import CommandDesk, Result
from support.processes.waiting import wait_until
from support.servers.postgres import PostgresServer
from support.servers.simulator import Simulator

from worker.simulator.shipment import SEEDS, a_few_of_each, make_box, make_shipment

ROWS, BOX_ROWS, BUDGET = 60, 110, 3
HOPELESS = {"wrong_otp": 3, "wrong_second_otp": 2, "second_otp_missing": 1, "account_not_usable": 1}
BOX = (SEEDS, "--batch", "shipment", *OPTIONS, *(f"--accept={name}" for name in ACCEPTED))
# Slow enough for a backup in the middle. A restored record waits for seconds until it is read, not for a minute.
STEADY = {
    "PINGONE_RATE": "15",
    "PINGONE_RATE_MAX": "15",
    "_OATHBULK_TUNING__call_deadline": "3",
    "_OATHBULK_TUNING__send_within": "1",
    "_OATHBULK_TUNING__lease_left_for_post": "4",
    "_OATHBULK_TUNING__lease": "8",
    "_OATHBULK_TUNING__read_delay": "1",
}
QUICK = {"PINGONE_RATE": "100", "PINGONE_RATE_MAX": "100"}


@dataclass
class Site:
    """A person's desk, PingOne, and the ways to back the database up and to restore it."""

    desk: CommandDesk
    simulator: Simulator
    back_up: Callable[[], None]
    put_back: Callable[[], None]

    def lose_what_followed(self, *words: str, posts: int) -> None:
        """Run the shipment; make a backup after so many posts, and end the run by SIGKILL after twice as many. Then put
        the backup back."""
        running = self.desk.start("run", *words)
        self._wait_for_posts(posts, running)
        self.back_up()
        self._wait_for_posts(2 * posts, running)
        self.desk.kill(running.pid, *self.desk.processes())
        running.wait()
        wait_until(lambda: not self.simulator.open_calls(), "the calls are over")
        self.put_back()

    def distrust(self) -> Result:
        """Type `db restored` until the workers of the backup count as gone."""
        told: list[Result] = []

        def is_done() -> bool:
            told.append(self.desk.oathbulk("db", "restored", "--ticket", "INC-7"))
            assert told[-1].code == 0 or "worker process" in told[-1].stderr, told[-1].stderr
            return told[-1].code == 0

        wait_until(is_done, "no worker lives any more")
        return told[-1]

    def finish(self, *words: str, code: int = 1) -> tuple[list[LoggedCall], list[LoggedCall], Tenant]:
        """Run the shipment until the run ends: the calls before, those since, and what PingOne has."""
        before = self.simulator.calls()
        finished = self.desk.oathbulk("run", *words, **QUICK)
        assert finished.code == code, finished.stderr
        tenant = self.simulator.tenant()
        self.simulator.stop()
        calls = self.simulator.calls()
        return before, calls[len(before) :], tenant

    def _wait_for_posts(self, posts: int, running) -> None:
        wait_until(lambda: self.simulator.posts() >= posts or not running.is_alive, f"{posts} are posted")
        assert running.is_alive, running.stderr


@pytest.fixture
def make_site(request: pytest.FixtureRequest, set_out) -> Iterator[Callable[..., Site]]:
    """Makes a site on SQLite, whose backup is put back into another home, or on PostgreSQL."""
    with ExitStack() as stack:

        def make(kind: str, shipment, **simulated) -> Site:
            desk, simulator = set_out(shipment, STEADY, **simulated)
            if kind == "postgresql":
                server, url = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_url")
                key = desk.oathbulk("keygen").stdout.strip()
                desk.settings |= {"OATHBULK_ENCRYPTION_KEYS": key, "OATHBULK_DATABASE_URL": url}
                return Site(desk, simulator, lambda: dump(desk, server), lambda: restore(desk, server, stack))

            def back_up() -> None:
                assert desk.oathbulk("db", "backup", "copy.db").code == 0
                (made,) = desk.folder.glob("copy.db*")
                assert (made.name, made.stat().st_mode & 0o777) == ("copy.db", 0o600)

            def put_back() -> None:
                old, desk.home = desk.home, desk.folder / "restored"
                make_home(desk, *(old / name for name in ("encryption.key", "audit.heads")))
                desk.settings["OATHBULK_HOME"] = str(desk.home)

            return Site(desk, simulator, back_up, put_back)

        yield make


def make_home(desk: CommandDesk, *files: Path) -> None:
    """A new home, with the database of the backup, and these files of the old home."""
    desk.home.mkdir(mode=0o700)
    shutil.copyfile(desk.folder / "copy.db", desk.home / "oathbulk.db")
    for file in files:
        shutil.copy(file, desk.home)


def dump(desk: CommandDesk, server: PostgresServer) -> None:
    """By the command that `db backup` names, into a file of ours."""
    told = desk.oathbulk("db", "backup", "copy.dump")
    assert told.code == 2
    assert "Compose, see docs/operating.md, Back up): pg_dump --format=custom --file=FILE postgresql://" in told.stderr
    assert str(make_url(desk.settings["OATHBULK_DATABASE_URL"]).password) not in told.stderr
    command = told.stderr.partition(" Back up): ")[2].replace("FILE", str(desk.folder / "copy.dump"))
    server.run_tool(*shlex.split(command))


def restore(desk: CommandDesk, server: PostgresServer, stack: ExitStack) -> None:
    """Into an empty database."""
    url = stack.enter_context(server.database())
    parts = make_url(url)
    # As PostgreSQL's own programs take it.
    into = URL.create("postgresql", parts.username, None, parts.host, parts.port, parts.database).render_as_string()
    server.run_tool("pg_restore", "--exit-on-error", f"--dbname={into}", str(desk.folder / "copy.dump"))
    desk.settings["OATHBULK_DATABASE_URL"] = url
    assert desk.oathbulk("db", "upgrade").code == 0


def find_active(calls: list[LoggedCall]) -> set[str]:
    return {call.device_id for call in calls if call.outcome == "ACTIVE"}


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_pairs_end_as_pingone_has_them_and_no_otp_goes_a_third_time(make_site, kind: str) -> None:
    site = make_site(kind, make_shipment(ROWS, hopeless=HOPELESS, out_of_step=0.4))
    site.lose_what_followed("shipment.csv", posts=30)

    assert "An OTP that PingOne answered since the backup" in site.distrust().stdout
    again = site.desk.oathbulk("db", "restored")
    assert (again.code, again.stdout.startswith("Nothing is left to mark")) == (0, True)
    before, since, tenant = site.finish("shipment.csv")

    assert site.desk.status()["counts"] == {
        **dict.fromkeys(("pending", "queued", "activating", "cancelled"), 0),
        "active": ROWS - sum(HOPELESS.values()),
        "dead_letter": sum(HOPELESS.values()),
    }
    assert {device.id for device in tenant.devices if device.status == "ACTIVE"} == find_active(before + since)
    # Whose device was ACTIVE, lost no OTP.
    assert find_active(before) & {call.device_id for call in since if call.is_post} == set()
    sent = Counter((call.device_id, call.otp) for call in before + since if call.is_post)
    assert max(sent.values()) <= 2
    # Its budget, and what was sent since the backup without this database's knowledge, which is once for each OTP.
    assert max(Counter(device_id for device_id, _ in sent.elements()).values()) <= BUDGET + 1
    # None but where PingOne had refused the OTP, or asked for the second one.
    wasted = {device_id for device_id, _ in sent_after_their_answer(before + since)}
    assert wasted <= {call.device_id for call in before if call.is_post and call.is_answered} - find_active(before)
    audited = site.desk.oathbulk("audit", "--json").json
    assert audited["broken"] is None
    lines = [line for line in audited["lines"] if line["action"] == "db restored"]
    assert [(line["ticket"], line["facts"]["records"] > 0) for line in lines] == [("INC-7", True), (None, False)]


@pytest.mark.faults
def test_of_a_box_nothing_is_made_twice_and_no_counter_goes_twice(make_site) -> None:
    box = make_box(BOX_ROWS, totp=0, special=a_few_of_each(BOX_ROWS))
    site = make_site("postgresql", box, job_takes=0.2, failure_count=2 * BUDGET)
    box.write(site.desk.folder)
    site.lose_what_followed(*BOX, posts=20)

    site.distrust()
    before, since, tenant = site.finish(*BOX)

    active = sum(expected.status == "active" for expected in box.expected.values())
    assert site.desk.status()["counts"]["active"] == active
    assert find_active(before) & {call.device_id for call in since if call.is_post} == set()
    assert max(Counter(token_id for job in tenant.jobs for token_id in job.token_ids).values()) == 1
    assert max(Counter(device.serial for device in tenant.devices if device.serial).values()) == 1
    cases = make_seed_cases(before + since, find_box_seeds(site.simulator, tenant))
    for case in cases.values():
        counters = [case.counters[post.number] for post in case.posts]
        assert len(set(counters)) == len(counters) <= 2 * BUDGET, case.device_id


def test_without_its_key_a_restored_database_says_that_it_is_missing(desk) -> None:
    make_shipment(5).write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    # It takes the place of an earlier one.
    (desk.folder / "copy.db").write_text("an earlier one")
    assert desk.oathbulk("db", "backup", "copy.db", "--overwrite").code == 0
    desk.home = desk.folder / "restored"
    make_home(desk)
    elsewhere, key = {"OATHBULK_HOME": str(desk.home)}, desk.home / "encryption.key"

    refused = desk.oathbulk("export", "shipment", "-o", "out.csv", "--with-otps", **elsewhere)

    assert (refused.code, refused.stderr.count("\n")) == (3, 1), refused.stderr
    assert (
        f"{key} is missing, but OTPs in the database are encrypted with that key: restore the key file"
        in refused.stderr
    )
    # What needs no key goes on, and no new key was made in place of the lost one.
    for command in ("pause", "status"):
        assert desk.oathbulk(command, "shipment", **elsewhere).code == 0
    assert not key.exists()


def test_after_a_restore_it_is_told_what_is_looked_up_and_which_lines_of_the_audit_are_lacking(desk) -> None:
    make_shipment(5).write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    assert desk.oathbulk("db", "backup", "copy.db").code == 0
    assert desk.oathbulk("pause", "shipment").code == 0
    for path in desk.home.glob("oathbulk.db*"):
        path.unlink()
    shutil.copyfile(desk.folder / "copy.db", desk.home / "oathbulk.db")

    told = desk.oathbulk("db", "restored")

    marked = "5 records that are not final may have been worked on since the backup"
    assert (told.code, marked in told.stdout) == (0, True), told.stderr
    lacking = f"1 head in {desk.home}/audit.heads belongs to a line that this database lacks, so oathbulk audit exits"
    assert lacking in told.stderr
    assert desk.oathbulk("audit").code == 1
    # The batch runs, as it did when the backup was made.
    assert desk.status()["state"] == "running"
