"""Checks a shipment by its files and our own records: finds rows that the load will refuse or skip, OTPs that are not
consecutive or too old, and tokens that need presses on the first morning. Reads rows as the load does; writes
nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from shlex import quote

from sqlalchemy import Connection, create_engine

from models.base import Base
from models.encrypted import Keyring, generate_key
from models.row_fault import RowFault
from worker.batches.loading import CHUNK, Conflicts, LoadCounts, Loaded, describe_known, part_left_out
from worker.batches.mending import Corrections, MendedBatch, list_names
from worker.config.settings import Settings
from worker.intake.formats import OTP_PAIRS
from worker.intake.rows import Row, RowError, RowErrors, canonical_column, find_alike
from worker.intake.shipment import Leftovers, Shipment
from worker.observability.progress import OnProgress, tell_nobody, telling
from worker.observability.wording import count_things
from worker.preflight.findings import NAMED, Finding, Level, Report, Verdicts, name_person, name_tokens, write_date
from worker.vault.otps import OtpPair, Seed

# How long PingOne keeps a device that waits for its activation.
DEVICE_WAITS = timedelta(hours=24)
# Asked about a shipment, or about a batch before a mend.
ANOTHER_FOR_PERSON = (
    "Tokens for people who have, or will get, another token of this {whole}: {{n}}. Check whether they should have two."
)


def check_files(
    shipment: Shipment, verdicts: Verdicts, leftovers: Leftovers, *, totp_max_age: float, now: datetime | None = None
) -> list[Finding]:
    """Check the rows and the list. `totp_max_age` in seconds: how long a TOTP pair may be sent."""
    text = (
        "Pairs whose OTPs are not consecutive, according to the token's seed in an earlier batch: {n}. Check whether "
        "rows were mixed up, or press these tokens again."
    )
    return [
        *_check_rows(verdicts, mends=shipment.hints.mends),
        *_check_columns(shipment),
        *_check_list(shipment, leftovers),
        *_check_persons(verdicts, mends=shipment.hints.mends),
        *_check_stale(verdicts, totp_max_age, now or datetime.now(UTC)),
        *_check_types(verdicts),
        *_check_dates(verdicts, now or datetime.now(UTC)),
        *name_tokens("not_consecutive", Level.ASK, text, verdicts.doubted("not_consecutive")),
        *_count_presses(verdicts),
    ]


def note_loaded(loaded: Loaded) -> Finding:
    """Make the only finding about a file that was already loaded as a batch: its rows will not be loaded again."""
    status = f"oathbulk status {quote(loaded.name)}"
    text = f"{describe_known(loaded)} `run` only continues the batch. To see its state, run: {status}"
    return Finding("loaded_already", Level.NOTE, text, loaded.total)


def note_run(pid: int) -> Finding:
    """Make the finding for a mend during a run of its batch: the run asks PingOne about the rows itself."""
    text = f"The current run (process {pid}) is also working on these rows, and asks PingOne about them itself."
    return Finding("run_going_on", Level.NOTE, text)


def _check_rows(verdicts: Verdicts, *, mends: bool) -> Iterator[Finding]:
    """Say which rows will be refused or skipped. `mends`: the rows mend a batch, so none of them has to be good."""
    reason = ""
    if refused := verdicts.refused.total:
        reason, times = verdicts.find_commonest_reason()
        some = "" if times == refused else f"{times} of them "
        text = f"Refused: {count_things(refused, 'row')}, {some}because {reason}"
        yield _name_rows("rows_refused", text, verdicts.refused)
    if number := verdicts.refused_by_database.total:
        first = verdicts.refused_by_database.first[0]
        # Not repeated if it is the reason above.
        why = f" Row {first.row_number}: {first.reason}" if first.reason != reason else ""
        text = f"Refused because of what is in oathbulk's own database: {count_things(number, 'row')}.{why}"
        yield _name_rows("in_database", text, verdicts.refused_by_database)
    if verdicts.left_out.total:
        text = f"Left out, because they are active in other batches: {count_things(verdicts.left_out.total, 'token')}."
        yield _name_rows("left_out", text, verdicts.left_out)
    if not (verdicts.good or verdicts.left_out.total or mends):
        problem = LoadCounts(rows_refused=verdicts.refused.total).explain_nothing_left() or "no row is left to load"
        yield Finding("nothing_to_load", Level.STOP, f"It cannot be used like this: {problem}. Correct it first.")


def _name_rows(name: str, text: str, errors: RowErrors) -> Finding:
    """Make a note about refused rows."""
    serials = tuple(error.serial_number for error in errors.first if error.serial_number)
    return Finding(name, Level.NOTE, text, errors.total, serials[:NAMED])


def _check_columns(shipment: Shipment) -> Iterator[Finding]:
    """Name the columns of a file of pairs or of a list that mean nothing to us, and those that may be meant as one of
    ours."""
    listed = shipment.assignment.columns if shipment.assignment else []
    names = shipment.columns if shipment.format.name == OTP_PAIRS.name else listed
    own = [name for name in names if not canonical_column(name)]
    if alike := [f"{name} (for {column}?)" for name in own if (column := find_alike(name))]:
        text = (
            f"Columns that oathbulk does not use, with names similar to columns that it does use: {', '.join(alike)}. "
            f"Rename any that you meant to be oathbulk columns."
        )
        yield Finding("column_alike", Level.ASK, text)
    if own and not shipment.hints.mends:
        yield Finding("own_columns", Level.NOTE, f"Columns of your own, kept as they are: {', '.join(own)}.")


def _check_list(shipment: Shipment, leftovers: Leftovers) -> Iterator[Finding]:
    """Say which tokens are only in the list or only in the box."""
    if shipment.assignment is None:
        return
    if leftovers.unassigned:
        number, then = leftovers.unassigned, "are left out" if shipment.only_assigned else "fail"
        then = "wait to be given out" if shipment.gives_out else then
        text = f"Tokens in the box without a person in the list: {number}. They {then}."
        yield Finding("unassigned", Level.NOTE, text, number)
    if leftovers.broken:
        text = (
            f"Left out, because the list does not name them: {count_things(leftovers.broken, 'broken row')} of the box."
        )
        yield Finding("broken_rows", Level.NOTE, text, leftovers.broken)
    fit = leftovers.without_zeros
    zeros = f" {fit} would fit with leading zeros, which a spreadsheet may have removed." if fit else ""
    text = (
        f"Serial numbers in the list that are not in the box: {{n}}.{zeros} Check whether it is the list of this"
        " shipment."
    )
    yield from name_tokens("not_in_box", Level.ASK, text, leftovers.not_in_box)
    if nameless := shipment.assignment.nameless:
        reason = f"line {nameless[0].row_number}: {nameless[0].reason}"
        text = f"{count_things(len(nameless), 'line')} of the list without a usable serial number; {reason}"
        yield Finding("list_lines", Level.ASK, text, len(nameless))


def _check_persons(verdicts: Verdicts, *, mends: bool) -> list[Finding]:
    """Find the rows of people who have an active token of the shipment, or get one from an earlier row."""
    verdicts.doubt_second_tokens("its person has, or will get, another token")
    text = ANOTHER_FOR_PERSON.format(whole="batch" if mends else "shipment")
    return name_tokens("person_twice", Level.ASK, text, verdicts.doubted("person_twice"))


def _check_stale(verdicts: Verdicts, max_age: float, now: datetime) -> list[Finding]:
    """Find TOTP pairs that are too old to be sent."""
    oldest = write_date(now - timedelta(seconds=max_age))
    reason = "its TOTP pair is too old to send: produce it again"
    verdicts.doubt_where("otp_type = 'totp' AND generated_at < ?", "stale_otp", reason, oldest)
    text = (
        f"TOTP pairs that are older than {max_age:g} seconds, and are not sent: {{n}}. Produce them right before the"
        " load, or load the vendor's seeds."
    )
    return name_tokens("stale_otp", Level.ASK, text, verdicts.doubted("stale_otp"))


def _check_types(verdicts: Verdicts) -> list[Finding]:
    """Find pairs that look like TOTP, since they have a time, but would be sent as HOTP."""
    reason = "it has a time, like TOTP, but no otp_type: write totp or hotp"
    verdicts.doubt_where("lacks_type", "otp_type_missing", reason)
    text = (
        "Pairs with generated_at, like TOTP, but without otp_type: {n}. They would be sent as HOTP, however old "
        "they are. Write totp or hotp into otp_type."
    )
    return name_tokens("otp_type_missing", Level.ASK, text, verdicts.doubted("otp_type_missing"))


def _check_dates(verdicts: Verdicts, now: datetime) -> list[Finding]:
    """Find devices that PingOne will have deleted before their date."""
    reason, gone_from = "its device is deleted before its date, after 24 hours", write_date(now + DEVICE_WAITS)
    verdicts.doubt_where("device_id IS NOT NULL AND not_before > ?", "devices_expire", reason, gone_from)
    text = (
        "Tokens whose device PingOne will delete before their not_before date, because it keeps a device that is "
        "waiting for activation for only 24 hours: {n}. Omit device_id and pair them on their date (--pair), or "
        "load them on that day."
    )
    return name_tokens("devices_expire", Level.ASK, text, verdicts.doubted("devices_expire"))


def _count_presses(verdicts: Verdicts) -> Iterator[Finding]:
    """Count the tokens that will be behind PingOne's counter on the first morning."""
    if behind := verdicts.count_where("digits IS NOT NULL AND otp_type = 'hotp'"):
        yield Finding(
            "presses_to_discard",
            Level.NOTE,
            f"HOTP tokens with a seed: {behind}. PingOne's counter will be ahead of the token in the "
            f"person's hand, so its first presses are refused: the hand-out says how many to discard, see "
            f"docs/situations.md.",
            behind,
        )


