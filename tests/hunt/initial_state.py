"""What a scenario begins with: a tenant, its devices, the batches that were loaded for them, and what the rows of a
batch with --pair and --import do not say."""

import uuid
from dataclasses import replace
from datetime import timedelta
from functools import cache

from sqlalchemy import func, insert, select, update

from hunt.database import HuntedDatabase, HuntedSqlite
from hunt.schedule import Dice
from hunt.tenant import INVALID, REFUSED, ModelDevice, ModelPair, ModelSeed, Person, Tenant
from models.batch import Batch, BatchState
from models.encrypted import Keyring, generate_key, identify_row
from models.record import Record
from worker.batches import hours
from worker.batches.upkeep import Upkeep
from worker.config.environment import Environment
from worker.config.settings import Settings, Tuning
from worker.leases.lease import Leases
from worker.leases.moves import set_date
from worker.leases.queue import Queue
from worker.rules.breaker import Thresholds
from worker.rules.hours import DailyHours
from worker.vault.otps import Otp, OtpPair, Secret, Seed


def hotp(dice: Dice) -> Seed:
    return Seed(secret=_secret(dice), digits=8, counter=dice.whole("seeds", 0, 1000))


def totp(dice: Dice) -> Seed:
    return Seed(secret=_secret(dice), digits=8, otp_type="totp", time_step=dice.pick("seeds", (30, 60)))


def _secret(dice: Dice) -> Secret:
    return Secret(dice.whole("seeds", 1, 2**159).to_bytes(20, "big"))


# Somebody whom no assignment names.
STRANGER = str(uuid.UUID(int=11))


def choose_lacking(dice: Dice, devices: list[ModelDevice]) -> dict[str, dict[str, object]] | None:
    """By serial number, the columns that say what each record lacks; None in the scenarios where nothing is made. What
    PingOne has then is changed accordingly. In some scenarios most records have to be prepared, in others few."""
    share = dice.pick("creation", (None, None, None, 0.15, 0.15, 0.9))
    if share is None or not dice.permits("creation"):
        return None
    lacking = {device.serial_number: _lack(dice, device, share) for device in devices}
    if dice.happens("table", 1.0):
        # What lies on the table has no device in any file, and its person comes later.
        for row in filter(None, lacking.values()):
            row |= {"user_id": "", "username": None} if dice.chance("table", 0.6) else {}
    return lacking


def _lack(dice: Dice, device: ModelDevice, share: float) -> dict[str, object]:
    if not dice.chance("creation", 0.9):
        return {}
    was_there = dice.pick("creation", ("free",) * 7 + ("waiting", "active", "taken"))
    _set_up(dice, device, was_there)
    if not dice.chance("creation", share):
        owner_id = "" if was_there == "free" and dice.chance("creation", 0.8) else None
        return {"device_id": "", "owner_id": owner_id}
    if was_there == "free" and dice.chance("creation", 0.8):
        # Only what brings a seed can be imported.
        device.seed = device.seed or ModelSeed(hotp(dice))
        device.is_in_inventory = False
    device.is_different = device.is_in_inventory and dice.chance("creation", 0.1)
    lacking: dict[str, object] = {"device_id": "", "is_in_inventory": False}
    if dice.chance("creation", 0.4):
        device.person = replace(device.person, kind=dice.pick("creation", ("one",) * 12 + ("none", "two", "disabled")))
        device.people = [device.person]
        lacking |= {"user_id": "", "username": device.person.username}
    return lacking


def _set_up(dice: Dice, device: ModelDevice, was_there: str) -> None:
    """The token is free, or was somebody's device before."""
    device_id, device.device_id = device.device_id, ""
    device.seen_from = 0.0
    if was_there == "free":
        return
    device.become(device_id, -dice.between("creation", 0.0, 300.0), owner_id=STRANGER if was_there == "taken" else "")
    if was_there == "active":
        device.become_active()


ENVIRONMENT_ID = "2f6d8ad2-4b5e-4c5a-9c3b-1d0a7e9b6c01"
CLIENT_SECRET = "made-up-client-secret"
# A shipment is sealed with the old key; the fleet has a new one as well.
OLD_KEY, KEY = generate_key(), generate_key()
KEYS = f"{KEY},{OLD_KEY}"
KEYRING = Keyring([KEY, OLD_KEY])
# Seconds that a TOTP pair is sent after its load, and that PingOne takes it beyond that.
GOOD_FOR = 120.0
GRACE = 60.0
# The header is line 1 of a file.
FIRST_ROW = 2
COLUMNS = ["serial", "otp1", "otp2", "user_id", "device_id", "username", "otp_type", "generated_at"]


