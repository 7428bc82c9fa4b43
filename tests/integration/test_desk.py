"""The desk over a database: no page says what it must not, and what is commanded at it is done and written down. How
its pages read, the golden files hold."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from html import unescape
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from support.data.audit_lines import read
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, look, look_at_batch, make_batch, opened, statuses
from support.data.facts import write_metrics
from support.data.loading import REFUSED, LoadingDesk, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.servers.web_desk import PERSON, WebDesk

from models.audit import AuditLine
from models.batch import Batch, BatchState
from models.change import Change
from models.encrypted import generate_key
from models.pace import LicensePace
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import TAKEN_BACK, UNTIL_LET_GO, Status
from models.refused_row import RefusedRow
from worker.batches.commands import Batches
from worker.batches.finding import UnknownColumn
from worker.batches.loading import Loaded
from worker.cli.console import PIPE
from worker.cli.status import draw_batch, draw_batches
from worker.desk.app import link_to
from worker.desk.batch_page import write_file
from worker.desk.security import FORM_KEY, Visitor
from worker.installation.installation import Installation
from worker.leases.lease import Leases
from worker.leases.moves import keep_former
from worker.notices import Event, describe
from worker.reports.batch_history import read_batch_history
from worker.reports.export import export
from worker.reports.facts import BatchStatus, read_parts, read_statuses
from worker.reports.metrics import MetricsCollector
from worker.reports.outlook import format_log_line
from worker.reports.token_history import read_histories
from worker.rules.steps import DeadLetter
from worker.vault.otps import OtpPair

pytestmark = ON_SQLITE

HOSTILE = "<img src=x onerror=alert(1)>"
DEAD = [{"status": Status.DEAD_LETTER, "reason": reason} for reason in (Reason.LOCKED, Reason.LOCKED, Reason.REJECTED)]


@pytest.fixture
def installation(database_url: str, database: MovingDatabase, tmp_path: Path) -> Iterator[Installation]:
    variables = {"OATHBULK_HOME": str(tmp_path / "home"), "OATHBULK_DATABASE_URL": database_url}
    variables["OATHBULK_ENCRYPTION_KEYS"] = generate_key()
    installation = Installation(variables)
    yield installation
    installation.database.close()


@pytest.fixture
def desk(installation: Installation) -> WebDesk:
    """A desk into which somebody has come."""
    desk = WebDesk(installation)
    desk.enter()
    return desk


@pytest.fixture
def shipment(database: MovingDatabase) -> Made:
    """A batch that runs: two tokens are active, three were given up, one is still to do."""
    return make_batch(database, [{"status": Status.ACTIVE}, {"status": Status.ACTIVE}, *DEAD, {}])


# Rows by what they are: of two sites, with one that was not loaded, and one more that somebody closed.
KINDS = {"rows": 26, "active": 11, "to_do": 7, "failed": 5, "closed": 3}
STATUSES = {"active": 11, "pending": 5, "queued": 1, "activating": 1, "dead_letter": 4, "cancelled": 2}


@pytest.fixture
def four_kinds(database: MovingDatabase) -> BatchStatus:
    ends = [status for status, number in STATUSES.items() for _ in range(number)]
    made: list[dict[str, Any]] = [
        {"status": end, "extra": {"site": site}, "reason": Reason.LOCKED if end == "dead_letter" else None}
        for end, site in zip(ends, cycle(("Basel", "Bern")), strict=False)
    ]
    made[11] |= {"not_before": UNTIL_LET_GO, "scheduled_at": UNTIL_LET_GO}
    refused = {"batch_id": make_batch(database, made).batch_id, "environment_id": ENVIRONMENT_ID}
    refused |= {"reason": "otps_unfit", "detail": "otp1 is missing"}
    rows = [refused | {"row_number": 900 + place, "is_closed": place == 1} for place in range(2)]
    of_batch = {"rows_refused": 2, "columns": ["serial", "site"]}
    database.change(insert(RefusedRow).values(rows), update(Batch).values(of_batch))
    (status,) = read_statuses(database, "shipment")
    return status


def find_numbers(text: str, begin: str) -> dict[str, int]:
    """The numbers behind a word, as many as there are of rows."""
    found = re.findall(r"\d+", text.partition(begin)[2])
    return dict(zip(KINDS, map(int, found), strict=False))


def test_every_screen_file_and_message_has_the_same_four_numbers(
    database: MovingDatabase, desk: WebDesk, four_kinds: BatchStatus
) -> None:
    status, in_words = four_kinds, "11 of 26 rows are active; 7 to do, 5 failed, 3 closed"
    assert status.rows_to_json() == KINDS
    drawn: dict[str, Any] = {"running": draw_batches([status]), "closed": draw_batch(status, PIPE)}
    for begin, lines in drawn.items():
        assert find_numbers("\n".join(line.plain for line in lines.renderables), begin) == KINDS
    assert format_log_line(status).startswith("shipment: 11 active, 7 to do, 5 failed, 3 closed;")
    for told in (status.to_json(), (notice := describe(Event.RESUMED, status))):
        assert {name: told[name] for name in (*KINDS, "total")} == KINDS | {"total": 24}
    assert in_words in notice["text"]
    parts = read_parts(database, "shipment", "site")
    assert {name: sum(getattr(part, name) for part in parts) for name in KINDS} == KINDS
    metrics = write_metrics(MetricsCollector(database, partial(read_statuses, database)))
    for name, number in list(KINDS.items())[1:]:
        assert f'oathbulk_rows{{batch="shipment",environment="default",kind="{name}"}} {number}.0' in metrics

    assert "11 of 26 active 7 5 3" in read_text(desk.read("/"))
    report = write_file(status, read_batch_history(database, status))
    for page in map(read_text, (report, desk.read("/batch", name="shipment"))):
        assert f"{in_words}." in page
        table = "active 11 42.3 % to do 7 26.9 % failed 5 19.2 % closed 3 11.5 % rows of the batch 26"
        assert table in page
    sites = read_text(desk.read("/batch", name="shipment", by="site"))
    assert [len(find_numbers(sites, f"{site} ")) for site in ("Basel", "Bern", "(none)")] == [5, 5, 5]

    text = io.StringIO(newline="")
    assert export(database, "shipment", text) == 26
    ends = Counter(row["status"] for row in csv.DictReader(io.StringIO(text.getvalue(), newline="")))
    assert ends == STATUSES | {"cancelled": 3, "not_loaded": 1}
    assert export(database, "shipment", io.StringIO(), failed=True) == 5


def test_a_row_that_was_not_loaded_is_closed_by_its_number(database: MovingDatabase, four_kinds: BatchStatus) -> None:
    assert Batches(database, TESTER).cancel("shipment", ["file_row=900"]) == 1
    (status,) = read_statuses(database, "shipment")
    assert (status.failed, status.closed, status.refused) == (four_kinds.failed - 1, four_kinds.closed + 1, {})
    with pytest.raises(UnknownColumn, match="were not loaded: `oathbulk mend` loads them"):
        Batches(database, TESTER).replay("shipment", where=["file_row=900"])


def read_text(page: str) -> str:
    """What a person reads of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def last_line(database: MovingDatabase) -> Any:
    lines = read(database)
    return lines[-1] if lines else None