NOT_CONSECUTIVE = "its two OTPs are not consecutive, according to this token's seed in an earlier batch"


class RowReader:
    """Compares rows with the records of one environment, by the rules of the load, or of a batch's mend, within a
    transaction that writes nothing. `now`: the database's time; without one, this machine's."""

    def __init__(
        self,
        connection: Connection,
        keyring: Keyring,
        environment_id: str,
        batch: MendedBatch | None = None,
        now: datetime | None = None,
    ) -> None:
        now = now or datetime.now(UTC)
        self._conflicts = Conflicts(connection, keyring, environment_id, now)
        self._corrections = Corrections(connection, keyring, batch, now) if batch else None

    def read(self, shipment: Shipment, on_progress: OnProgress = tell_nobody) -> tuple[Verdicts, Leftovers]:
        """Read every row of a shipment. Raises UnusableFile."""
        verdicts, leftovers = Verdicts(), Leftovers()
        tokens = telling(shipment.tokens(leftovers), on_progress, "Reading rows", each=CHUNK)
        while chunk := list(islice(tokens, CHUNK)):
            read = [token for token in chunk if isinstance(token, Row)]
            for row in read:
                verdicts.count_kind(row)
            chunk = [shipment.require_ids(token) for token in chunk]
            errors = [row for row in chunk if isinstance(row, RowError)]
            whole = [row for row in chunk if isinstance(row, Row)]
            refused, left_out = self._judge(shipment, whole, verdicts)
            numbers = {error.row_number for error in (*errors, *refused, *left_out)}
            persons = {row.row_number: name_person(row) for row in read if row.row_number in numbers}
            verdicts.refuse([*errors, *refused], persons)
            verdicts.refuse(left_out, persons, "left_out")
        verdicts.not_in_box = leftovers.not_in_box
        return verdicts, leftovers

    def _judge(
        self, shipment: Shipment, rows: Sequence[Row], verdicts: Verdicts
    ) -> tuple[list[RowError], list[RowError]]:
        """Compare the rows of the file, and note the good ones. Returns the refused ones, and the skipped ones."""
        if self._corrections:
            corrected = self._corrections.judge(rows)
            records, conflicting = [correction.new for correction in corrected.corrections], corrected.errors
            for row in self._corrections.find_second_tokens(corrected):
                reason = "its person has a token of this batch already"
                verdicts.doubt(row.serial_number, "person_twice", reason)
        else:
            records, conflicting = self._conflicts.split(rows)
        left_out, refused = part_left_out(shipment, conflicting)
        active = {error.row_number for error in conflicting if error.fault == RowFault.ACTIVE_ELSEWHERE}
        verdicts.note_owners(name for row in rows if row.row_number in active for name in list_names(row))
        verdicts.refused_by_database.add(*(error for error in refused if error.fault != RowFault.REPEATED))
        good = [record.row for record in records]
        verdicts.take(good)
        self._compare_with_seeds(good, verdicts)
        return refused, left_out

    def _compare_with_seeds(self, rows: Sequence[Row], verdicts: Verdicts) -> None:
        """Note which pairs are not consecutive OTPs, according to a seed of their token that we still have."""
        pairs = [row for row in rows if isinstance(row.otps, OtpPair) and row.otps.second]
        earlier = self._conflicts.find_by_serial_number(pairs)
        for row in pairs:
            found = [(record, self._conflicts.open(record)) for record in earlier.get(row.serial_number.lower(), ())]
            seeds = [(seed, record.next_counter) for record, seed in found if isinstance(seed, Seed)]
            if seeds and not any(is_consecutive(row, seed, reached) for seed, reached in seeds):
                verdicts.doubt(row.serial_number, "not_consecutive", NOT_CONSECUTIVE)


