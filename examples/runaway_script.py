"""A script that never ends: it is stopped by its budget, and its owner is told."""

from extsession.script import OverBudget, ScriptLimits, ScriptRunner

OWNERS = {"total of the month": "anna@example.org"}
SCRIPT = """\
total = 0
day = 1
while day <= 31:
    total = total + day
"""  # day is never counted up


def tell_owner(over: OverBudget) -> None:
    owner = OWNERS.get(over.script, "nobody")
    print(f"to {owner}: {over.script!r} used up its {over.amount} {over.limit}, in line {over.line}")


with ScriptRunner(limits=ScriptLimits(cycles=50_000), on_over_budget=tell_owner) as runner:
    outcome = runner.run(SCRIPT, name="total of the month")
    print(outcome.status.value, outcome.over, outcome.cycles > 49_000)

    # The runner goes on.
    print(runner.run("total = sum(range(1, 32))").globals)
