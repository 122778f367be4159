"""Run the plugin's tests with several releases of tox: python tests/tox_plugin/releases.py [RELEASE ...]

It makes a virtual environment for each in a temporary folder, and installs from the index. "newest" is a release. The
exit status is that of the worst.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

RELEASES = ("4.0.0", "4.11.0", "4.30.0", "newest")
ROOT = Path(__file__).parent.parent.parent
NEEDS = ("pytest>=8.2", "pytest-timeout>=2.3")


def run(release: str, folder: Path) -> tuple[str, str, int]:
    """(What was installed, pytest's last line, its exit status)."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    wanted = "tox" if release == "newest" else f"tox=={release}"
    subprocess.run([python, "-m", "pip", "install", "-q", "-e", str(ROOT), wanted, *NEEDS], check=True)
    version = subprocess.run(
        [python, "-c", "import tox.version; print(tox.version.version)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "tox_plugin")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in done.stdout.splitlines():
        if re.match("(FAILED|ERROR|SKIPPED) ", line):
            print(f"  {line}", flush=True)
    return version, done.stdout.splitlines()[-1], done.returncode


def main() -> int:
    worst = 0
    with tempfile.TemporaryDirectory(prefix="tox-releases-") as folder:
        for release in sys.argv[1:] or RELEASES:
            version, line, code = run(release, Path(folder) / release)
            print(f"tox {version}: {line}", flush=True)
            worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
