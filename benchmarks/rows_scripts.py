"""Locked-down scripts, in this process: what the meter and the guards cost, and what checking and compiling takes."""

from __future__ import annotations

from extsession._worker.script import engine

from .harness import LIMIT, OURS, Bench, Goal, row, seconds

EXEC, SCRIPT = "exec", "script"
LOOP = """
total = 0
for i in range(100000):
    if i % 3 == 0:
        total = total + i * 2
    else:
        total += i
    if total > 1000000:
        total -= 1000000
"""
CALLS = """
def add(a, b):
    return a + b
def fib(n):
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)
total = 0
for i in range(30000):
    total = add(total, i)
result = fib(18)
"""
COLLECTIONS = """
xs = []
for i in range(20000):
    xs.append(i % 100)
counts = {}
for x in xs:
    counts[x] = counts.get(x, 0) + 1
ys = [x * 2 for x in xs if x > 50]
seen = set()
for x in xs:
    seen.add(x)
ordered = sorted(ys, key=lambda v: -v)
words = " ".join(["w" + str(x) for x in xs]).split()
found = 0
for word in words:
    if word in seen or word == "w7":
        found += 1
lengths = {word: len(word) for word in words}
ys = ordered = words = xs = 0
"""
RULE = '''
def rule%d(order, customer):
    total = 0
    for line in order["lines"]:
        if line["price"] > 100 and customer["level"] in ["gold", "silver"]:
            total += line["price"] * line["amount"] * 0.9
        else:
            total += line["price"] * line["amount"]
    if total < 10:
        total = 10
    return round(total, 2)
'''


def _compare(bench: Bench, source: str) -> None:
    code = compile(source, "plain", "exec")
    program = engine.prepare(source)
    assert isinstance(program, engine.Program), program.findings

    def run() -> None:
        record = engine.run(program, {}, {}, {"cycles": 10**9}, None, None)  # type: ignore[arg-type]
        assert record["status"] == "finished", record

    bench.rounds = bench.pick(15, 3)
    bench.add(EXEC, LIMIT, lambda: seconds(lambda: exec(code, {})))
    bench.add(SCRIPT, OURS, lambda: seconds(run))


@row("script-loop", "a loop with arithmetic and decisions", reference=EXEC, unit="ms", goals=[Goal(SCRIPT, 6, EXEC)])
def loop(bench: Bench) -> None:
    _compare(bench, LOOP)


@row("script-calls", "calls of functions", reference=EXEC, unit="ms", goals=[Goal(SCRIPT, 4, EXEC)])
def calls(bench: Bench) -> None:
    _compare(bench, CALLS)


@row("script-data", "lists, dicts, sets and text", reference=EXEC, unit="ms", goals=[Goal(SCRIPT, 10, EXEC)])
def collections(bench: Bench) -> None:
    _compare(bench, COLLECTIONS)


@row(
    "script-check",
    "a script of 100 lines, checked and compiled, and found again",
    unit="ms",
    goals=[Goal(SCRIPT, 0.015), Goal("known", 0.0005)],
)
def check(bench: Bench) -> None:
    source = "".join([RULE % number for number in range(9)]) + "x = 1\n"

    def anew() -> None:
        engine._known.clear()
        engine.prepare(source)

    bench.rounds = bench.pick(15, 3)
    bench.add(SCRIPT, OURS, lambda: seconds(anew))
    bench.add("known", OURS, lambda: seconds(lambda: engine.prepare(source)))
    bench.add("compile", LIMIT, lambda: seconds(lambda: compile(source, "plain", "exec")))
