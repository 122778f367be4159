"""Work for many processes at a time: a pool of sessions, a map over many items, and what happens when one dies."""

import os

from extsession import SessionDied, SessionPool


def collatz(number: int) -> int:
    """How many steps it takes to come down to 1."""
    if number == 13:
        os.abort()  # a crash of the interpreter
    steps = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        steps += 1
    return steps


with SessionPool(3) as pool:
    # in order; 100 items are run in one session, then it is replaced by a fresh one
    steps = list(pool.map(collatz, range(1000, 2000), chunksize=100))
    longest = max(range(1000), key=steps.__getitem__)
    print(f"items: {len(steps)}, longest: {1000 + longest} with {steps[longest]} steps")

    # one at a time, by a future
    future = pool.submit(collatz, 27)
    print("collatz(27):", future.result())

    # a crash costs the item that crashed, nothing else
    results = pool.map(collatz, range(10, 16), chunksize=6)
    for number in range(10, 16):
        try:
            print(number, "->", next(results))
        except SessionDied as error:
            print(number, "-> died of", error.signal)

    # a session for yourself: nobody has used it before, and nobody will again
    with pool.acquire(timeout=30) as session:
        session.execute("import math; print(math.factorial(20))").wait()
        print("names in it:", list(session))

    figures = pool.statistics()
    print(f"sessions: {figures.started} started, {figures.replaced} replaced after a death")
