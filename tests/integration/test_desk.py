"""The desk over both databases: its pages show what is there, and what is commanded at it is done and written down."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from support.data.batches import ENVIRONMENT_ID, Made, look_at_batch, make_batch, statuses
from support.data.moving_clock import MovingDatabase
from support.servers.web_desk import PERSON, WebDesk

from migrations import HEAD
from models.audit import AuditLine
from models.batch import Batch, BatchState
from models.pace import LicensePace
from models.reason import NEEDS_MENDING, PauseReason, Reason
from models.record import Record
from models.record_states import Status
from models.refused_row import RefusedRow
from worker.desk.views import link_to
from worker.installation.installation import Installation

ODD = (
    "a/b",
    "what?",
    "a&name=b",
    "50%",
    'it\'s "so"',
    "<script>alert(1)</script>",
    "ü 日本",
    "../../etc/passwd",
    "a#b",
)
HOSTILE = "<img src=x onerror=alert(1)>"
DEAD = [{"status": Status.DEAD_LETTER, "reason": reason} for reason in (Reason.LOCKED, Reason.LOCKED, Reason.REJECTED)]


@pytest.fixture
def installation(database_url: str, database: MovingDatabase, tmp_path: Path) -> Iterator[Installation]:
    variables = {"OATHBULK_HOME": str(tmp_path / "home"), "OATHBULK_DATABASE_URL": database_url}
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


def read_text(page: str) -> str:
    """What a person reads of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def last_line(database: MovingDatabase) -> Any:
    with database.reading() as connection:
        return connection.execute(select(AuditLine.__table__).order_by(AuditLine.id.desc())).first()


# What is shown.


