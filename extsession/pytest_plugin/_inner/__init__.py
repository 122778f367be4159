"""What runs where tests run: in forks of this pytest, and in workers of other interpreters, which get it as text.

    internals.py   every touch of pytest's internals
    wire.py        messages between a test's process and who reports it
    host.py        what is done in the process that forks, before and after
    child.py       the life of a test's process
    worker.py      a pytest in another interpreter, which forks for each test that is asked for

CPython 3.8 and later, pytest 7.4 and later, the standard library and pytest only.
"""
