"""One program in every CPython from 3.8 on that is found here, at the same time; the outputs side by side."""

from contextlib import ExitStack

from extsession import ExtSession, InterpreterError

PROGRAM = r"""
import sys
print("%d.%d" % sys.version_info[:2])
for source in [
    "print(f'{1 + 1 = }')",
    "{} | {}",
    "match 1:\n  case 1: pass",
    "try: pass\nexcept* ValueError: pass",
    "type Name = str",
]:
    try:
        exec(source)
    except (SyntaxError, TypeError):
        print("no")
    else:
        if not source.startswith("print"):
            print("yes")
"""
ROWS = ["Python", "f'{1 + 1 = }'", "dict | dict", "match", "except*", "type X = Y"]

with ExitStack() as stack:
    sessions = []
    for minor in range(8, 20):
        try:
            sessions.append(stack.enter_context(ExtSession(python=f"3.{minor}")))
        except InterpreterError:
            continue  # it is not on this machine
    if not sessions:
        sessions.append(stack.enter_context(ExtSession()))

    results = [session.execute(PROGRAM) for session in sessions]  # they all run now
    columns = [ROWS] + [each.wait().stdout.splitlines() for each in results]

for row in zip(*columns, strict=True):
    print("".join(text.ljust(15) for text in row).rstrip())
