"""The key file: made once, in one step, and readable by its owner only."""

import base64
import stat
import subprocess
import sys

import pytest

from worker.config.settings import ConfigError
from worker.embedded.home import home_key

RACER = """
import sys
from pathlib import Path
from worker.embedded.home import home_key

sys.stdin.read()
print(home_key(Path(sys.argv[1])))
"""


def test_the_key_is_32_random_bytes_and_stays_the_same(tmp_path):
    key = home_key(tmp_path / "one")
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert home_key(tmp_path / "one") == key
    assert home_key(tmp_path / "two") != key


def test_only_the_owner_reads_the_key_and_no_draft_is_left(tmp_path):
    home_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "encryption.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["encryption.key"]


def test_processes_that_race_get_one_key(tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, tmp_path / "home"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        racer.stdin.close()
    keys = set()
    for racer in racers:
        with racer:
            keys.add(racer.stdout.read())
    assert keys == {home_key(tmp_path / "home") + "\n"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    home_key(tmp_path)
    (tmp_path / "encryption.key").chmod(mode)
    with pytest.raises(ConfigError, match=r"chmod 600 .*encryption\.key"):
        home_key(tmp_path)


@pytest.mark.parametrize("content", ["", "short\n", "ü" * 44, "=" * 43 + "=", "a" * 45])
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path, content):
    path = tmp_path / "encryption.key"
    home_key(tmp_path)
    path.write_text(content)
    with pytest.raises(ConfigError, match="backup") as refusal:
        home_key(tmp_path)
    assert path.read_text() == content
    assert not content.strip() or content.strip() not in str(refusal.value)


def test_a_key_that_cannot_be_read_names_the_cure(tmp_path):
    home_key(tmp_path)
    (tmp_path / "encryption.key").unlink()
    (tmp_path / "encryption.key").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="OATHBULK_ENCRYPTION_KEYS"):
        home_key(tmp_path)