# The database of this process's scenarios, once there is one.
_databases: list[HuntedDatabase] = []


def database() -> HuntedDatabase:
    """The one that all scenarios of this process share: SQLite's, unless `hunt_on` chose another."""
    if not _databases:
        _databases.append(HuntedSqlite())
    return _databases[0]


def hunt_on(database: HuntedDatabase) -> None:
    """Let the next scenarios use this database. The one before is closed."""
    close_database()
    _databases.append(database)


def close_database() -> None:
    """Close the database, and forget the statements that were built for it."""
    while _databases:
        _databases.pop().close()
    forget_statements()


@cache
def leases(lease: float, max_attempts: int) -> Leases:
    return Leases(database(), lease=lease, max_attempts=max_attempts)


@cache
def queue() -> Queue:
    return Queue(database())


@cache
def upkeep(thresholds: Thresholds) -> Upkeep:
    return Upkeep(database(), thresholds)


def forget_statements() -> None:
    """The next scenario's are built anew, from the code as it is then."""
    for parts in (leases, queue, upkeep):
        parts.cache_clear()


@cache
def environment(*, resync_on_first_call: bool) -> Environment:
    return Environment(
        name="default",
        environment_id=ENVIRONMENT_ID,
        client_id="made-up-client",
        client_secret=CLIENT_SECRET,
        resync_on_first_call=resync_on_first_call,
    )


def settings(dice: Dice) -> Settings:
    return Settings(
        encryption_keys=KEYS,
        otp_post_budget=dice.pick("settings", (2, 3, 3, 3, 5)),
        max_attempts=dice.pick("settings", (1, 2, 8, 8)),
        tuning=Tuning(
            lease=dice.pick("settings", (30, 60)),
            lease_left_for_post=25,
            window=dice.pick("settings", (1, 3, None, None)),
            breaker={
                "forbidden": dice.pick("settings", (1, 10)),
                "refused": dice.pick("settings", (1, 20)),
                "unanswered": dice.pick("settings", (2, 20)),
                "spent": dice.pick("settings", (2, 25)),
            },
            names_per_request=dice.pick("creation", (1, 2, 40)),
            tokens_per_import=dice.pick("creation", (1, 2, 500)),
        ),
    )


def tenant(dice: Dice, environment: Environment) -> Tenant:
    return Tenant(
        locks_after=dice.pick("tenant", (1, 3, 99, 99)),
        uses_up_otps=dice.pick("tenant", (False, True)),
        says_when_active=dice.pick("tenant", (REFUSED, INVALID)),
        resync_on_first_call=bool(environment.resync_on_first_call),
        pairs_active=dice.chance("creation", 0.1),
        tells_status=dice.chance("creation", 0.8),
        shows_devices_with_filter=dice.chance("creation", 0.7),
        shows_inventory=dice.chance("creation", 0.85),
        forgets_jobs=dice.chance("creation", 0.3),
        deletes_after=dice.between("creation", 60.0, 400.0) if dice.chance("creation", 0.2) else None,
    )


def devices(dice: Dice, at_least: int = 1) -> list[ModelDevice]:
    """One to four, or more; half of them out of step, for that is where most can go wrong."""
    count = max(dice.pick("devices", (1, 2, 3, 4)), at_least)
    return [device(dice, number) for number in range(1, count + 1)]


def device(dice: Dice, number: int) -> ModelDevice:
    seed = dice.pick("seeds", (None, None, None, hotp, totp))
    return ModelDevice(
        serial_number=f"MADE{number:04}",
        device_id=str(uuid.UUID(int=number)),
        person=Person(str(uuid.UUID(int=number << 64)), f"user-{number}"),
        pairs=[make_pair(dice, "devices", 0.0)],
        seen_from=dice.between("devices", 1.0, 15.0) if dice.chance("devices", 0.1) else 0.0,
        seed=ModelSeed(seed(dice)) if seed is not None else None,
    )


def make_pair(dice: Dice, stream: str, now: float) -> ModelPair:
    """Half of them out of step; a fifth of them TOTP, produced now."""
    has_second = dice.chance(stream, 0.85)
    return ModelPair(
        first=f"{dice.whole(stream, 0, 49_999_999):08}",
        second=f"{dice.whole(stream, 50_000_000, 99_999_999):08}" if has_second else None,
        first_is=dice.pick(stream, ("right", "right", "out_of_step", "out_of_step", "out_of_step", "wrong")),
        second_is_right=dice.chance(stream, 0.8),
        good_until=now + GOOD_FOR + GRACE if dice.chance(stream, 0.2) else None,
    )


