"""Sessions under load, while faults are injected at random: nothing may be lost, doubled, mixed up, or left.

`python -m benchmarks.soak --minutes N [--sessions 50] [--seed S]`. The exit status is 1 if anything that
has to be zero is not.

    __main__.py  the command line; the process that gets whatever the soak leaves
    run.py       the soak's own process: users, faults, a look for leaks at the end
    life.py      what a user does with a session, in either colour
    output.py    programs whose every byte can be told, and the check of what came of them
    faults.py    what happens to processes from outside, and to the controller
    tally.py     counters and the table
"""
