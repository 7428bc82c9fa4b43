from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.config.settings import find_earlier_home, find_home, user_home


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def make_earlier_home(directory: Path) -> Path:
    home = directory / ".oathbulk"
    home.mkdir()
    (home / "oathbulk.db").touch()
    return home


def test_a_user_has_one_home_from_wherever_a_command_is_called(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_home({})
    monkeypatch.chdir(tmp_path)
    assert find_home({}) == found == tmp_path / "person" / ".local" / "state" / "oathbulk"


def test_it_lies_where_xdg_state_home_says(here: Path) -> None:
    assert user_home({"XDG_STATE_HOME": "/srv/state"}) == Path("/srv/state/oathbulk")


def test_a_relative_xdg_state_home_counts_for_nothing(here: Path) -> None:
    """The specification says so."""
    assert user_home({"XDG_STATE_HOME": "state"}) == user_home({})


def test_the_home_that_is_named_goes_before_all_others(here: Path) -> None:
    make_earlier_home(here)
    assert find_home({"OATHBULK_HOME": "/srv/oathbulk"}) == Path("/srv/oathbulk")


def test_a_home_of_an_earlier_version_in_the_working_directory_is_used(here: Path) -> None:
    earlier = make_earlier_home(here)
    assert find_home({}) == find_earlier_home() == earlier


def test_a_directory_of_its_name_into_which_nothing_was_loaded_is_none(here: Path) -> None:
    (here / ".oathbulk").mkdir()
    assert find_earlier_home() is None


def test_one_that_is_a_link_is_none(here: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    make_earlier_home(tmp_path / "elsewhere").rename(tmp_path / "real")
    (here / ".oathbulk").symlink_to(tmp_path / "real")
    assert find_earlier_home() is None


def test_one_that_another_user_has_put_there_is_none(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_earlier_home(here)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert find_earlier_home() is None


def test_a_user_id_without_a_home_directory_has_its_home_in_the_working_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", refuse)
    assert user_home({}) == here / ".oathbulk"
