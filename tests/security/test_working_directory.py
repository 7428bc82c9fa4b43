"""The directory in which a person works, such as that of the shipments, may be open to others: nothing in it runs."""

from __future__ import annotations

from pathlib import Path

from support.processes.command_desk import CommandDesk

# Modules that the libraries look for and do without where they are not installed; and some that there are.
LOOKED_FOR = ("brotli", "msgpack", "setproctitle", "tblib", "zstandard", "models", "worker", "redis")


def test_no_module_of_the_working_directory_is_imported(open_folder: Path) -> None:
    with CommandDesk(open_folder / "desk") as desk:
        for name in LOOKED_FOR:
            (desk.folder / f"{name}.py").write_text(f"open(__file__ + '.was-run', 'w')\nraise ImportError({name!r})\n")

        result = desk.oathbulk("rehearse", "--tokens", "3")

        assert result.code == 0, result.stdout + result.stderr
        assert [path.name for path in desk.folder.glob("*.was-run")] == []
