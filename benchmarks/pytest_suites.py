"""Suites of other packages, from their sdists, with a fork per test and without: the counts must be the same.

    python benchmarks/pytest_suites.py [--folder DIR] [--xdist] [NAME ...]

Each sdist is fetched with pip, unpacked, and installed into one virtual environment with extsession and what its tests
need; then its suite is run plain, isolated with shared fixtures, and with fresh ones. The status is 1 if counts differ.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: package -> (arguments of pytest, what its tests need besides pytest)
SUITES: dict[str, tuple[list[str], list[str]]] = {
    "anyio": (["-m", "not network"], ["psutil", "trustme", "exceptiongroup", "trio", "hypothesis", "pytest-mock"]),
    "attrs": (["tests"], ["hypothesis", "cloudpickle"]),
    "blinker": ([], ["pytest-asyncio"]),
    "cachetools": ([], []),
    "click": ([], []),
    "h11": ([], []),
    "iniconfig": ([], []),
    "itsdangerous": ([], ["freezegun"]),
    "jinja2": ([], ["trio"]),
    "more-itertools": ([], []),
    "packaging": (["-m", "not property"], ["pretend", "hypothesis"]),
    "pluggy": ([], []),
    "structlog": (["tests"], ["freezegun", "pretend", "pytest-asyncio", "time-machine"]),
    "tomlkit": (["tests"], ["pyyaml"]),
    "werkzeug": ([], ["ephemeral-port-reserve", "cryptography", "watchdog", "pytest-timeout"]),
}
MODES = {"plain": ["--no-isolated"], "shared": ["--isolated"], "fresh": ["--isolated", "--isolated-fixtures=fresh"]}
_TIMES = re.compile(r" in [\d.]+s.*")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=sorted(SUITES), metavar="NAME")
    parser.add_argument("--folder", type=Path, help="where everything goes, and is found again")
    parser.add_argument("--pytest", default="pytest", help="a requirement, as pytest==8.3.5")
    parser.add_argument("--xdist", action="store_true", help="with -n2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        python = _environment(folder, options.pytest)
        extra = ["-n2"] if options.xdist else []
        if options.xdist:
            _pip(python, "install", "pytest-xdist")
        found = [_compare(folder, python, name, extra) for name in options.names]
    return 0 if all(found) else 1


def _environment(folder: Path, pytest: str) -> Path:
    place = folder / "venv"
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    _pip(python, "install", pytest, str(ROOT))
    return python


def _pip(python: Path, *args: str) -> None:
    subprocess.run([python, "-m", "pip", "-q", "--disable-pip-version-check", *args], check=True)


def _source(folder: Path, python: Path, name: str) -> Path:
    place = folder / name
    if not place.exists():
        _pip(python, "download", "--no-deps", "--no-binary", ":all:", "-d", str(place), name)
        (archive,) = place.glob("*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(place, filter="data")
    (source,) = (each for each in place.iterdir() if each.is_dir())
    return source


def _compare(folder: Path, python: Path, name: str, extra: list[str]) -> bool:
    """Run one suite in all modes; whether the counts are the same."""
    args, needs = SUITES[name]
    source = _source(folder, python, name)
    _pip(python, "install", str(source), *needs)
    found = {}
    for mode, flags in MODES.items():
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        began = time.monotonic()
        done = subprocess.run(
            [*command, *flags, *extra, *args], cwd=source, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        (folder / f"{name}-{mode}.log").write_text(done.stdout + done.stderr)
        last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
        found[mode] = _TIMES.sub("", last.strip("= "))
        print(f"{name:16} {mode:8} {time.monotonic() - began:7.1f} s  {found[mode]}", flush=True)
    return len(set(found.values())) == 1


if __name__ == "__main__":
    sys.exit(main())
