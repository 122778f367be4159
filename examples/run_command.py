"""Commands: what they print while it comes, a time limit, and nothing left of what was stopped."""

import logging
import sys

from extsession.execute import ExecuteRequest, LocalSubProcessExecute, StdinSource, TimeoutError

logging.getLogger("extsession.execute").setLevel(logging.CRITICAL)  # what is stopped, and cannot start, is logged
SUMS = "import sys\nfor line in sys.stdin:\n    print(sum(map(int, line.split())), flush=True)"

with LocalSubProcessExecute(interrupt_timeout=0.2) as executor:
    status = executor(ExecuteRequest([sys.executable, "--version"]))
    print("version:", status.out.split()[0], "exit", status.exit_code)

    with executor.call(ExecuteRequest([sys.executable, "-c", SUMS], stdin=StdinSource.API)) as status:
        for line in ("1 2 3", "20 22"):
            before = len(status.out)
            status.write_stdin(line + "\n")
            while len(status.out) == before:
                status.wait(0.001)
            print(line, "->", status.out[before:].strip())
        status.close_stdin()
        print("it ended with", status.wait())

    try:
        executor(ExecuteRequest(["sh", "-c", "trap '' INT; echo working; sleep 60 & wait; sleep 60"], timeout=0.5))
    except TimeoutError as error:
        assert error.status is not None
        print("too long:", error.status.out.strip(), "exit", error.status.exit_code)
        print("what was done:", ", ".join(step.value for step in error.status.steps))

    outcome = executor.run(ExecuteRequest(["nonesuch", "--password=1234"]))
    print(bool(outcome), outcome.exit_code, outcome.exception)
    print(outcome)
