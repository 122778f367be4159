"""Output while the code runs: iterate over a call's chunks, talk to it, or send a flood to a file."""

import os
import tempfile
from pathlib import Path

from extsession import PIPE, ExtSession

with ExtSession() as session:
    # Chunks of both streams, in the order in which they were written. A chunk is what has arrived, not a line.
    source = """
import sys, time
for step in range(3):
    print("step", step)
    print("note", step, file=sys.stderr)
    time.sleep(0.1)
"""
    results = session.execute(source)
    stream = None
    for chunk in results:
        if chunk.stream != stream:
            stream = chunk.stream
            print(f"{stream}: ", end="")
        print(chunk.text, end="")
    print("ended:", results.outcome.value)

    # What came before the loop began is not lost: a second loop gets the same.
    print("again:", "".join(chunk.text for chunk in results).splitlines())

    # Lines go in while the code runs. PIPE: input() waits for writeline().
    sums = session.execute("total = 0\nfor _ in range(3):\n    total += int(input())\nprint(total)", stdin=PIPE)
    for line in ("1", "20", "300"):
        session.writeline(line)
    print("sum:", sums.wait().read(), end="")

    # A flood goes to a file, a chunk at a time, and is kept nowhere else.
    path = Path(tempfile.mkdtemp()) / "flood.txt"
    with path.open("wb") as file:
        session.execute("for n in range(100_000): print(n)", on_output=lambda chunk: file.write(chunk.data)).wait()
    print("lines in the file:", path.read_bytes().count(b"\n"))
    os.remove(path)
    path.parent.rmdir()
