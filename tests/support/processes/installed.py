"""oathbulk as somebody installs it: from a wheel, in an environment of its own."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def install(source: Path, folder: Path) -> Path:
    """An interpreter that has oathbulk from the wheel of this source, and its dependencies from here, but not the
    checkout."""
    folder.mkdir(exist_ok=True)
    building = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist", source]
    subprocess.run([*PIP, *building], check=True, cwd=folder)
    (wheel,) = (folder / "dist").iterdir()
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    installing = ["--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([*PIP, *installing], check=True, cwd=folder)
    # A directory that a .pth file names is searched, but not for .pth files, of which the checkout's is one.
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")
    return python
