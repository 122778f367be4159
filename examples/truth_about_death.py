"""How calls end, and what you are told of it: the outcome, who has ended the session, what became of its state, why.

Each call below ends in another way. The session is brought back each time it is lost (recover=True).
"""

import os
import signal

from extsession import ExtSession, Ladder, Limits, SessionDied

FIXED = "import ctypes, os, signal, sys, time; kept = 42"
#: what runs, and its timeout in seconds
CALLS = {
    "a good call": ("kept += 1", None),
    "an error": ("kept / 0", None),
    "a nap": ("time.sleep(60)", 0.2),
    "a mule": ("signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN)\nwhile True: pass", 0.2),
    "a hoard": ("while True: kept = [bytes(10**8), os.fork() or time.sleep(60)]", None),
    "a crash": ("def careless(): ctypes.string_at(0)\ncareless()", None),
    "an exit": ("print('no more', file=sys.stderr); os._exit(3)", None),
    "a murder": ("print('here', flush=True); time.sleep(60)", None),
}

with ExtSession(recover=True, limits=Limits(memory=400_000_000), ladder=Ladder(0.2, 0.2)) as session:
    session.execute(FIXED).wait().raise_for_error()
    for what, (source, timeout) in CALLS.items():
        call = session.execute(source, timeout=timeout)
        if what == "a murder":
            session.readline()
            os.kill(session.pid, signal.SIGKILL)
        told = call.wait().completion
        killer = told.killer.value if told.killer else "nobody"
        steps = ", ".join(step.value for step in told.steps) or "none"
        print(f"{what}: {told.outcome.value}; state {told.state.value}; ended by {killer}; steps: {steps}")
        print(f"    {told}")
        if isinstance(call.error, SessionDied):
            memory = told.usage.peak_memory // 10**6
            print(f"    it ran {call.error.running.splitlines()[-1]!r}, with {memory} MB at most")
            for line in (call.error.traceback or "").splitlines()[2:]:
                print(f"    {line}")
    print("process number", session.incarnation, "of the session; kept is", session["kept"])
