"""The home that all is shown from: batches in every state, processes, a pace, what was learned, and an audit."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

from golden.frozen_desk import KEY, NOW, FrozenDesk, at
from sqlalchemy import insert, select, update
from support.data.batches import ENVIRONMENT_ID, Made, make_batch
from support.data.moving_clock import MovingDatabase

from models.attempt import AttemptLine
from models.audit import Action
from models.batch import Batch, BatchState
from models.change import Change
from models.encrypted import Keyring
from models.inventory_job import InventoryJob, JobKind, JobState
from models.pace import LicensePace
from models.process import WorkerProcess
from models.reason import CURES, PAUSE_CURES, SEED_CURES, PauseReason, Reason
from models.record import Record
from models.record_states import NOBODY, UNTIL_LET_GO, OtpState, OtpType, PairingState, Status
from models.refused_row import RefusedRow
from models.row_fault import FAULT_CURES, RowFault
from models.tenant_fact import FactName, TenantFact
from worker import __version__, audit


def _user(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


SECOND_ID = "9a1b7c3d-2e4f-4a6b-8c0d-1e2f3a4b5c6d"
SAMPLES = Path(__file__).parents[1] / "samples"
PEOPLE = "serial;E-Mail;Site\n" + "".join(
    f"MADE000000{number};{name}@example.test;Basel\n" for number, name in enumerate(("alice", "bob", "carol"), 1)
)
PAIRS = "serial,otp1,otp2,user_id,device_id\n" + "".join(
    f"{serial},{otp1},{otp2},{user},{device}\n"
    for serial, otp1, otp2, user, device in (
        ("NEW0000001", "308714", "367299", _user(21), _user(31)),
        ("NEW0000002", "283920", "", _user(22), _user(32)),
        ("NEW0000003", "28392", "000634", _user(23), _user(33)),
        ("NEW0000004", "283921", "000635", "nobody", _user(34)),
        ("NEW0000001", "308714", "367298", _user(25), _user(35)),
        ("MADE008000001", "308715", "367291", _user(26), _user(36)),
        ("NEW0000007", "308716", "367292", _user(27), _user(37)),
    )
)
# Rows that mend the batch `letters`: a fresh pair, one that was sent, a token that is active, and a refused row.
FAILED_ROWS = "serial,otp1,otp2,user_id,device_id,file_row\n" + "".join(
    f"{serial},{otp1},{otp2},{ids},{file_row}\n"
    for serial, otp1, otp2, ids, file_row in (
        ("MADE003000006", "283920", "000634", ",", 8),
        ("MADE003000007", "000007", "500007", ",", 9),
        ("MADE003000000", "", "", ",", 2),
        ("MADE000000018", "283921", "000635", f"{_user(51)},{_user(52)}", 18),
    )
)
# What is typed to load the box.
BOX = "box.xml --assign who.csv --key-file key.txt --import --pair --offline"
TOML = f"""\
[environments.second]
PINGONE_ENVIRONMENT_ID = "{SECOND_ID}"
PINGONE_CLIENT_ID = "client-2"
PINGONE_CLIENT_SECRET = "made-up-secret-2"
PINGONE_REGION = "EU"
PINGONE_RATE = 12.5
"""
# In PingOne: the batch `done` but for its last token, of which one is not ACTIVE; and a device that `seeds` made.
DEVICES = [
    *(
        {"serial": f"MADE002{n:06}", "user_id": str(UUID(int=n)), "device_id": str(UUID(int=2 << 64 | n))}
        | {"status": "ACTIVATION_REQUIRED" if n == 5 else "ACTIVE"}
        for n in range(7)
    ),
    {"serial": "MADE005000001", "user_id": str(UUID(int=1)), "device_id": str(UUID(int=5 << 64 | 1))},
]
UNKNOWN = [
    {"call": "otp1", "resync": False, "status": 503, "milliseconds": 91},
    {"call": "read", "milliseconds": 20000},
]
THROTTLED = {"call": "otp1", "resync": False, "status": 429, "milliseconds": 12, "correlation_id": "corr-3"}
ASKS_FOR_SECOND = {
    **{"call": "otp1", "resync": False, "status": 400, "code": "INVALID_DATA", "detail_code": "EXTRA_OTP_REQUIRED"},
    **{"milliseconds": 100, "error_id": "error-2", "correlation_id": "corr-1"},
}
UNSURE = {"otp1_state": OtpState.SENT, "otp1_posts": 1}
IN_WORK = UNSURE | {"status": Status.ACTIVATING, "lease_id": "lease-1", "lease_until": NOW + timedelta(seconds=40)}
HALF_DONE = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1, "requests": 1}
SENT_TWICE = HALF_DONE | {"otp2_state": OtpState.ANSWERED, "otp2_posts": 1, "requests": 2}
# What of its OTPs PingOne has answered, of a dead letter of these reasons.
SPENT = {
    **dict.fromkeys((Reason.INVALID_OTP, Reason.SECOND_OTP_MISSING, Reason.REJECTED), HALF_DONE),
    Reason.RESYNC_FAILED: SENT_TWICE,
}
SEED = {"next_counter": 3, "first_counter": 0, "user_id": "", "device_id": ""}
MADE = {"is_device_made": True, "is_token_made": True, "pairing": PairingState.PAIRED, "pairings": 1}


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def prepare(desk: FrozenDesk, sqlite_template: Path) -> None:
    """Make the home of this desk."""
    _write_files(desk.folder)
    desk.home.mkdir(mode=0o700)
    shutil.copyfile(sqlite_template, desk.home / "oathbulk.db")
    (desk.home / "oathbulk.db").chmod(0o600)
    (desk.home / "oathbulk.toml").write_text(TOML)
    (desk.home / "oathbulk.toml").chmod(0o600)
    with closing(MovingDatabase(f"sqlite:///{desk.home / 'oathbulk.db'}")) as database:
        _make_finished(database)
        _make_running(database)
        _make_paused(database)
        _make_unprepared(database)
        _make_fleet(database)
        _command(desk)
        _load_box(desk, database)
        _make_waves(database)


def _make_finished(database: MovingDatabase) -> None:
    with at(ago(days=120)):
        _make(database, "last year", 2 * [_active(ago(days=120))])
    with at(ago(hours=3)):
        done = _make(database, "done", [_active(ago(minutes=170 - number), number) for number in range(8)], lot="L-1")
    _update(database, done.ids[3], resynced=True, **SENT_TWICE)
    _update(database, done.ids[4], requests=3, rate_limited=1, attempts=2)
    for number, record_id in enumerate(done.ids):
        took = 180 + 40 * number
        only = {"call": "otp1", "resync": False, "status": 200, "milliseconds": took}
        second = {"call": "otp2", "resync": True, "status": 200, "milliseconds": took - 100, "correlation_id": "corr-2"}
        calls = {"calls": [ASKS_FOR_SECOND, second], "otp_posts": 2} if number == 3 else {"calls": [only]}
        _add_attempt(database, done, record_id, ago(minutes=170 - number), **calls)
    _change(database, done.ids[6], ago(hours=2), username="lea.santos")
    reasons = (
        *(*3 * [Reason.INVALID_OTP], *2 * [Reason.RESYNC_FAILED], Reason.LOCKED, Reason.REJECTED),
        *(Reason.DEVICE_NOT_FOUND, Reason.ATTEMPTS_SPENT, Reason.STALE_OTP, Reason.SECOND_OTP_MISSING),
    )
    with at(ago(hours=26)):
        letters = _make(
            database,
            "letters",
            [
                *(_active(ago(hours=25, minutes=number), number) for number in range(5)),
                *(_dead(reason, ago(hours=24, minutes=50 - n)) for n, reason in enumerate(reasons)),
            ],
            lot="L-2",
            refused={
                18: (RowFault.OTPS_UNFIT, "MADE000000018"),
                19: (RowFault.SERIAL_UNFIT, None),
                20: (RowFault.OTPS_UNFIT, "MADE000000020"),
            },
        )
    _explain_rejected(database, letters)
    with at(ago(hours=20)):
        _make(database, "again", [_active(ago(hours=19)) | {"serial_number": "MADE003000005"}, _active(NOW)])
    seed_reasons = (Reason.USER_NOT_FOUND, Reason.TOKEN_TAKEN, Reason.TOKEN_DIFFERS, Reason.PAIRING_FAILED)
    with at(ago(hours=30)):
        _make(
            database,
            "seeds",
            [
                *(_active(ago(hours=29), number) | MADE | {"next_counter": 1, "first_counter": 0} for number in (1, 2)),
                *(_dead(reason, ago(hours=29)) | SEED for reason in (*seed_reasons, Reason.USER_AMBIGUOUS)),
                _dead(Reason.INVALID_OTP, ago(hours=28))
                | SEED
                | MADE
                | {"user_id": _user(7), "device_id": _user(8), "detail": SEED_CURES[Reason.INVALID_OTP]},
            ],
        )
    with at(ago(hours=40)):
        cancelled = [*(_active(ago(hours=39), number) for number in (1, 2)), *2 * [{"status": Status.CANCELLED}]]
        _make(database, "given up", [*cancelled, UNSURE], state=BatchState.CANCELLED)


def _make_running(database: MovingDatabase) -> None:
    with at(ago(minutes=12)):
        running = _make(
            database,
            "running",
            [
                *(_active(ago(seconds=20 - number), number) for number in range(12)),
                *2 * [{"status": Status.QUEUED, "lease_until": NOW + timedelta(seconds=50)}],
                IN_WORK,
                HALF_DONE,
                UNSURE | {"scheduled_at": NOW + timedelta(seconds=10), "attempts": 1},
                {
                    "attempts": 2,
                    "otp1_posts": 2,
                    "requests": 4,
                    "rate_limited": 1,
                    "scheduled_at": NOW + timedelta(minutes=5),
                },
                HALF_DONE | {"verdict": Reason.INVALID_OTP, "scheduled_at": NOW + timedelta(seconds=30)},
                {"otp_type": OtpType.TOTP, "otp_expires_at": NOW + timedelta(minutes=46)},
                *20 * [{}],
                _dead(Reason.LOCKED, ago(seconds=8)),
            ],
            closes_at=NOW + timedelta(hours=5),
            daily_window="08:00-17:00",
            zone="UTC",
        )
    lines: tuple[dict[str, Any], ...] = (
        {"outcome": "retry", "reason": "outcome_unknown", "calls": UNKNOWN},
        {"outcome": "lost", "reason": "lease_ran_out", "worker": None, "otp_posts": 0, "calls": [{"call": "otp1"}]},
        {"outcome": "handed_back", "reason": "hold", "otp_posts": 0, "calls": 2 * [THROTTLED]},
    )
    for number, line in enumerate(lines):
        _add_attempt(database, running, running.ids[17], ago(minutes=8 - number), number=number + 1, **line)
    with at(ago(minutes=30)):
        _make(database, "still", [_active(ago(minutes=29)), *3 * [{}]])
        _make(database, "held", 4 * [{}], environment="second", environment_id=SECOND_ID)
        _make(database, "later", 3 * [{}], scheduled_at=NOW + timedelta(minutes=90))


def _make_paused(database: MovingDatabase) -> None:
    paused: dict[str, tuple[PauseReason, dict[str, Any]]] = {
        "by person": (PauseReason.PERSON, {}),
        "outage": (PauseReason.OUTAGE, {"probe_at": NOW + timedelta(minutes=2), "outages": 2}),
        "refused": (PauseReason.REFUSED, {}),
        "wrong otps": (PauseReason.INVALID_OTPS, {}),
        "at night": (
            PauseReason.WINDOW,
            {"daily_window": "22:00-05:30", "zone": "Europe/Berlin", "resumes_at": NOW + timedelta(hours=9)},
        ),
        "quota": (PauseReason.QUOTA, {"resumes_at": NOW + timedelta(hours=12)}),
        "spring's canary": (PauseReason.CANARY, {"canary": 2}),
    }
    for name, (reason, columns) in paused.items():
        with at(ago(hours=2)):
            records = [_active(ago(minutes=100), 1), _dead(Reason.REJECTED, ago(minutes=99)), *4 * [{}]]
            if reason == PauseReason.PERSON:
                records.append(IN_WORK)
            columns |= {"reason": reason, "detail": PAUSE_CURES[reason]}
            made = _make(database, name, records, state=BatchState.PAUSED, **columns)
        if reason == PauseReason.OUTAGE:
            for minutes in (9, 7, 5):
                _add_attempt(
                    database, made, made.ids[2], ago(minutes=minutes), outcome="handed_back", reason="not_delivered"
                )


def _make_unprepared(database: MovingDatabase) -> None:
    with at(ago(minutes=20)):
        made = _make(
            database,
            "people",
            [
                *2 * [SEED | {"email": "dora@example.test", "is_in_inventory": False}],
                SEED | {"username": "emil", "is_in_inventory": False},
                *2 * [SEED | {"user_id": _user(1), "is_in_inventory": False}],
                SEED | {"user_id": _user(2), "owner_id": NOBODY, "is_token_made": True},
                SEED | {"user_id": _user(3), "owner_id": NOBODY, "pairing": PairingState.SENT, "pairings": 1},
                SEED | MADE | {"user_id": _user(4), "device_id": _user(5)},
                _active(ago(minutes=1), 3) | MADE | {"otp1_posts": 0},
            ],
            may_import=True,
            may_pair=True,
            inventory_read_at=ago(minutes=18),
        )
    job = {"batch_id": made.batch_id, "kind": JobKind.IMPORT, "state": JobState.RUNNING, "job_id": "job-1", "size": 2}
    _write(database, insert(InventoryJob), [job | {"sent_at": ago(minutes=2)}])


def _make_fleet(database: MovingDatabase) -> None:
    started = {"version": __version__, "started_at": ago(hours=4), "ticked_at": None}
    sick = {"sick_since": ago(minutes=3), "reason": "network", "detail": "It cannot reach PingOne; see its proxy."}
    usual = dict.fromkeys(sick)
    processes = [
        started | usual | {"name": "host-1:4711", "seen_at": ago(seconds=2), "ticked_at": ago(seconds=1)},
        started | sick | {"name": "host-2:17", "seen_at": ago(minutes=3)},
        started | usual | {"name": "host-3:9", "seen_at": ago(hours=1)},
    ]
    _write(database, insert(WorkerProcess), processes)
    held = {"held_since": ago(minutes=1), "held_until": NOW + timedelta(seconds=90), "held_why": "PingOne asked for it"}
    found = {"rate": 38.0, "ceiling": 40.0, "found_at": ago(hours=1), "share": 0.6, "set_by": "alice"}
    _write(
        database, insert(LicensePace), [{"license": ENVIRONMENT_ID, "set_at": ago(hours=5), "ticket": "CHG-1"} | found]
    )
    _write(database, insert(LicensePace), [{"license": SECOND_ID, "rate": 12.5} | held])
    fact = {"environment_id": ENVIRONMENT_ID, "name": FactName.RESYNC_ON_FIRST_CALL, "seen_at": ago(hours=25)}
    _write(database, insert(TenantFact), [fact | {"value": {"needs": "yes", "refused": 2, "taken": 5}}])


def _command(desk: FrozenDesk) -> None:
    """Type what persons type, each at a moment of its own."""
    lines = (
        ("pause", "still", "--ticket", "CHG-7"),
        ("resume", "still"),
        ("pace", "--share", "60%", "--ticket", "CHG-1"),
        ("purge", "--older-than", "90d", "--yes", "--ticket", "CHG-9"),
    )
    for minutes, words in enumerate(lines):
        with at(ago(minutes=30 - minutes)):
            printed = desk.type(*words)
            assert printed.code == 0, printed


def _load_box(desk: FrozenDesk, database: MovingDatabase) -> None:
    """Load a vendor's encrypted file with a list of people, as it came from the box, and go on with it a little."""
    with at(ago(minutes=10)):
        printed = desk.type("load", *BOX.split(), "--ticket", "CHG-8")
    assert printed.code == 0, printed
    with database.reading() as connection:
        first, second, _ = connection.scalars(select(Record.id).order_by(Record.id.desc()).limit(3)).all()
    paired = MADE | {"user_id": _user(6), "device_id": _user(9), "is_in_inventory": True}
    _update(database, first, **paired, **HALF_DONE)
    _update(database, second, user_id=_user(5), is_in_inventory=True, pairing=PairingState.SENT, pairings=1)