# What is shown.


def test_a_long_list_is_cut_and_the_rest_counted(database: MovingDatabase, desk: WebDesk) -> None:
    make_batch(database, 250)
    page = desk.read("/search", batch="shipment")
    assert ("200 of 250 records: narrow the search" in page, page.count("<tr>")) == (True, 201)


def test_no_name_serial_number_or_reason_becomes_markup(database: MovingDatabase, desk: WebDesk) -> None:
    columns = {name: f"{HOSTILE}{name}" for name in ("serial_number", "username", "email", "lot")}
    # It is a part of addresses and of a file's name, too.
    name = f"../a/b?c&name=d#50% \"e' ü 日本{HOSTILE}"
    made = make_batch(database, [columns | DEAD[0], {}], name=name, environment=f"e{HOSTILE}")
    database.change(update(Batch).where(Batch.id == made.batch_id).values(file=f"{HOSTILE}.csv"))
    serial = columns["serial_number"]
    shown = [
        ("/", {}),
        *((path, {"name": name}) for path in ("/batch", "/batch/cancel", "/batch/replay", "/batch/report")),
        ("/token", {"of": serial}),
        ("/search", {"text": HOSTILE}),
        ("/search", {"text": serial, "batch": name}),
    ]
    for path, parameters in shown:
        page = desk.read(path, **parameters)
        assert ("<img" in page, HOSTILE in read_text(page) or HOSTILE in unescape(page)) == (False, True)
    for path, parameters in (("/batch", {"name": HOSTILE}), ("/token", {"of": HOSTILE}), (f"/{HOSTILE}", {})):
        answer = desk.get(path, **parameters)
        assert (answer.status_code, "<img" in answer.text) == (404, False)
    desk.command_well("pause", name, ticket=HOSTILE)
    stop = {"state": BatchState.PAUSED, "reason": PauseReason.CREDENTIALS, "detail": f"PingOne said {HOSTILE}"}
    database.change(update(Batch).values(stop))
    links = {unescape(link) for link in re.findall(r'href="(/[^"]*)"', desk.read("/") + desk.read("/batch", name=name))}
    # A table for a spreadsheet is no page.
    assert [link for link in links if "/failed?" not in link and "<img" in desk.read(link)] == []
    headers = desk.get("/batch/report", name=name).headers
    assert headers["content-type"].startswith("text/html")
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9._-]+\.html"', headers["content-disposition"])


