"""recover=True: a call that ends its process costs only itself. The state from before it is there again."""

from extsession import ExtSession

CALLS = {
    "a call": "results.append(42)",
    "a crash": "results.clear(); ctypes.string_at(0)",  # reads at address 0: a segmentation fault
    "an exit": "results.clear(); print('leaving', flush=True); os._exit(3)",
    "another call": "results.append(43)",
}

with ExtSession(recover=True) as session:
    session.execute("import ctypes, os; results = [41]").wait().raise_for_error()

    for what, source in CALLS.items():
        call = session.execute(source).wait()
        print(f"{what}: {session['results']}")
        if call.completion.recovered:
            # What it had printed is there, and why its process ended.
            print(f"   the process has ended: signal {call.error.signal}, status {call.error.exit_code}")
            print(f"   printed before: {call.stdout!r}")

    print("brought back:", session.statistics().recoveries, "times")
