"""One training, branched ten ways at the same time: the best branch goes on. And a step that is undone."""

from extsession import ExtSession

SETUP = """
import numpy as np

random = np.random.default_rng(1)
points = random.normal(size=(500, 3)) * [1, 2, 3]
targets = points @ [1.0, -2.0, 0.5]
weights = np.zeros(3)

def train(steps, rate):
    global weights
    for _ in range(steps):
        weights = weights - rate * points.T @ (points @ weights - targets) / len(points)
    return loss()

def loss():
    return float(np.mean((points @ weights - targets) ** 2))
"""

with ExtSession(preload=["numpy"]) as session:
    session.execute(SETUP).wait().raise_for_error()
    print(f"loss at the start: {session.eval('train(5, 0.01)'):.4f}")

    # Ten sessions with the same state. Each goes its own way, all of them now.
    rates = [0.005 * 2**n for n in range(10)]
    branches = session.fork(10)
    calls = [branch.execute(f"train(50, {rate})") for branch, rate in zip(branches, rates, strict=True)]
    for call in calls:
        call.wait().raise_for_error()
    losses = [branch.eval("loss()") for branch in branches]
    winner = losses.index(min(losses))
    print(f"best rate of ten: {rates[winner]}, loss {losses[winner]:.1e}")

best = branches.pop(winner)
for other in branches:
    other.close()

with best:
    best.checkpoint("good")
    print(f"a rate too high: loss {best.eval('train(50, 0.6)'):.1e}")
    best.rollback("good")
    print(f"rolled back: loss {best.eval('loss()'):.1e}")