def _make_waves(database: MovingDatabase) -> None:
    """Basel goes live, Zürich tomorrow and Chur in a week; a person keeps Genf back."""
    tomorrow, next_week = NOW + timedelta(hours=20), NOW + timedelta(days=7, hours=20)
    with at(ago(minutes=5)):
        records = [
            *((_active(ago(minutes=3, seconds=n)) | {"extra": {"Site": "Basel"}}) for n in range(4)),
            _dead(Reason.INVALID_OTP, ago(minutes=3)) | {"extra": {"Site": "Basel"}},
            *3 * [{"extra": {"Site": "Zürich"}, "not_before": tomorrow, "scheduled_at": tomorrow}],
            *2 * [{"extra": {"Site": "Chur"}, "not_before": next_week, "scheduled_at": next_week}],
            {"extra": {"Site": "Genf"}, "not_before": UNTIL_LET_GO, "scheduled_at": UNTIL_LET_GO},
            _active(ago(minutes=2)) | {"extra": None},
        ]
        _make(database, "waves", records, columns=["serial", "otp1", "otp2", "Site", "not_before"])


def _write_files(folder: Path) -> None:
    """Write what a person would load: a box with its list and key, and OTP pairs, some of whose rows are refused."""
    shutil.copy(SAMPLES / "formats" / "pskc" / "pskc_psk_aes128cbc.xml", folder / "box.xml")
    for name in ("good/totp", "unusable/otp1_column_missing"):
        shutil.copy(SAMPLES / "otp_pairs" / f"{name}.csv", folder)
    texts = {
        "who.csv": PEOPLE,
        "key.txt": "00112233445566778899aabbccddeeff\n",
        "pairs.csv": PAIRS,
        "hall.csv": f"serial,otp1,user_id,device_id,Hall\nHALL1,308714,{_user(41)},{_user(42)},East\n",
        "leavers.csv": "serial_number\nMADE005000001\nMADE005000003\nNOTOURS1\n",
        "failed.csv": FAILED_ROWS,
        "dates.csv": (
            f"serial,otp1,user_id,device_id,not_before\nDATE1,308714,{_user(43)},{_user(44)},2099-12-24\n"
            f"DATE2,308715,{_user(45)},{_user(46)},\nDATE3,308716,{_user(47)},{_user(48)},24.12.2027\n"
            f"DATE4,308717,{_user(49)},{_user(50)},2027-03-28T02:30\n"
        ),
        "heads.txt": f"3 {64 * 'a'} 2026-03-02T11:32:00+00:00\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "key.txt").chmod(0o600)


def _make(
    database: MovingDatabase,
    name: str,
    records: list[dict[str, Any]],
    *,
    refused: Mapping[int, tuple[RowFault, str | None]] = MappingProxyType({}),
    state: BatchState = BatchState.RUNNING,
    environment: str = "default",
    environment_id: str = ENVIRONMENT_ID,
    **columns: Any,
) -> Made:
    """Make a batch at the present moment; `columns` are of the batch where it has such a one, else of its records."""
    of_batch = {key: value for key, value in columns.items() if key in Batch.__table__.columns}
    common = {key: value for key, value in columns.items() if key not in of_batch}
    named = [{"username": f"user{number}", "email": None} | each for number, each in enumerate(records, 1)]
    made = make_batch(
        database,
        named,
        name=name,
        state=state,
        environment=environment,
        environment_id=environment_id,
        file_sha256=f"{name:x<64}",
        keyring=Keyring([KEY]),
        **common,
    )
    values = {"rows_refused": len(refused)} | of_batch
    _write(database, update(Batch).where(Batch.id == made.batch_id).values(values))
    for row, (fault, serial) in refused.items():
        known = {"batch_id": made.batch_id, "row_number": row, "environment_id": environment_id}
        said = {"serial_number": serial, "reason": fault, "detail": FAULT_CURES[fault]}
        _write(database, insert(RefusedRow), [known | said])
    return made


def _active(moment: datetime, number: int = 0) -> dict[str, Any]:
    columns = {"status": Status.ACTIVE, "finalized_at": moment, "attempts": 1}
    return HALF_DONE | columns | {"extra": {"Site": ("Basel", "Bern")[number % 2]}}


def _dead(reason: Reason, moment: datetime) -> dict[str, Any]:
    columns = {"status": Status.DEAD_LETTER, "reason": reason, "detail": CURES[reason], "finalized_at": moment}
    known = {"correlation_id": "correlation-1", "pingone_error_id": "error-1"}
    return columns | known | {"attempts": 2} | SPENT.get(reason, {})


def _explain_rejected(database: MovingDatabase, letters: Made) -> None:
    """Give the dead letter that was refused for another cause a history."""
    answer = {"status": 400, "code": "INVALID_DATA", "detail_code": "INVALID_VALUE", "correlation_id": "corr-1"}
    first = {"number": 1, "outcome": "retry", "reason": "outcome_unknown", "calls": UNKNOWN}
    _update(database, letters.ids[11], otp1_posts=2, requests=3)
    _add_attempt(database, letters, letters.ids[11], ago(hours=25), **first)
    refused = {"call": "otp1", "resync": False, "milliseconds": 87, "error_id": "error-1"} | answer
    last = {"number": 2, "outcome": "dead_letter", "reason": Reason.REJECTED, "calls": [refused]}
    _add_attempt(database, letters, letters.ids[11], ago(hours=24, minutes=44), **last)


def _add_attempt(database: MovingDatabase, made: Made, record_id: int, moment: datetime, **columns: Any) -> None:
    usual = {"number": 1, "outcome": "active", "worker": "host-1:4711", "otp_posts": 1}
    known = {"record_id": record_id, "batch_id": made.batch_id, "lease_id": "lease-0", "ended_at": moment}
    calls = columns.get("calls") or ()
    # Of an attempt whose worker died, the calls are not counted.
    took = sum(call["milliseconds"] for call in calls) if columns.get("worker", "") is not None and calls else None
    cost = {"requests": 0 if took is None else len(calls), "call_milliseconds": took}
    _write(database, insert(AttemptLine), [usual | known | cost | columns])


def _change(database: MovingDatabase, record_id: int, moment: datetime, **before: Any) -> None:
    """Let a mend have given the token of a record to another person, and another device."""
    before = {"user_id": _user(60), "device_id": _user(61)} | before
    _write(database, insert(Change), [before | {"record_id": record_id}])
    with at(moment), database.writing() as connection:
        actor = audit.Actor("alice", "INC-12")
        audit.append(database, connection, actor, Action.MEND, "done", {"again": 1, "accepted": ["person_differs"]})


def _update(database: MovingDatabase, record_id: int, **columns: Any) -> None:
    _write(database, update(Record).where(Record.id == record_id).values(columns))


def _write(database: MovingDatabase, statement: Any, rows: list[dict[str, Any]] | None = None) -> None:
    with database.writing() as connection:
        connection.execute(statement, rows)
