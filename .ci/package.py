"""Checks what ``python -m build`` has put into a folder: ``python .ci/package.py dist``.

The sdist has the files that git has, and the wheel those of the package. The wheel is installed where
nothing else is but what it requires, linked from the environment that runs this, and used there.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pyro_reparam_ext"


def tracked() -> set[str]:
    """The files of the project, with new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {name for name in listed.splitlines() if (ROOT / name).exists()} - {".gitignore"}


def compare(archive: Path, found: set[str], expected: set[str]) -> None:
    missing, others = sorted(expected - found), sorted(found - expected)
    if missing or others:
        sys.exit(f"{archive.name}: expected also {missing}, did not expect {others}")
    print(f"{archive.name}: {len(found)} files")


def check_sdist(path: Path) -> None:
    with tarfile.open(path) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    made = {name for name in names if name.startswith(f"{PACKAGE}.egg-info/")}
    compare(path, names - made, tracked() | {"PKG-INFO", "setup.cfg"})


def check_wheel(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    info = "-".join(path.name.split("-")[:2]) + ".dist-info"
    files = {
        f"{info}/{x}" for x in ("METADATA", "RECORD", "WHEEL", "top_level.txt", "licenses/LICENSE")
    }
    compare(path, names, files | {name for name in tracked() if name.startswith(f"{PACKAGE}/")})


def link_requirements(site: Path) -> None:
    """Puts what is installed into a folder of packages, if anything there requires it."""
    waiting = [(found, "") for found in distributions(path=[str(site)])]
    seen = set()
    while waiting:
        found, extra = waiting.pop()
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            required = distribution(requirement.name)
            new = {(required.name, extra) for extra in ("", *requirement.extras)} - seen
            waiting += [(required, extra) for _, extra in new]
            seen |= new
            for name in {file.parts[0] for file in required.files or ()} - {"..", "__pycache__"}:
                if not (site / name).exists():
                    (site / name).symlink_to(required.locate_file(name))


def check_installed(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, symlinks=True)
        python = f"{folder}/bin/python"
        pip = [sys.executable, "-m", "pip", "--python", python]
        subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
        link_requirements(next(Path(folder).glob("lib/*/site-packages")))
        subprocess.run([*pip, "check"], check=True)
        subprocess.run([python, "-I", ROOT / ".ci/installed.py"], cwd=folder, check=True)


def main(folder: str) -> None:
    (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
    check_sdist(sdist)
    check_wheel(wheel)
    check_installed(wheel.resolve())


if __name__ == "__main__":
    main(*sys.argv[1:])
