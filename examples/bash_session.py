"""A shell on a pseudo-terminal: output by call, statuses, questions, a timeout, and nothing left behind."""

import tempfile

import psutil

from extsession import Ladder
from extsession.terminal import TerminalSession

ladder = Ladder(interrupt=0.5, terminate=0.5)
with tempfile.TemporaryDirectory() as folder, TerminalSession("bash", cwd=folder, ladder=ladder) as shell:
    # State stays from call to call; each call has its own output and its own status.
    shell.execute("seq 3 > numbers")
    results = shell.execute("cat numbers").wait()
    print(f"in a folder of its own: {len(results.output.splitlines())} lines, status {results.exit_code}")
    results = shell.execute("ls missing").wait()
    print(f"a failure: status {results.exit_code}, {results.output.strip()}")

    # Prompts are random for each call, so nothing that is printed looks like one.
    print("the prompt is no output:", repr(shell.execute("printf '$ '").wait().output))

    # Code may ask: wait for the question, type the answer.
    results = shell.execute("read -p 'your name? ' name; echo; echo hello $name")
    question = results.wait_for("your name? ", timeout=10)
    results.writeline("reader")
    print(f"asked: {question!r}; answered: {results.wait().output.splitlines()[-1]}")

    # Ctrl-C for what takes too long. The shell lives on.
    results = shell.execute("sleep 1000", timeout=0.2).wait()
    steps = ", ".join(step.value for step in results.completion.steps)
    print(f"too slow: {results.outcome.value}, after {steps}; still alive: {shell.is_alive}")

    # What is left in the background ends with the session, wherever it has gone.
    results = shell.execute("(setsid sleep 1000 & echo $!)").wait()
    left_behind = psutil.Process(int(results.output))

print("left behind:", left_behind if left_behind.is_running() else "nothing")
