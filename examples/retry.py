"""A command that fails now and then, tried again, and only for a failure that is worth it."""

import logging
import sys
import tempfile
from pathlib import Path

from extsession.execute import ExecuteRequest, ExecuteStatus, LocalSubProcessExecute

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message).15s")  # each further attempt is a warning

#: fails twice with 75, "try again later" (EX_TEMPFAIL of sysexits.h), and then succeeds
FLAKY = """
import pathlib, sys
path = pathlib.Path(sys.argv[1])
count = int(path.read_text() or 0) + 1
path.write_text(str(count))
print("attempt", count)
sys.exit(75 if count < 3 else 0)
"""


def is_worth_it(status: ExecuteStatus) -> bool:
    print(f"{status.out.strip()}: exit {status.exit_code}")
    return status.exit_code == 75


with tempfile.NamedTemporaryFile() as file, LocalSubProcessExecute() as executor:
    request = ExecuteRequest([sys.executable, "-c", FLAKY, file.name])
    status = executor.execute_with_retry(request, max_retries=5, should_retry=is_worth_it)
    print(f"{status.out.strip()}: exit {status.exit_code}")
    assert Path(file.name).read_text() == "3"

    hopeless = ExecuteRequest([sys.executable, "-c", "import sys; print('a typo'); sys.exit(2)"])
    status = executor.execute_with_retry(hopeless, max_retries=5, should_retry=is_worth_it)
    print("not tried again:", status.exit_code)
