"""The tests of the plugin, with each pytest release that it supports.

    python benchmarks/pytest_releases.py [--folder DIR] [--python PATH] [RELEASE ...]

One virtual environment for each release. RELEASE "main" is pytest's main branch, which needs git and a network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
RELEASES = ["8.3.5", "8.4.2", "9.0.2", "9.1.1", "9.2.0"]
_MAIN = "pytest @ git+https://github.com/pytest-dev/pytest"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*", default=RELEASES, metavar="RELEASE")
    parser.add_argument("--folder", type=Path, help="where the environments go, and are found again")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to use")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        found = [_run(folder, options.python, each) for each in options.releases]
    return 0 if all(found) else 1


def _run(folder: Path, interpreter: str, release: str) -> bool:
    place = folder / f"pytest-{release}"
    python = str(place / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([interpreter, "-m", "venv", str(place)], check=True)
    pytest = _MAIN if release == "main" else f"pytest=={release}"
    # before 9.0 subtests were a plugin
    subtests = ["pytest-subtests"] if release.startswith("8.") else []
    pip = [python, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-e", f"{ROOT}[test]", pytest, *subtests], check=True)
    # it warns in every run without this setting, and here warnings are errors: so it has a run of its own
    subprocess.run([*pip, "uninstall", "-y", "pytest-asyncio"], check=True)
    is_good = _tests(python, release, ["tests/pytest_plugin"])
    subprocess.run([*pip, "install", "pytest-asyncio", pytest], check=True)
    args = ["-Wdefault", "-o", "asyncio_default_fixture_loop_scope=function"]
    return _tests(python, release, [*args, "tests/pytest_plugin/test_others.py", "-k", "asyncio"]) and is_good


def _tests(python: str, release: str, args: list[str]) -> bool:
    began = time.monotonic()
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = done.stdout.strip().splitlines() or ["nothing"]
    if done.returncode:
        print("\n".join(lines[-60:]), done.stderr[-2000:])
    print(f"pytest {release:8} {time.monotonic() - began:6.1f} s  {lines[-1].strip('= ')}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
