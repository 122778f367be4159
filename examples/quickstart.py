"""The main job: a Python session in another process, which keeps its state and each call's output apart."""

from extsession import CallTimeout, ExtSession

with ExtSession() as session:
    # State stays from call to call.
    session.execute("numbers = [3, 1, 2]").wait()
    session.execute("numbers.sort()").wait()
    print("numbers in the session:", session["numbers"])

    # execute() returns at once. Each call has its own stdout and stderr.
    first = session.execute("print('I am the first')")
    second = session.execute("import sys; print('I complain', file=sys.stderr)")
    second.wait()
    print("first.stdout:", repr(first.stdout), "second.stderr:", repr(second.stderr))

    # A value comes back as an object; a value goes in the same way.
    session["factor"] = 10
    print("a value back:", session.eval("[n * factor for n in numbers]"))

    # An exception in the code is printed on its stderr, and is on the results. The session lives on.
    failed = session.execute("numbers[99]").wait()
    print("an error:", repr(failed.error))

    # A timeout interrupts code that would never end. The session lives on here, too.
    try:
        session.eval("any(n for n in iter(int, 1))", timeout=0.5)
    except CallTimeout as error:
        print("a timeout:", error)
    print("still there:", session["numbers"])
