"""The question of a developer whose users write small scripts: how can each be held to a number of cycles?

Two functions and a loop that would go on for ever. It is stopped at the same line each time, on each machine.
"""

from extsession.script import ScriptLimits, run_script

SCRIPT = """\
def f(x):
    return x * 7

def g(x):
    return f(x + 5)

i = 0
while True:
    print(i, g(i))
    i = i + 1
"""

seen = set()
for _ in range(3):
    outcome = run_script(SCRIPT, limits=ScriptLimits(cycles=2_000))
    lines = outcome.stdout.splitlines()
    seen.add((outcome.status.value, outcome.over, outcome.line, outcome.cycles, lines[-1]))
print("\n".join(lines[:3]), "...", lines[-1], sep="\n")
for status, over, line, cycles, _ in seen:
    print(f"{status}: {over}, in line {line}, after {cycles} cycles; three runs, {len(seen)} way to end")
