"""What was written to the configuration file is read back, and a file of another form is not."""

import stat
from pathlib import Path

import pytest

from worker.embedded.valkey import ValkeyConfig


def test_port_and_password_are_read_back(tmp_path):
    config = ValkeyConfig.generate()
    config.write(tmp_path / "valkey.conf", tmp_path)
    assert ValkeyConfig.read(tmp_path / "valkey.conf") == config
    assert [path.name for path in tmp_path.iterdir()] == ["valkey.conf"]


def test_only_the_owner_reads_the_password(tmp_path):
    ValkeyConfig.generate().write(tmp_path / "valkey.conf", tmp_path)
    assert stat.S_IMODE((tmp_path / "valkey.conf").stat().st_mode) == 0o600


def test_the_password_is_not_printed():
    config = ValkeyConfig.generate()
    assert config.password not in repr(config)


def test_fresh_ones_differ():
    assert ValkeyConfig.generate().password != ValkeyConfig.generate().password


def test_a_directory_cannot_add_a_line(tmp_path):
    ValkeyConfig.generate().write(tmp_path / "valkey.conf", Path('/a "b"\nport 1\\'))
    text = (tmp_path / "valkey.conf").read_text()
    assert r'dir "/a\x20\x22b\x22\x0aport\x201\x5c"' in text.splitlines()


@pytest.mark.parametrize("content", [b"", b"port 6379\n", b'requirepass "abc"\n', b"\x00\xff" * 40, b"port x\n"])
def test_a_damaged_file_is_no_configuration(tmp_path, content):
    (tmp_path / "valkey.conf").write_bytes(content)
    assert ValkeyConfig.read(tmp_path / "valkey.conf") is None


def test_no_file_is_no_configuration(tmp_path):
    assert ValkeyConfig.read(tmp_path / "valkey.conf") is None