def test_shipments_are_listed_with_how_they_stand(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    assert "2 of 6" in read_text(desk.read("/"))
    make_batch(database, 2, name="another", status=Status.ACTIVE)

    page = desk.read("/")

    assert re.findall(r'<th scope="row"><a [^>]*>([^<]*)</a></th>', page) == ["another", "shipment"]
    assert "another finished 2 of 2 active, 0 given up 2 of 2 active" in read_text(page)


def test_the_list_of_shipments_adds_up_and_shows_which_nobody_works_on(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    make_batch(database, [{"status": Status.CANCELLED}, {"status": Status.ACTIVE}, {}], name="another")
    with database.writing() as connection:
        connection.execute(update(Batch).where(Batch.name == "another").values(rows_refused=2, state="paused"))

    first, last = desk.read("/").split("<tbody>")[1].split("</table>")[0].split("<tfoot>")

    assert re.findall(r'<td class="n[^>]*>(\d+)</td>', first) == ["3", "1", "3", "1"]
    assert read_text(last) == "2 shipments 3 of 11 active, 6 given up 3 of 11 active 6 2"
    (alarm,) = re.findall(r'<p class="alarm">(.*)</p>', first)
    assert alarm == "Waiting for a worker."


def test_before_anything_was_loaded_each_page_says_so(desk: WebDesk, tmp_path: Path) -> None:
    assert "No batch was loaded yet." in desk.read("/")
    assert "Nothing was commanded yet." in desk.read("/audit")
    assert "No record is like that." in desk.read("/search", text="ACME")
    assert "No record is activating." in desk.read("/search", status="activating")
    empty = WebDesk(Installation({"OATHBULK_HOME": str(tmp_path / "nothing")}))
    empty.enter()
    assert "No batch was loaded yet." in empty.read("/")
    for path in ("/audit", "/search?text=x", "/batch?name=x", "/token?of=x", "/batch/pause?name=x"):
        answer = empty.get(path)
        assert answer.status_code == 404
        assert "nothing was loaded yet" in answer.text
    assert not (tmp_path / "nothing").exists()


def test_a_batch_shows_counts_reasons_with_cures_and_a_chart(desk: WebDesk, shipment: Made) -> None:
    page = desk.read("/batch", name="shipment")
    text = read_text(page)
    assert "2 of 6 tokens are active; 4 are not: 3 were given up and 1 is still to do." in text
    assert re.search(r"locked 2 .* Unlock it in PingOne", text)
    assert 'aria-labelledby="chart-title chart-desc"' in page
    assert text.count("rows of the batch 6") == 1
    assert page.index('href="/batch/pause?name=shipment"')
    assert 'href="/batch/replay?name=shipment&amp;reason=locked"' in page


def test_a_batch_shows_its_refused_rows_by_reason_with_the_cure(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    assert "Refused rows" not in desk.read("/batch", name="shipment")
    row = {"batch_id": shipment.batch_id, "environment_id": ENVIRONMENT_ID, "reason": "otps_unfit", "detail": "short"}
    with database.writing() as connection:
        connection.execute(insert(RefusedRow), [row | {"row_number": number} for number in (10, 11)])
        connection.execute(update(Batch).values(rows_refused=2))

    for path in ("/batch", "/batch/report"):
        assert "otps_unfit 2 An OTP, its type or its time is missing" in read_text(desk.read(path, name="shipment"))
    assert 'href="/search?batch=shipment&amp;status=refused"' in desk.read("/batch", name="shipment")


def test_a_replay_is_offered_where_it_helps_and_a_file_for_fresh_otps_where_it_does_not(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    page = desk.read("/batch", name="shipment")
    assert 'href="/batch/replay?name=shipment&amp;reason=rejected"' not in page
    assert 'href="/batch/left?name=shipment&amp;reason=rejected"' in page
    assert 'href="/batch/left?name=shipment&amp;reason=locked"' not in page
    for reason, number in (("rejected", 1), ("locked", 2), ("made_up", 3)):
        kept = csv.DictReader(io.StringIO(desk.read("/batch/left", name="shipment", reason=reason)))
        assert len(list(kept)) == number
    in_vain = [{"status": Status.DEAD_LETTER, "reason": reason} for reason in NEEDS_MENDING]
    make_batch(database, [DEAD[2], *in_vain], name="hopeless")
    text = read_text(desk.read("/batch", name="hopeless"))
    assert "Corrected, they go again: oathbulk mend hopeless hopeless-left.csv" in text
    assert "oathbulk export" not in text
    assert "/batch/replay" not in desk.read("/batch", name="hopeless")


def test_a_pause_is_shown_with_its_reason_and_the_way_on(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    with database.writing() as connection:
        stop = {"state": BatchState.PAUSED, "reason": PauseReason.CREDENTIALS, "detail": f"PingOne said {HOSTILE}"}
        connection.execute(update(Batch).values(stop))
    page = desk.read("/batch", name="shipment")
    assert f"Paused (credentials): PingOne said {HOSTILE} It waits for a person." in read_text(page)
    assert "oathbulk resume" not in page + desk.read("/") + desk.read("/token", of="MADE001000005")
    assert "oathbulk resume shipment" in desk.read("/batch/report", name="shipment")
    assert HOSTILE not in page
    assert 'href="/batch/resume?name=shipment"' in page
    assert 'href="/batch/pause?name=shipment"' not in page


def test_a_token_shows_its_history(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    page = desk.read("/token", of="MADE001000002")
    text = read_text(page)
    assert "Dead letter: locked" in text
    assert "Batch shipment , row 4" in text
    assert 'href="/batch/replay?name=shipment&amp;reason=locked">Replay …' in page
    for unknown in ("MADE9", "", "'; DROP TABLE record; --", "#999999999999999999"):
        answer = desk.get("/token", of=unknown)
        assert answer.status_code == 404
        assert "no record has" in answer.text


def test_a_search_finds_by_the_beginning_and_by_batch_status_and_reason(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    make_batch(database, [{"username": "alice.b", "lot": "L-7"}], name="other")
    assert "1 record." in desk.read("/search", text="alice")
    assert "1 record." in desk.read("/search", text="L-7", status="pending")
    assert "2 records." in desk.read("/search", batch="shipment", reason="locked")
    assert "7 records." in desk.read("/search", text="MADE")
    assert "No record is like that." in desk.read("/search", text="lice")
    assert desk.get("/search", batch="nothing").status_code == 404


def test_a_long_list_is_cut_and_the_rest_counted(database: MovingDatabase, desk: WebDesk) -> None:
    make_batch(database, 250)
    page = desk.read("/search", batch="shipment")
    assert "200 records." in page
    assert "50 more are not listed" in page
    assert page.count("<tr>") == 201


def test_refused_rows_of_a_long_list_are_counted_too(database: MovingDatabase, desk: WebDesk) -> None:
    made = make_batch(database, 1)
    same = {"batch_id": made.batch_id, "environment_id": ENVIRONMENT_ID, "reason": "otps_unfit", "detail": "too short"}
    with database.writing() as connection:
        connection.execute(insert(RefusedRow), [same | {"row_number": number} for number in range(10, 211)])

    alone, both = (desk.read("/search", **sought) for sought in ({"status": "refused"}, {"batch": "shipment"}))

    assert (alone.count("was refused"), "1 more is not listed" in alone) == (200, True)
    assert "1 record." in both
    assert (both.count("was refused"), "2 more are not listed" in both) == (199, True)


# Text from outside.


@pytest.mark.faults
def test_a_batch_may_be_called_anything(database: MovingDatabase, desk: WebDesk) -> None:
    for name in ODD:
        make_batch(database, [*DEAD, {}], name=name)
    first = desk.read("/")
    assert "<script>alert" not in first
    listed = [unescape(link) for link in re.findall(r'href="(/batch\?[^"]*)"', first)]
    assert listed == [link_to("/batch", name=name) for name in reversed(ODD)]

    for name, link in zip(reversed(ODD), listed, strict=True):
        check_pages_of(desk, name, desk.read(link))


def check_pages_of(desk: WebDesk, name: str, page: str) -> None:
    """Its page, what that leads to, a command and a download mean this batch."""
    assert f"Batch {name}" in read_text(page)
    assert "<script>alert" not in page
    links = {unescape(link) for link in re.findall(r'href="(/[^"]*)"', page)}
    # Of the first batches all of them, of the others some.
    for link in sorted(links)[:: 1 if name in ODD[:2] else 4]:
        assert desk.get(link).status_code == 200, link
    assert desk.command_well("pause", name).startswith(f"{name} is paused.")
    answer = desk.get("/batch/report", name=name)
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9._-]+\.html"', answer.headers["content-disposition"])
    assert f"Batch {name}" in read_text(answer.text)
    assert "<script" not in answer.text


def test_no_name_serial_number_or_reason_becomes_markup(database: MovingDatabase, desk: WebDesk) -> None:
    columns = {name: f"{HOSTILE}{name}" for name in ("serial_number", "username", "email", "lot")}
    made = make_batch(database, [columns | DEAD[0], {}], name=f"b{HOSTILE}", environment=f"e{HOSTILE}")
    with database.writing() as connection:
        connection.execute(update(Batch).where(Batch.id == made.batch_id).values(file=f"{HOSTILE}.csv"))
    serial = columns["serial_number"]
    for path, parameters in (
        ("/", {}),
        ("/batch", {"name": made.name}),
        ("/batch/cancel", {"name": made.name}),
        ("/batch/replay", {"name": made.name}),
        ("/token", {"of": serial}),
        ("/search", {"text": HOSTILE}),
        ("/search", {"text": serial, "batch": made.name}),
    ):
        page = desk.read(path, **parameters)
        assert "<img" not in page
        assert HOSTILE in read_text(page) or HOSTILE in unescape(page)
    for path, parameters in (("/batch", {"name": HOSTILE}), ("/token", {"of": HOSTILE}), (f"/{HOSTILE}", {})):
        answer = desk.get(path, **parameters)
        assert answer.status_code == 404
        assert "<img" not in answer.text
    desk.command_well("pause", made.name, ticket=HOSTILE)
    assert "<img" not in desk.read("/audit")
    assert "<img" not in desk.read("/batch", name=made.name)


def test_what_turns_the_direction_of_writing_is_shown_as_its_code(database: MovingDatabase, desk: WebDesk) -> None:
    columns = {"serial_number": "ACME\u202e71", "username": "bob\u2066x", "lot": "L\u200f\u202b1"}
    make_batch(database, [columns | DEAD[0]], name="turned\u202e")
    pages = [desk.read("/"), desk.read("/batch", name="turned\u202e"), desk.read("/search", batch="turned\u202e")]
    pages.append(desk.read("/token", of="ACME\u202e71"))
    for page in pages:
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", page)
    assert "ACME\\u202e71" in pages[3]


# Files.


def test_the_page_of_a_batch_comes_as_a_file_without_what_only_the_desk_can_do(desk: WebDesk, shipment: Made) -> None:
    answer = desk.get("/batch/report", name="shipment")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-disposition"] == 'attachment; filename="shipment-report.html"'
    shown, kept = read_text(desk.read("/batch", name="shipment")), read_text(answer.text)
    for said in ("2 of 6 tokens are active; 4 are not", "rows of the batch 6", "Unlock it in PingOne"):
        assert said in shown
        assert said in kept
    for only in ("<a ", "<form", "<button", "href=", "data-refresh", PERSON):
        assert only not in answer.text
    assert "Pause …" in shown
    assert "Pause …" not in kept


def test_what_is_left_comes_as_a_file_to_mend(desk: WebDesk, shipment: Made) -> None:
    answer = desk.get("/batch/left", name="shipment")
    assert answer.headers["content-disposition"] == 'attachment; filename="shipment-left.csv"'
    assert 'href="/batch/left?name=shipment"' in desk.read("/batch", name="shipment")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["serial"] for row in rows] == ["MADE001000002", "MADE001000003", "MADE001000004"]
    assert {row["otp1"] + row["otp2"] for row in rows} == {""}


@pytest.mark.parametrize("path", ["/batch/report", "/batch/left", "/batch", "/batch/pause", "/batch/cancel"])
def test_a_batch_that_is_not_there_is_no_file_and_no_form(desk: WebDesk, shipment: Made, path: str) -> None:
    for parameters in ({"name": "purged"}, {}):
        answer = desk.get(path, **parameters)
        assert answer.status_code == 404
        assert "content-disposition" not in answer.headers


# Commands.


def test_a_pause_is_done_in_the_persons_name_and_told_once(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    said = desk.command_well("pause", "shipment", ticket="CHG-7")
    assert said == "shipment is paused. A resume lets it go on."
    assert look_at_batch(database, shipment.batch_id).state == BatchState.PAUSED
    line = last_line(database)
    assert (line.action, line.batch, line.actor, line.ticket) == ("pause", "shipment", PERSON, "CHG-7")
    assert "is paused. A resume" not in desk.read("/").split("</thead>")[0]
    assert 'class="done"' not in desk.read("/batch", name="shipment")
    assert f"{PERSON} pause shipment CHG-7" in read_text(desk.read("/audit"))


def test_what_was_done_to_a_batch_is_told_on_its_page(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    make_batch(database, 1, name="other")
    answer = desk.command("pause", "shipment")
    assert 'class="done"' not in desk.read("/batch", name="other")
    assert 'class="done"' in desk.read(answer.headers["location"])


def test_a_batch_is_resumed(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    desk.command_well("pause", "shipment")
    assert "shipment may run, but nothing works on it." in desk.command_well("resume", "shipment")
    assert look_at_batch(database, shipment.batch_id).state == BatchState.RUNNING
    assert (last_line(database).action, last_line(database).actor) == ("resume", PERSON)


def hold(database: MovingDatabase) -> None:
    now = database.read_clock()
    held = {"held_since": now, "held_until": now + timedelta(minutes=2), "held_why": f"PingOne asked {HOSTILE}"}
    with database.writing() as connection:
        connection.execute(insert(LicensePace).values(license=ENVIRONMENT_ID, rate=40.0, ceiling=50.0, **held))


def is_to_be_lifted(database: MovingDatabase) -> bool:
    with database.reading() as connection:
        return bool(connection.scalar(select(LicensePace.is_to_be_lifted)))


def test_a_hold_is_ended_with_a_resume_if_that_was_asked_for(
    database: MovingDatabase, desk: WebDesk, shipment: Made
) -> None:
    hold(database)
    assert "<img" not in desk.read("/batch", name="shipment")
    assert "All workers hold until" in read_text(desk.read("/batch/resume", name="shipment"))
    desk.command_well("resume", "shipment")
    assert not is_to_be_lifted(database)
    assert "A hold of its workers ends within seconds." in desk.command_well("resume", "shipment", now="yes")
    assert is_to_be_lifted(database)


def test_a_batch_is_cancelled_by_who_types_its_name(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    for typed in ({}, {"typed_name": "shipmen"}):
        answer = desk.command("cancel", "shipment", **typed)
        assert answer.status_code == 422
        assert "type the name of the batch: shipment Nothing was done." in read_text(answer.text)
    assert last_line(database) is None
    assert "shipment is cancelled: 1 record." in desk.command_well("cancel", "shipment", typed_name="shipment")
    assert statuses(database, shipment)[-1] == Status.CANCELLED
    line = last_line(database)
    assert (line.action, line.actor, line.ticket) == ("cancel", PERSON, None)


def test_what_a_replay_leaves_is_told_line_by_line(desk: WebDesk, shipment: Made) -> None:
    said = desk.command_well("replay", "shipment")
    assert "1 stays as it is:\n" in said
    assert "\\n" not in said


def test_dead_letters_of_one_reason_go_again(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    page = desk.read("/batch/replay", name="shipment", reason="locked")
    assert '<option value="locked" selected>locked (2)' in page
    # A replay would leave these as they are.
    assert '<option value="rejected"' not in page
    said = desk.command_well("replay", "shipment", reason="locked", ticket="CHG-8")
    assert said.startswith("2 records of shipment go again.")
    assert statuses(database, shipment).count(Status.DEAD_LETTER) == 1
    assert (last_line(database).facts["reasons"], last_line(database).ticket) == (["locked"], "CHG-8")
    assert desk.command("replay", "shipment", reason="made_up").status_code == 422


@pytest.mark.parametrize(
    ("fields", "column", "value"),
    [
        ({"pace": "share", "share": "60"}, "share", 0.6),
        ({"pace": "fixed", "rate": "12.5"}, "fixed_rate", 12.5),
        ({"pace": "adapt"}, "fixed_rate", None),
        ({"pace": "lift"}, "is_to_be_lifted", True),
    ],
)
def test_the_pace_of_a_license_is_set(
    database: MovingDatabase, desk: WebDesk, shipment: Made, fields: dict[str, str], column: str, value: Any
) -> None:
    desk.command_well("pace", "shipment", ticket="CHG-9", **fields)
    with database.reading() as connection:
        row = connection.execute(select(LicensePace.__table__)).one()
    assert (row.license, row._mapping[column]) == (ENVIRONMENT_ID, value)
    line = last_line(database)
    assert (line.actor, line.ticket, line.facts["license"]) == (PERSON, "CHG-9", ENVIRONMENT_ID)


def test_a_mistake_keeps_what_else_was_typed(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    answer = desk.command("pace", "shipment", pace="fixed", rate="nan", ticket='CHG "9"')
    assert answer.status_code == 422
    assert "The rate is a number from 0.01 to 100,000. Nothing was done." in read_text(answer.text)
    for kept in ('value="fixed" checked', 'name="rate" inputmode="decimal" value="nan"', 'value="CHG &#34;9&#34;"'):
        assert kept in answer.text
    assert answer.text.count(" checked") == 1
    assert last_line(database) is None


def test_what_is_not_possible_is_told(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    desk.command_well("cancel", "shipment", typed_name="shipment")
    written = last_line(database).id
    for command in ("pause", "resume"):
        answer = desk.command(command, "shipment")
        assert answer.status_code == 409
        assert "batch 'shipment' is cancelled" in read_text(answer.text)
        assert "This was not done" in answer.text
    assert last_line(database).id == written


def test_a_finished_batch_has_nothing_left_to_run(database: MovingDatabase, desk: WebDesk) -> None:
    make_batch(database, [{"status": Status.ACTIVE}], name="july")
    answer = desk.command("resume", "july")
    assert answer.status_code == 409
    assert "batch 'july' is finished: nothing of it is left to run" in read_text(answer.text)


def test_a_batch_that_is_gone_is_commanded_no_more(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    key = desk.read_form_key("pause", "shipment")
    answer = desk.post("/batch/pause?name=purged", {"form_key": key})
    assert answer.status_code == 404
    assert desk.post("/batch/pause", {"form_key": key, "name": "shipment"}).status_code == 404
    assert look_at_batch(database, shipment.batch_id).state == BatchState.RUNNING


def test_a_desk_to_look_at_commands_nothing(
    installation: Installation, database: MovingDatabase, shipment: Made
) -> None:
    desk = WebDesk(installation, is_read_only=True)
    desk.enter()
    page = desk.read("/batch", name="shipment")
    for command in ("pause", "resume", "cancel", "replay", "pace"):
        assert f"/batch/{command}?" not in page
        path = f"/batch/{command}?name=shipment"
        assert desk.get(path).status_code == 404
        key = desk.desk.forms.make_key(desk.desk.door.recognise(_Asked(desk)))  # type: ignore[arg-type]
        assert desk.post(path, {"form_key": key, "typed_name": "shipment"}).status_code in (404, 405)
    assert "read-only" in page
    assert look_at_batch(database, shipment.batch_id).state == BatchState.RUNNING
    assert last_line(database) is None


class _Asked:
    """As much of a request as a door looks at."""

    def __init__(self, desk: WebDesk) -> None:
        self.cookies = dict(desk.cookies)


# Trouble.


def test_a_database_out_of_reach_is_told_in_a_sentence(tmp_path: Path) -> None:
    variables = {"OATHBULK_HOME": str(tmp_path), "OATHBULK_DATABASE_URL": "postgresql+psycopg://u:hidden@127.0.0.1:1/x"}
    desk = WebDesk(Installation(variables))
    desk.enter()
    for path in ("/", "/audit", "/search?text=x", "/batch?name=x", "/token?of=x", "/batch/report?name=x"):
        answer = desk.get(path)
        assert answer.status_code == 503
        assert "a server failed: OperationalError" in answer.text
        assert "hidden" not in answer.text


def test_a_schema_of_another_version_is_told(installation: Installation, database: MovingDatabase) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    desk = WebDesk(installation)
    desk.enter()
    try:
        answer = desk.get("/")
        assert answer.status_code == 503
        assert "oathbulk" in answer.text
    finally:
        with database.writing() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{HEAD}'")


def test_many_at_once_get_their_pages(desk: WebDesk, shipment: Made) -> None:
    paths = ["/", "/batch?name=shipment", "/search?text=MADE", "/audit", "/batch/report?name=shipment"] * 8
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda path: desk.request("GET", path).status_code, paths))
    assert set(answers) == {200}


def test_any_text_is_searched_for(desk: WebDesk, shipment: Made) -> None:
    for text in ("x" * 8000, "%" * 2000, "_" * 8000, "\\" * 2000, "'" * 2000, "🔑" * 600, "MADE\\"):
        assert "No record is like that." in desk.read("/search", text=text)
    assert desk.get("/batch", name="x" * 8000).status_code == 404


def test_no_page_holds_an_otp(database: MovingDatabase, desk: WebDesk, shipment: Made) -> None:
    with database.writing() as connection:
        connection.execute(update(Record).where(Record.otps.is_not(None)).values(otps=b"48151623-42108815"))
    paths = ["/", "/audit", "/batch?name=shipment", "/search?batch=shipment", "/token?of=MADE001000002"]
    paths += ["/batch/left?name=shipment", "/batch/report?name=shipment"]
    for path in paths:
        assert "48151623" not in desk.read(path)
