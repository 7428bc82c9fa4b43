"""What an installation without an extra says to who types a command that needs it."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.desk import desk
from worker.cli.rehearse import rehearse
from worker.config.settings import ConfigError
from worker.embedded.extras import can_serve, name_cure
from worker.embedded.home import EmbeddedError

CHECKOUT = Path(__file__).parents[3]
# A command of pip that names the package would fetch what stands under that name on an index: it is not ours.
FROM_AN_INDEX = re.compile(r"(?:pipx?|uv tool|uv pip) install[^\n`]*[ '\"]oathbulk\b")


def test_the_extras_that_are_named_are_there() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "worker").rglob("*.py"))
    named = set(re.findall(r"name_cure\('(\w+)'\)", sources))
    assert named == {"desk", "embedded", "rehearsal"}
    assert named <= set(project["optional-dependencies"])
    assert name_cure("desk").endswith("with the extra `desk`")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_what_serves_pages_needs_both_packages(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    assert can_serve()
    monkeypatch.setitem(sys.modules, missing, None)
    assert not can_serve()


@pytest.mark.parametrize(
    ("command", "failure", "extra"),
    [(desk, ConfigError, "desk"), (rehearse, EmbeddedError, "rehearsal")],
)
def test_a_command_that_lacks_its_extra_names_it_and_touches_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Callable[[], None], failure: type[Exception], extra: str
) -> None:
    earlier = tmp_path / "home-rehearsals" / "rehearsal" / "oathbulk.db"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    monkeypatch.setenv("OATHBULK_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    app = typer.Typer()
    app.command()(command)
    raised = CliRunner().invoke(app, []).exception
    assert isinstance(raised, failure)
    assert re.search(f"is not installed: .* with the extra `{extra}`", str(raised))
    assert earlier.exists()


@pytest.mark.parametrize("folder", ["docs", "worker"])
def test_nobody_is_told_to_fetch_the_name_from_an_index(folder: str) -> None:
    paths = [path for path in (CHECKOUT / folder).rglob("*") if path.suffix in {".md", ".py"}]
    texts = {path: path.read_text(encoding="utf-8") for path in [*paths, CHECKOUT / "README.md"]}
    assert {path: found for path, text in texts.items() if (found := FROM_AN_INDEX.findall(text))} == {}