def load(database: HuntedDatabase, dice: Dice, devices: list[ModelDevice]) -> list[str]:
    """One batch, or two; their names."""
    split = dice.whole("batches", 1, len(devices)) if dice.chance("batches", 0.3) else len(devices)
    halves = [half for half in (devices[:split], devices[split:]) if half]
    canary = 1 if dice.chance("batches", 0.1) else None
    lacking = choose_lacking(dice, devices)
    names = [_load(database, f"batch {number}", half, canary, lacking) for number, half in enumerate(halves, start=1)]
    if dice.happens("window", 0.6):
        _give_window(database, dice)
    if dice.happens("dates", 0.3):
        _give_dates(database, dice)
    return names


def load_one(database: HuntedDatabase, devices: list[ModelDevice], trial: int | None) -> list[str]:
    """One batch, of whose first records up to this row something must become active before others go; its name."""
    name = _load(database, "batch 1", devices, None)
    with database.writing() as connection:
        connection.execute(update(Batch).values(trial=trial))
    return [name]


def _give_dates(database: HuntedDatabase, dice: Dice) -> None:
    """To some records, within the next minutes."""
    with database.writing() as connection:
        now = connection.execute(select(database.now())).scalar_one()
        for record in connection.execute(select(Record.id, Record.batch_id)).all():
            if dice.chance("dates", 0.5):
                date = now + timedelta(seconds=dice.between("dates", 1.0, 200.0))
                set_date(database, connection, record.batch_id, Record.id == record.id, date)


def _give_window(database: HuntedDatabase, dice: Dice) -> None:
    """To the first batch; every scenario begins at midnight."""
    window = DailyHours.parse(dice.pick("window", ("00:00-00:02", "00:01-00:04", "23:58-00:07")), "UTC")
    with database.writing() as connection:
        batch_id = connection.scalars(select(func.min(Batch.id))).one()
        hours.set_hours(connection, batch_id, window)
        hours.check_hours(database, connection, batch_id)


def _load(
    database: HuntedDatabase,
    name: str,
    devices: list[ModelDevice],
    canary: int | None,
    lacking: dict[str, dict[str, object]] | None = None,
) -> str:
    """`lacking`: by serial number, what the rows of a batch do not say that may make what it lacks."""
    batch = {
        "name": name,
        "environment": "default",
        "environment_id": ENVIRONMENT_ID,
        "state": BatchState.RUNNING,
        "file": "shipment.csv",
        "file_sha256": name,
        "columns": COLUMNS,
        "total": len(devices),
        "canary": canary,
        "may_import": lacking is not None,
        "may_pair": lacking is not None,
        "created_at": database.now(),
        "running_since": database.now(),
    }
    with database.writing() as connection:
        now, later = connection.execute(select(database.now(), database.now(GOOD_FOR))).one()
        batch_id = connection.scalar(insert(Batch).values(batch).returning(Batch.id)) or 0
        rows = [
            {
                "batch_id": batch_id,
                "row_number": number,
                "environment_id": ENVIRONMENT_ID,
                "serial_number": device.serial_number,
                "user_id": device.user_id,
                "device_id": device.device_id,
                "username": None,
                "owner_id": None,
                "is_in_inventory": True,
                "scheduled_at": now,
                "otp_type": _otp_type(device),
                "next_counter": device.seed.seed.counter if device.seed else None,
                "otp_expires_at": later if _otp_type(device) == "totp" and not device.seed else None,
                "has_second_otp": bool(device.seed) or device.pairs[0].second is not None,
                "otps": _seal(device, batch_id, number),
            }
            | (lacking[device.serial_number] if lacking else {})
            for number, device in enumerate(devices, start=FIRST_ROW)
        ]
        paired = [row | {"pairing": "paired" if row["device_id"] else "unsent"} for row in rows]
        connection.execute(insert(Record), paired)
    return name


def _seal(device: ModelDevice, batch_id: int, row_number: int) -> bytes:
    otps = device.pairs[0]
    pair = OtpPair(Otp(otps.first), Otp(otps.second) if otps.second else None)
    source = device.seed.seed if device.seed else pair
    return Keyring([OLD_KEY]).seal(source.to_plaintext(), identify_row(batch_id, row_number))


def _otp_type(device: ModelDevice) -> str:
    if device.seed is not None:
        return device.seed.seed.otp_type
    return "hotp" if device.pairs[0].good_until is None else "totp"
