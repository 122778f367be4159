"""Limits: what breaks one is ended, and you are told the truth about it. The session lives on where it can."""

from extsession import ExtSession, Limits

LIMITS = Limits(wall=3.0, cpu=0.3, memory=300_000_000, file_size=1_000_000, output=50_000)
CALLS = {
    "a loop": "while True: pass",
    "a nap": "time.sleep(60)",
    "a flood": "while True: print('and again')",
    "a hoard": "numbers = list(range(10**8))",
    "a large file": "import tempfile; tempfile.TemporaryFile().write(bytes(2_000_000))",
    # Each of them is below the limit, all together are above it: the session is ended, and comes back.
    "hungry children": "for _ in range(4):\n  if not os.fork(): hoard = b'x' * 2**27; time.sleep(9)\ntime.sleep(9)",
    "a good call": "counter += 1",
}

with ExtSession(limits=LIMITS, recover=True) as session:
    session.execute("import os, time; counter = 41").wait().raise_for_error()
    for what, source in CALLS.items():
        call = session.execute(source).wait()
        limit = call.completion.limit or type(call.error).__name__
        print(f"{what}: {call.outcome.value}, {limit}{' (brought back)' if call.completion.recovered else ''}")
    print("counter:", session["counter"])