def test_what_turns_the_direction_of_writing_is_shown_as_its_code(database: MovingDatabase, desk: WebDesk) -> None:
    columns = {"serial_number": "ACME\u202e71", "username": "bob\u2066x", "lot": "L\u200f\u202b1"}
    make_batch(database, [columns | DEAD[0]], name="turned\u202e")
    pages = [desk.read("/"), desk.read("/batch", name="turned\u202e"), desk.read("/search", batch="turned\u202e")]
    pages.append(desk.read("/token", of="ACME\u202e71"))
    assert [page for page in pages if re.search("[\u202a-\u202e\u2066-\u2069]", page)] == []
    assert "ACME\\u202e71" in pages[3]


def test_no_page_holds_an_otp(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    database.change(update(Record).where(Record.otps.is_not(None)).values(otps=b"48151623-42108815"))
    paths = ["/", "/audit", "/batch?name=shipment", "/search?batch=shipment", "/token?of=MADE001000002"]
    paths += ["/batch/failed?name=shipment", "/batch/report?name=shipment"]
    assert [path for path in paths if "48151623" in desk.read(path)] == []


def test_many_at_once_get_their_pages(desk: WebDesk, shipment: Made) -> None:
    paths = ["/", "/batch?name=shipment", "/search?text=MADE", "/audit", "/batch/report?name=shipment"] * 8
    with ThreadPoolExecutor(20) as threads:
        assert {answer.status_code for answer in threads.map(lambda path: desk.request("GET", path), paths)} == {200}


# Files.


def test_what_failed_comes_as_a_file_to_mend(desk: WebDesk, shipment: Made) -> None:
    answer = desk.get("/batch/failed", name="shipment")
    assert answer.headers["content-disposition"] == 'attachment; filename="shipment-failed.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["serial"] for row in rows] == ["MADE001000002", "MADE001000003", "MADE001000004"]
    assert {row["otp1"] + row["otp2"] for row in rows} == {""}
    for reason, number in (("rejected", 1), ("locked", 2), ("made_up", 3)):
        kept = csv.DictReader(io.StringIO(desk.read("/batch/failed", name="shipment", reason=reason)))
        assert len(list(kept)) == number


def test_a_batch_that_is_not_there_is_no_file_and_no_form(desk: WebDesk, shipment: Made) -> None:
    for path in ("/batch/report", "/batch/failed", "/batch", "/batch/pause"):
        for parameters in ({"name": "purged"}, {}):
            answer = desk.get(path, **parameters)
            assert (answer.status_code, "content-disposition" in answer.headers) == (404, False)
    key = desk.read_form_key("pause", "shipment")
    answers = [desk.post(path, {FORM_KEY: key, "name": "shipment"}) for path in ("/batch/pause?name=x", "/batch/pause")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert desk.get("/search", batch="nothing").status_code == 404


# Commands.


def test_a_pause_is_done_in_the_persons_name_and_told_once_on_the_page_of_its_batch(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    make_batch(database, 1, name="other")
    answer = desk.command("pause", "shipment", ticket="CHG-7")
    assert look_at_batch(database, shipment.batch_id).state == BatchState.PAUSED
    line = last_line(database)
    assert (line.action, line.batch, line.actor, line.ticket) == ("pause", "shipment", PERSON, "CHG-7")
    pages = [desk.read("/batch", name="other"), desk.read(answer.headers["location"])]
    pages.append(desk.read("/batch", name="shipment"))
    assert ['class="done"' in page for page in pages] == [False, True, False]
    assert f"{PERSON} pause shipment CHG-7" in read_text(desk.read("/audit"))


def test_a_hold_is_ended_with_a_resume_if_that_was_asked_for(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    now = database.read_clock()
    held = {"held_since": now, "held_until": now + timedelta(minutes=2), "held_why": f"PingOne asked {HOSTILE}"}
    database.change(insert(LicensePace).values(license=ENVIRONMENT_ID, rate=40.0, ceiling=50.0, **held))
    is_to_be_lifted = select(LicensePace.is_to_be_lifted)
    assert "<img" not in desk.read("/batch", name="shipment")
    assert "All workers hold until" in read_text(desk.read("/batch/resume", name="shipment"))
    desk.command_well("pause", "shipment")
    assert "shipment is allowed to run, but no worker is working on it." in desk.command_well("resume", "shipment")
    state = look_at_batch(database, shipment.batch_id).state
    assert (state, database.values(is_to_be_lifted)) == (BatchState.RUNNING, [False])
    assert "Its hold ends within seconds." in desk.command_well("resume", "shipment", now="yes")
    assert database.values(is_to_be_lifted) == [True]


def test_a_part_of_a_batch_is_kept_back_let_go_and_replayed(
    database: MovingDatabase, desk: WebDesk, four_kinds: BatchStatus
) -> None:
    page = desk.read("/batch", name=four_kinds.name, by="site")
    assert re.search(r'href="/batch/pause\?name=shipment&amp;where=site%3DBasel"', page)
    assert "Pause site=Basel of batch shipment?" in read_text(
        desk.read("/batch/pause", name="shipment", where="site=Basel")
    )
    assert "3 rows with site=Basel wait" in desk.command_well("pause", "shipment", where="site=Basel")
    kept = desk.read("/batch", name=four_kinds.name, by="site")
    assert re.search(r'href="/batch/resume\?name=shipment&amp;where=site%3DBasel"', kept)
    assert "3 rows with site=Basel may begin now." in desk.command_well("resume", "shipment", where="site=Basel")
    (first, *others) = database.rows(select(Record.serial_number).where(Record.status == Status.DEAD_LETTER))
    assert others
    assert "1 record of shipment" in desk.command_well("replay", "shipment", where=f"serial={first.serial_number}")


def test_tokens_are_given_out_one_after_the_other_and_the_last_ones_stand_below(
    database: MovingDatabase, desk: WebDesk
) -> None:
    on_table = {"user_id": "", "device_id": "", "pairing": "unsent"}
    make_batch(database, [on_table | {"serial_number": f"00{number}"} for number in (10, 11, 12)])
    assert 'href="/batch/give?name=shipment"' in desk.read("/batch", name="shipment")
    page = read_text(desk.read("/batch/give", name="shipment"))
    assert "3 are waiting to be given out." in page
    wrong = desk.command("give", "shipment", serial="10", person="ann@x.test")
    assert (wrong.status_code, "has the token as 0010" in read_text(wrong.text)) == (422, True)
    answer = desk.command("give", "shipment", serial="0010", person="ann@x.test", ticket="CHG-7")
    assert (answer.status_code, answer.headers["location"]) == (303, "/batch/give?name=shipment&ticket=CHG-7")
    html = desk.read(answer.headers["location"])
    page = read_text(html)
    waits = "0010 ann@x.test pending on its way: waits for a worker: no worker is running."
    assert ("Token 0010 is ann@x.test's." in page, waits in page, 'value="CHG-7"' in html) == (True, True, True)
    twice = desk.command("give", "shipment", serial="0011", person="ann@x.test")
    assert (twice.status_code, "Select the checkbox below if they should have two." in read_text(twice.text)) == (
        422,
        True,
    )
    assert desk.command("give", "shipment", serial="0011", person="ann@x.test", second="yes").status_code == 303
    assert [line.facts for line in read(database)] == [{"serial": "0010"}, {"serial": "0011"}]


@pytest.mark.parametrize("failed", [{"status": Status.DEAD_LETTER, "reason": Reason.USER_NOT_FOUND}, {"user_id": "u1"}])
def test_a_token_of_which_nothing_came_is_taken_back_from_a_wrong_name_and_given_again(
    database: MovingDatabase, desk: WebDesk, failed: dict[str, Any]
) -> None:
    make_batch(database, [{"user_id": "", "device_id": "", "pairing": "unsent", "serial_number": "0010"}])
    assert desk.command("give", "shipment", serial="0010", person="an@x.test").status_code == 303
    database.change(update(Record).values(failed))
    form = {"serial": "0010", "person": "an@x.test", FORM_KEY: desk.read_form_key("give", "shipment")}
    assert "Nothing was made for this token in PingOne." in desk.read(
        "/batch/take-back", name="shipment", serial="0010"
    )
    assert desk.post(link_to("/batch/take-back", name="shipment"), form).status_code == 303
    record = look(database, 1)
    assert (record.status, record.reason, record.user_id, record.email) == (Status.PENDING, None, "", None)
    assert desk.command("give", "shipment", serial="0010", person="ann@x.test").status_code == 303
    (history,) = read_histories(database, "0010")
    assert [(line.action, line.email) for line in history.latest.changes] == [
        ("give", None),
        ("undo", "an@x.test"),
        ("give", None),
    ]


def test_a_token_that_was_given_to_the_wrong_person_is_taken_back_here_until_something_went_out_for_it(
    database: MovingDatabase, desk: WebDesk
) -> None:
    on_table = {"user_id": "", "device_id": "", "pairing": "unsent", "is_in_inventory": True}
    made = make_batch(database, [on_table | {"serial_number": f"001{number}"} for number in range(2)])
    for serial, person in (("0010", "ann@x.test"), ("0011", "bob@x.test")):
        assert desk.command("give", "shipment", serial=serial, person=person).status_code == 303
    assert 'aria-label="Take back: 0010"' in desk.read("/batch/give", name="shipment")
    assert "Take token 0010 back from ann@x.test?" in read_text(
        desk.read("/batch/take-back", name="shipment", serial="0010")
    )
    database.change(update(Record).where(Record.id == made.ids[0]).values(user_id="u1", status=Status.QUEUED))
    form = {"serial": "0010", "person": "ann@x.test", FORM_KEY: desk.read_form_key("give", "shipment")}
    place = link_to("/batch/take-back", name="shipment")
    assert desk.post(place, form | {"person": "cleo@x.test"}).status_code == 409
    assert desk.post(place, form).headers["location"] == "/batch/give?name=shipment"
    page = read_text(desk.read("/batch/give", name="shipment"))
    assert "Token 0010 no longer belongs to ann@x.test: it is waiting to be given out. " in page
    assert ("1 is waiting to be given out." in page, "0010 ann@x.test" in page) == (True, False)
    line = last_line(database)
    assert (line.action, line.actor, line.facts) == ("undo", PERSON, {"serial": "0010"})
    assert "undo by alice; before: ann@x.test" in read_text(desk.read("/token", of="0010"))
    assert desk.post(place, form).status_code == 409
    assert desk.command("give", "shipment", serial="0010", person="dora@x.test").status_code == 303
    assert read_text(desk.read("/batch/give", name="shipment")).count("0010 dora@x.test") == 1
    # Another command gave it to somebody else since.
    undone = select(AuditLine.id).where(AuditLine.action == "undo")
    with database.writing() as connection:
        keep_former(connection, Record.id == made.ids[0], line=connection.scalar(undone))
        connection.execute(update(Record).where(Record.id == made.ids[0]).values(email="eve@x.test"))
    assert "eve@x.test" not in read_text(desk.read("/batch/give", name="shipment"))

    # An undo is at work on it.
    database.change(update(Record).where(Record.id == made.ids[1]).values(undone_until=database.now(60)))
    assert desk.post(place, form | {"serial": "0011", "person": "bob@x.test"}).status_code == 409
    database.change(update(Record).where(Record.id == made.ids[1]).values(undone_until=None, pairing="sent"))
    page = read_text(desk.read("/batch/take-back", name="shipment", serial="0011"))
    undo = "oathbulk undo shipment --where serial=0011 --yes"
    assert f"oathbulk pause shipment && {undo} && oathbulk resume shipment" in page
    assert desk.post(place, form | {"serial": "0011", "person": "bob@x.test"}).status_code == 409
    closed = {"status": Status.CANCELLED, "pairing": "unsent", "reason": TAKEN_BACK, "detail": "An undo closed it."}
    database.change(update(Record).where(Record.id == made.ids[1]).values(closed))
    assert 'aria-label="Take back: 0011"' not in desk.read("/batch/give", name="shipment")
    page = read_text(desk.read("/batch/take-back", name="shipment", serial="0011"))
    assert ("The row is closed. An undo closed it." in page, undo in page) == (True, False)


FRESH = ("48151623", "42108815")


@pytest.fixture
def failed(installation: Installation, database: MovingDatabase, leases: Leases, tmp_path: Path) -> Loaded:
    """Pairs that were read off three tokens. PingOne refused the first OTP of one, and found the second one too old."""
    box = LoadingDesk(database, installation.keyring, tmp_path, leases)
    rows = [token(0, otp1="735164"), token(1, otp_type="totp", generated_at="2026-01-01T00:00:00Z"), token(2)]
    return box.load(rows, "box", REFUSED, DeadLetter(Reason.STALE_OTP), totp_max_age=1e9)


def type_otps(desk: WebDesk, number: int, otp1: str, otp2: str, **fields: str) -> str:
    """What the page says once somebody has typed two OTPs."""
    serial = token(number)["serial"]
    form = {"serial": serial, "otp1": otp1, "otp2": otp2, FORM_KEY: desk.read_form_key("pace", "box")}
    answer = desk.post(link_to("/batch/otps", name="box"), form | fields)
    # The browser keeps no form that was answered by a page.
    assert (answer.status_code, answer.headers["location"]) == (303, f"/batch/otps?name=box&serial={serial}")
    page = desk.read(answer.headers["location"])
    assert [otp for otp in (otp1, otp2) if otp.strip() and otp in page] == []
    return read_text(page)


@pytest.mark.parametrize(
    ("otps", "fault"),
    [
        (("735164", "111111"), "an OTP of this row was sent already"),
        (("48151623", "421088"), "each has 6 or 8 digits"),
        (("4815 1623", "42108815"), "each has 6 or 8 digits"),
        (("42108815", "42108815"), "both OTPs are the same number"),
        (("", "42108815"), "type both OTPs"),
        (("48151623", " "), "type both OTPs"),
    ],
)
def test_otps_that_cannot_go_are_refused_and_nothing_is_kept_of_them(
    database: MovingDatabase, desk: WebDesk, failed: Loaded, otps: tuple[str, str], fault: str
) -> None:
    before = database.rows(select(Record.__table__))
    page = type_otps(desk, 0, *otps)
    assert (fault in page, "Nothing was done." in page) == (True, True)
    assert (database.rows(select(Record.__table__)), last_line(database).action) == (before, "load")


def test_two_fresh_otps_mend_one_token_which_goes_before_all_others(
    database: MovingDatabase, installation: Installation, desk: WebDesk, failed: Loaded, caplog: Any
) -> None:
    link = 'href="/batch/otps?name=box&amp;serial=MADE000000"'
    shown = (desk.read("/token", of="MADE000000"), desk.read("/search", batch="box", reason="invalid_otp"))
    assert [link in page for page in shown] == [True, True]
    page = type_otps(desk, 0, *FRESH, ticket="CHG-7")
    assert "Two fresh OTPs of token MADE000000 are on their way." in page
    assert type_otps(desk, 1, "222222", "222222").count("Nothing was done.") == 1
    assert "are on their way" in type_otps(desk, 1, " 222222", "333333 ")

    records = database.rows(select(Record.__table__).order_by(Record.id))
    assert [record.status for record in records[:2]] == [Status.PENDING] * 2
    assert max(each.scheduled_at for each in records[:2]) < records[2].scheduled_at
    pair = opened(records[0], installation.keyring)
    assert isinstance(pair, OtpPair)
    assert pair.second is not None
    assert (pair.first.reveal(), pair.second.reveal(), len(pair.spent)) == (*FRESH, 1)
    ages = records[1].otp_expires_at - records[1].generated_at, database.read_clock() - records[1].generated_at
    assert (ages[0], abs(ages[1]) < timedelta(minutes=1)) == (timedelta(seconds=120), True)

    line = read(database)[1]
    assert (line.action, line.actor, line.ticket, line.facts) == (
        ("mend", PERSON, "CHG-7", {"serial": "MADE000000", "again": 1})
    )
    assert f"mend by {PERSON}, ticket CHG-7" in read_text(desk.read("/token", of="MADE000000"))
    left = [repr(row) for table in (Record, AuditLine, Change) for row in database.rows(select(table.__table__))]
    assert [otp for otp in FRESH if any(otp in text for text in (*left, caplog.text))] == []
    assert "does not wait for fresh OTPs" in type_otps(desk, 0, *FRESH)


def test_a_person_with_another_token_of_the_batch_gets_their_first_one_mended_if_they_are_to_have_two(
    database: MovingDatabase, desk: WebDesk, failed: Loaded
) -> None:
    names = update(Record).where(Record.batch_id == failed.batch_id, Record.serial_number != "MADE000001")
    database.change(names.values(user_id=token(0)["user_id"]))
    assert "Select the checkbox below if they should have two" in type_otps(desk, 0, *FRESH)
    assert "are on their way" in type_otps(desk, 0, *FRESH, second="yes")


def test_no_otps_are_taken_by_a_desk_without_a_key_nor_for_what_they_would_not_mend(
    installation: Installation, database: MovingDatabase, desk: WebDesk, failed: Loaded
) -> None:
    variables = {name: value for name, value in installation.variables.items() if name != "OATHBULK_ENCRYPTION_KEYS"}
    keyless = WebDesk(Installation(variables))
    keyless.enter()
    reading = WebDesk(installation, is_read_only=True)
    reading.enter()
    for each in (keyless, reading):
        page = each.read("/token", of="MADE000000")
        assert ("/batch/otps" in page, "oathbulk mend box" in page) == (False, True)
        assert each.get("/batch/otps", name="box", serial="MADE000000").status_code == 404
    keyless.desk.installation.database.close()
    assert "does not wait for fresh OTPs" in type_otps(desk, 2, *FRESH)
    for others in ({"reason": Reason.LOCKED}, {"reason": Reason.INVALID_OTP, "next_counter": 7}):
        database.change(update(Record).where(Record.serial_number == "MADE000000").values(others))
        assert "/batch/otps" not in desk.read("/token", of="MADE000000")
    assert desk.get("/batch/otps", name="box", serial="MADE000009").status_code == 404
    assert [line.action for line in read(database)] == ["load"]


def test_a_batch_is_cancelled_by_who_types_its_name_and_then_goes_on_no_more(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    answer = desk.command("cancel", "shipment", typed_name="shipmen")
    assert (answer.status_code, last_line(database)) == (422, None)
    assert "type the name of the batch: shipment Nothing was done." in read_text(answer.text)
    assert "shipment is cancelled: 1 row is closed." in desk.command_well("cancel", "shipment", typed_name="shipment")
    assert statuses(database, shipment)[-1] == Status.CANCELLED
    written = last_line(database)
    assert (written.action, written.actor, written.ticket) == ("cancel", PERSON, None)
    answer = desk.command("resume", "shipment")
    said = ["batch 'shipment' is cancelled" in read_text(answer.text), "This was not done" in answer.text]
    assert (answer.status_code, said, last_line(database).id) == (409, [True, True], written.id)


def test_dead_letters_of_one_reason_go_again(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    page = desk.read("/batch/replay", name="shipment", reason="locked")
    assert '<option value="locked" selected>locked (2)' in page
    # A replay would leave these as they are.
    assert '<option value="rejected"' not in page
    said = desk.command_well("replay", "shipment", reason="locked", ticket="CHG-8")
    assert said.startswith("2 records of shipment are tried again.")
    assert statuses(database, shipment).count(Status.DEAD_LETTER) == 1
    assert (last_line(database).facts["reasons"], last_line(database).ticket) == (["locked"], "CHG-8")
    # A form that was shown before somebody cancelled the batch lets nothing of that go.
    answer = desk.command("replay", "shipment", cancelled="3")
    assert (answer.status_code, "since this form was shown" in read_text(answer.text)) == (409, True)
    # What stays is told line by line.
    assert "1 stays as it is:\n" in desk.command_well("replay", "shipment")


def test_the_pace_of_a_license_is_set_and_a_mistake_keeps_what_else_was_typed(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    answer = desk.command("pace", "shipment", pace="fixed", rate="nan", ticket='CHG "9"')
    assert (answer.status_code, last_line(database)) == (422, None)
    assert "The rate must be a number from 0.01 to 100,000. Nothing was done." in read_text(answer.text)
    kept = ('value="fixed" checked', 'name="rate" inputmode="decimal" value="nan"', 'value="CHG &#34;9&#34;"')
    assert ([part for part in kept if part not in answer.text], answer.text.count(" checked")) == ([], 1)
    desk.command_well("pace", "shipment", ticket="CHG-9", pace="share", share="60")
    (row,) = database.rows(select(LicensePace.__table__))
    assert (row.license, row.share, row.set_by, row.ticket) == (ENVIRONMENT_ID, 0.6, PERSON, "CHG-9")


def test_a_desk_to_look_at_commands_nothing(
    installation: Installation, database: MovingDatabase, shipment: Made
) -> None:
    desk = WebDesk(installation, is_read_only=True)
    desk.enter()
    page = desk.read("/batch", name="shipment")
    key = desk.desk.forms.make_key(Visitor(PERSON, desk.cookies["desk"]))
    for command in ("pause", "resume", "cancel", "replay", "pace"):
        path = f"/batch/{command}?name=shipment"
        assert (path in page, desk.get(path).status_code) == (False, 404)
        assert desk.post(path, {FORM_KEY: key, "typed_name": "shipment"}).status_code in (404, 405)
    assert "read-only" in page
    assert (look_at_batch(database, shipment.batch_id).state, last_line(database)) == (BatchState.RUNNING, None)
