"""Each program of examples/ runs in a fresh interpreter, and prints what it is there to show."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from extsession import host_report

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

#: for each program, regular expressions that match whole lines of its stdout, in this order
LINES = {
    "agent_tool.py": [
        r"data = \[3, 1, 4, 1, 5, 9, 2, 6\] -> done",
        r"data\.clear\(\); .* -> ZeroDivisionError: division by zero",
        r"total = .* -> mean 3\.875",
        r"while True: data\.append\(total\) -> (LimitExceeded: .*|MemoryError: .*)",
        r"import os; os\.abort\(\) -> SessionDied: the session crashed \(SIGABRT\).*",
        r"sorted\(data\)\[-1\], total -> \(9, 3\.875\)",
    ],
    "bash_session.py": [
        r"in a folder of its own: 3 lines, status 0",
        r"a failure: status 2, .*No such file or directory",
        r"the prompt is no output: '\$ '",
        r"asked: 'your name\? '; answered: hello reader",
        r"too slow: timed out, after interrupt; still alive: True",
        r"left behind: nothing",
    ],
    "branch_and_rollback.py": [
        r"loss at the start: \d+\.\d+",
        r"best rate of ten: 0\.16, loss \d\.\de-\d+",
        r"a rate too high: loss \d\.\de\+\d+",
        r"rolled back: loss \d\.\de-\d+",
    ],
    "crash_proof.py": [
        r"a call: \[41, 42\]",
        r"a crash: \[41, 42\]",
        r" +the process has ended: signal SIG(SEGV|BUS), status None",
        r"an exit: \[41, 42\]",
        r" +the process has ended: signal None, status 3",
        r" +printed before: 'leaving\\n'",
        r"another call: \[41, 42, 43\]",
        r"brought back: 2 times",
    ],
    "deferreds.py": [r"stdout: from the session", r"failed: division by zero"],
    "hello_world.py": [r"process (\d+) has read: Hello world, from process (?!\1)\d+"],
    "limits.py": [
        r"a loop: over limit, cpu",
        r"a nap: over limit, wall",
        r"a flood: over limit, output",
        r"a hoard: failed, MemoryError",
        r"a large file: failed, OSError",
        r"hungry children: over limit, memory \(brought back\)",
        r"a good call: finished, NoneType",
        r"counter: 42",
    ],
    "lowperf.py": [
        r"0 35",
        r"1 42",
        r"2 49",
        r"\.\.\.",
        r"78 581",
        r"over_budget: cycles, in line 4, after \d+ cycles; three runs, 1 way to end",
    ],
    "numpy_array.py": [
        r"back: \(500001,\) float64",
        r"strongest frequency: 1",
        r"in the session: 1",
    ],
    "one_shots.py": [
        r"exteval: 5050",
        r"exteval raises: KeyError\('missing'\)",
        r"extexec: 'to stdout\\n' 'to stderr\\n' status 3",
        r"reading it early: the expression is not evaluated yet.*",
        r"ExtEval: \[1, 4, 9\]",
    ],
    "parallel_interpreters.py": [
        r"Python( +3\.\d+)+",
        r"f'\{1 \+ 1 = \}'( +1 \+ 1 = 2)+",
        r"dict \| dict( +(yes|no))+",
        r"match( +(yes|no))+",
        r"except\*( +(yes|no))+",
        r"type X = Y( +(yes|no))+",
    ],
    "pool_map.py": [
        r"items: 1000, longest: 1161 with 181 steps",
        r"collatz\(27\): 111",
        r"12 -> 9",
        r"13 -> died of SIGABRT",
        r"15 -> 17",
        r"names in it: \['math'\]",
        r"sessions: \d+ started, 1 replaced after a death",
    ],
    "pricing.py": [
        r"anna, 7\.5: 10\.8457 \(\d+ cycles\)",
        r"bob, 7\.5: 12\.3457 \(\d+ cycles\)",
        r"bob, 30: 37\.0370 \(\d+ cycles\)",
        r"most cycles: cost = cost - lookup\(customer\)",
        r"refused: a script cannot import",
        r"refused: .*method",
        r"error: line 1: NameError: name 'open' is not defined",
    ],
    "quickstart.py": [
        r"numbers in the session: \[1, 2, 3\]",
        r"first.stdout: 'I am the first\\n' second.stderr: 'I complain\\n'",
        r"a value back: \[10, 20, 30\]",
        r"an error: IndexError\('list index out of range'\)",
        r"a timeout: call \d+ ran longer than its timeout of 0.5 s",
        r"still there: \[1, 2, 3\]",
    ],
    "streaming.py": [
        r"stdout: step 0",
        r"stderr: note 0",
        r"stdout: step 2",
        r"stderr: note 2",
        r"ended: finished",
        r"again: \['step 0', 'note 0', .*'note 2'\]",
        r"sum: 321",
        r"lines in the file: 100000",
    ],
    "retry.py": [
        r"attempt 1: exit 75",
        r"WARNING attempt 2 of 5:",
        r"attempt 2: exit 75",
        r"WARNING attempt 3 of 5:",
        r"attempt 3: exit 0",
        r"a typo: exit 2",
        r"not tried again: 2",
    ],
    "run_command.py": [
        r"version: Python exit 0",
        r"1 2 3 -> 6",
        r"20 22 -> 42",
        r"it ended with 0",
        r"too long: working exit -15",
        r"what was done: interrupt, terminate",
        r"False 2 the program 'nonesuch' was not found on the PATH of the request",
        r"Outcome: exit 2 in 0\.\d\d seconds for nonesuch '--password=\*\*\*\*'",
    ],
    "runaway_script.py": [
        r"to anna@example\.org: 'total of the month' used up its 50000 cycles, in line \d",
        r"over_budget cycles True",
        r"\{'total': 496\}",
    ],
    "truth_about_death.py": [
        r"a good call: finished; state intact; ended by nobody; steps: none",
        r" +call 2 finished, after .*",
        r"an error: failed; state intact; ended by nobody; steps: none",
        r" +call 3 failed: ZeroDivisionError: division by zero, after .*",
        r"a nap: timed out; state intact; ended by nobody; steps: interrupt",
        r" +call 4 timed out: it ran for \S+ s, where 0\.2 are allowed, and was stopped by an interrupt",
        r"a mule: timed out; state rolled back; ended by timeout; steps: interrupt, terminate, kill",
        r" +call 5 timed out: .* was stopped by SIGKILL; its session goes on with the state from before it",
        r"a hoard: over limit; state rolled back; ended by limit; steps: none",
        r" +call 6 is over limit: memory: it held \d+ bytes of memory, where 400000000 are allowed, .*",
        r"a crash: lost; state rolled back; ended by crash; steps: none",
        r" +call 7 lost: its session crashed \(SIGSEGV\), after .*",
        r" +it ran 'careless\(\)', with \d+ MB at most",
        r" +Current thread .*",
        r" +File \".*ctypes/__init__\.py\", line \d+ in string_at",
        r" +File \"<session \d+>\", line 1 in careless",
        r" +File \"<session \d+>\", line 2 in <module>",
        r"an exit: lost; state rolled back; ended by nobody; steps: none",
        r" +call 8 lost: its session ended by itself \(exit status 3\), after .*",
        r" +it ran .*os\._exit\(3\)\", with \d+ MB at most",
        r"a murder: lost; state rolled back; ended by outside; steps: none",
        r" +call 9 lost: its session was ended from outside, or by a signal of its own \(SIGKILL\), .*",
        r" +it ran .*time\.sleep\(60\)\", with \d+ MB at most",
        r"process number 6 of the session; kept is 43",
    ],
    "untrusted.py": [
        r"walls: full, by user namespace, .*seccomp.*",
        r"its sum: 12 its rows: \[3, 4, 5\]",
        r"read your files: failed \(FileNotFoundError\)",
        r"look around: failed \(FileNotFoundError\)",
        r"call home: failed \(PermissionError\)",
        r"end other processes: failed \((PermissionError|ProcessLookupError)\)",
        r"write where programs are: failed \(OSError\)",
        r"break out: failed \(PermissionError\)",
        r"fill the disk: failed \(OSError\)",
        r"fill the memory: failed \(MemoryError\)",
        r"never stop: over limit \(LimitExceeded\)",
        r"fork without end: failed \(BlockingIOError\)",
    ],
    "warm_pandas.py": [
        r'python -c "import numpy, pandas" +[0-9.]+ ms',
        r"session 1 +[0-9.]+ ms",
        r"  its first call, with the import +[0-9.]+ ms",
        r"session 4 +[0-9.]+ ms",
        r"a template with numpy and pandas, 4 sessions",
    ],
    "with_asyncio.py": [
        r"squares: \[49, 64\]",
        r"the sleep was cancelled; the session has x = 21",
    ],
    "with_trio.py": [
        r"apples 0",
        r"apples 2",
        r"the sleep was cancelled; the session has x = 21",
    ],
}

#: what an example imports besides the package and what the package itself needs
OPTIONAL = {
    "branch_and_rollback.py": "numpy",
    "deferreds.py": "twisted",
    "numpy_array.py": "numpy",
    "warm_pandas.py": "pandas",
}

#: those that need walls
ISOLATED = {"agent_tool.py", "lowperf.py", "pricing.py", "runaway_script.py", "untrusted.py"}


def test_every_example_is_tested() -> None:
    assert sorted(LINES) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", sorted(LINES))
def test_example(name: str, tmp_path: Path) -> None:
    wanted = OPTIONAL.get(name)
    if wanted is not None and importlib.util.find_spec(wanted) is None:
        pytest.skip(f"{wanted} is not installed, which this example is about")
    if name in ISOLATED:
        host = host_report()
        if host.tier != "full":
            pytest.skip(f"this host does not allow the full tier of isolation: {host.full.denied}")
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    lines = iter(done.stdout.splitlines())
    for pattern in LINES[name]:
        assert any(re.fullmatch(pattern, line) for line in lines), f"no line {pattern} in:\n{done.stdout}"
    assert not list(tmp_path.iterdir())


def test_the_tox_example(tmp_path: Path) -> None:
    """A project, which the tox that is installed runs."""
    pytest.importorskip("tox", reason="tox is not installed, which this example is about")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TOX_", "VIRTUALENV_"))}
    env |= {"VIRTUALENV_OVERRIDE_APP_DATA": str(tmp_path / "virtualenv"), "VIRTUALENV_NO_SEED": "1"}
    folder = EXAMPLES / "tox_plugin"
    done = subprocess.run(
        [sys.executable, "-m", "tox", "run", "-c", folder, "--workdir", tmp_path / "work", "--", "everybody"],
        cwd=tmp_path,
        env={**env, "TOX_USER_CONFIG_FILE": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done
    for line in ("loaded before it began: True", "Hello everybody", "an ordinary process"):
        assert line in done.stdout.splitlines()
    logs = {path.name.partition("-")[2]: path.read_text() for path in (tmp_path / "work").glob("greet/log/*.log")}
    ways = [re.search(r"extsession: (\w+)", logs[f"commands[{number}].log"]) for number in range(4)]
    assert [way and way[1] for way in ways] == ["warm", "warm", "warm", "process"]
