"""The shape of the code: who may import whom, by the contracts in pyproject.toml, each of which notices when it is
broken; and a record's status and a batch's state have one writer each."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

# A module, an import that it must not have, and the contract that says so.
WRONG = [
    ("models/batch.py", "import worker.config.settings", "models import nothing of ours"),
    ("migrations/__init__.py", "import worker.config.settings", "models import nothing of ours"),
    ("worker/batches/loading.py", "import worker.dispatch", "Imports go one way"),
    ("worker/database/engine.py", "import worker.leases.lease", "Imports go one way"),
    ("worker/dispatch.py", "import worker.records", "Imports go one way"),
    ("worker/leases/queue.py", "import worker.batches.loading", "Imports go one way"),
    ("worker/pace/redis_state.py", "import worker.pingone.errors", "Imports go one way"),
    ("worker/process/parts.py", "import worker.celery", "Imports go one way"),
    ("worker/rules/decisions.py", "import worker.database.engine", "Rules are pure"),
    ("worker/rules/decisions.py", "import worker.pingone.client", "Rules are pure"),
    ("worker/rules/breaker.py", "import sqlalchemy", "Rules are pure"),
    ("worker/intake/shipment.py", "import worker.database.engine", "Intake reads files"),
    ("worker/intake/files.py", "import models.record", "Intake reads files"),
    ("worker/batches/loading.py", "import worker.desk.batch_page", "Imports go one way"),
    ("worker/desk/batch_page.py", "import worker.database.engine", "Pages write what reports have read"),
    ("worker/desk/batch_page.py", "import sqlalchemy", "Pages write what reports have read"),
    ("worker/process/parts.py", "import worker.embedded.home", "Only cli and installation reach"),
    ("worker/tasks.py", "import worker.simulator.world", "Only cli and installation reach"),
    ("worker/simulator/oath.py", "import worker.vault.otps", "Imports go one way"),
    ("worker/simulator/world.py", "import models.record", "The simulator shares no code"),
    ("worker/records/attempt.py", "import httpx", "Nobody but pingone speaks HTTP"),
    ("worker/notices.py", "import httpx", "Nobody but pingone speaks HTTP"),
    ("worker/reports/facts.py", "import worker.notices", "Imports go one way"),
    ("worker/installation/stack.py", "import rich", "Nobody but pingone speaks HTTP"),
    ("worker/pingone/wire.py", "import worker.pingone.client", "Inside pingone"),
    ("worker/pingone/inventory.py", "import worker.pingone.client", "Inside pingone"),
    ("worker/pace/search.py", "import worker.pace.slots", "Inside pace"),
]


# Modules for which no contract says whom they may import.
NEW = ("worker/utils.py", "worker/waves/__init__.py", "worker/pace/more.py")


def name_module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of a copy of the checkout in which every wrong import stands: linting one each would take a minute.
    That the checkout itself is clean, `make lint` sees to."""
    checkout = tmp_path_factory.mktemp("checkout")
    for package in ("models", "migrations", "worker"):
        shutil.copytree(CHECKOUT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", checkout)
    for module, line in [*((module, line) for module, line, _ in WRONG), *((module, "") for module in NEW)]:
        (checkout / module).parent.mkdir(exist_ok=True)
        with (checkout / module).open("a") as file:
            file.write(f"\n{line}\n")
    return subprocess.run([LINT, "--no-cache"], cwd=checkout, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(("module", "wrong", "contract"), WRONG, ids=[f"{each[0]}: {each[1]}" for each in WRONG])
def test_a_wrong_import_breaks_its_contract(said: str, module: str, wrong: str, contract: str) -> None:
    # Each contract that is broken has a headline, which is underlined.
    reports = re.split(r"\n(?=.+\n-{5,}\n)", said.partition("Broken contracts")[2])
    report = next(report for report in reports if report.startswith(contract))
    assert f"{name_module(module)} -> {wrong.removeprefix('import ')} " in report


@pytest.mark.parametrize("module", NEW)
def test_what_stands_in_no_contract_is_named(said: str, module: str) -> None:
    assert name_module(module) in said.replace("\n", "")


def test_the_root_of_worker_holds_the_doors_and_rooms_of_one_module() -> None:
    rooms = {"audit", "clocks", "dispatch", "fleet", "notices", "purging", "tenants"}
    doors = {"__init__", "__main__", "celery", "tasks"}
    assert {path.stem for path in (CHECKOUT / "worker").glob("*.py")} == doors | rooms


# The column, and where it may be written. An inventory job has a state too, which only the log of jobs writes.
WRITERS = {"status": ("worker/leases",), "state": ("worker/batches/state.py", "worker/batches/imports.py")}
# Functions of SQLAlchemy without which a module writes nothing.
WRITING = re.compile(r"^from sqlalchemy\S* import (?:\([^)]*|[^(\n]*)\b(insert|update|text)\b", re.M)


def find_writes(source: str, column: str) -> Iterator[int]:
    """Lines that give this column a value: `values(status=…)`, `{"status": …}`, `{Record.status: …}`, `SET status`."""
    for node in ast.walk(ast.parse(source)) if WRITING.search(source) else ():
        match node:
            case ast.Call(func=ast.Attribute(attr="values"), keywords=keywords):
                yield from (node.lineno for keyword in keywords if keyword.arg == column)
            case ast.Dict(keys=keys):
                written = {"Record." + column, "Batch." + column, repr(column)}
                yield from (key.lineno for key in keys if key is not None and ast.unparse(key) in written)
            case ast.Constant(value=str(sql)) if f"SET {column}" in sql:
                yield node.lineno


@pytest.mark.parametrize("column", WRITERS)
def test_a_status_has_one_writer(column: str) -> None:
    paths = [path for package in ("models", "worker") for path in (CHECKOUT / package).rglob("*.py")]
    others = [path for path in paths if not path.relative_to(CHECKOUT).as_posix().startswith(WRITERS[column])]
    assert [(path, line) for path in others for line in find_writes(path.read_text(), column)] == []


@pytest.mark.parametrize("column", WRITERS)
@pytest.mark.parametrize(
    "code",
    [
        "update(Batch).values({column}='running')",
        "values = {{'{column}': 'running'}}",
        "update(Record).values({{Record.{column}: 'active'}})",
        "text('UPDATE record SET {column} = 1')",
    ],
)
def test_another_writer_is_found(column: str, code: str) -> None:
    assert [*find_writes(f"from sqlalchemy import text, update\n{code.format(column=column)}\n", column)] == [2]