@contextmanager
def reading_without_records() -> Iterator[RowReader]:
    """Yield a reader without records, for when there is no database yet, or it is out of reach."""
    engine = create_engine("sqlite://")
    try:
        Base.metadata.create_all(engine)
        with engine.connect() as connection:
            yield RowReader(connection, Keyring([generate_key()]), "")
    finally:
        engine.dispose()


def check_shipment(
    shipment: Shipment,
    reader: RowReader,
    settings: Settings,
    rate: float,
    on_progress: OnProgress = tell_nobody,
) -> Report:
    """Find what the files and our own records say. `rate`: the batch's initial requests a second. Raises
    UnusableFile."""
    verdicts, leftovers = reader.read(shipment, on_progress)
    findings = check_files(shipment, verdicts, leftovers, totp_max_age=settings.tuning.totp_max_age)
    return Report(verdicts, findings, rate=rate)


# A pair is searched for among this many OTPs of an HOTP seed after the last known counter: as far as PingOne may look.
HOTP_WINDOW = 100
# Time steps before and after that of `generated_at`: a token's clock may be some minutes off.
TOTP_WINDOW = 20


def is_consecutive(row: Row, seed: Seed, reached: int | None) -> bool:
    """Whether this row's pair is two consecutive OTPs of the seed. `reached`: the HOTP counter that the token's earlier
    records have reached. True if the row does not say when its TOTP pair was made."""
    assert isinstance(row.otps, OtpPair), "only a pair can be compared with a seed"  # noqa: S101
    counters = _choose_counters(row, seed, reached)
    if counters is None:
        return True
    previous = None
    for counter in counters:
        otp = seed.mint(counter)
        if previous == row.otps.first and otp == row.otps.second:
            return True
        previous = otp
    return False


def _choose_counters(row: Row, seed: Seed, reached: int | None) -> range | None:
    """Choose the counters, or time steps, that the pair may come from; None if unknown."""
    if seed.time_step is None:
        return range(seed.counter, max(seed.counter, reached or 0) + HOTP_WINDOW)
    if row.generated_at is None:
        return None
    step = int(row.generated_at.timestamp() // seed.time_step)
    return range(max(step - TOTP_WINDOW, 0), step + TOTP_WINDOW + 1)
