"""A price rule that a customer has written: names go in, names come out, and it can do nothing else.

The application's process never parses the rule. `lookup` is a function of the application's, with a price in cycles.
"""

from extsession.script import Script, ScriptLimits, ScriptRejected, ScriptRunner

RULE = """\
ratio = 1.2345678
minimum = 10

def convert(money):
    return money * ratio

if price < minimum:
    cost = convert(minimum)
else:
    cost = convert(price)

cost = cost - lookup(customer)
"""

DISCOUNTS = {"anna": 1.5}


def lookup(name: str) -> float:
    return DISCOUNTS.get(name, 0.0)


limits = ScriptLimits(cycles=100_000, seconds=2.0)
with ScriptRunner(limits=limits, functions={"lookup": (lookup, 50)}) as runner:
    rule = Script(RULE, name="pricing", runner=runner)
    for price, customer in ((7.5, "anna"), (7.5, "bob"), (30, "bob")):
        outcome = runner.run(rule, {"price": price, "customer": customer})
        print(f"{customer}, {price}: {outcome.globals['cost']:.4f} ({outcome.cycles} cycles)")

    dearest = next(iter(runner.explain(rule)))
    print("most cycles:", RULE.splitlines()[dearest - 1].strip())

    for text in ("import os", "cost = price.__class__", "open('/etc/passwd')"):
        try:
            Script(text, name="pricing", runner=runner)
            print("error:", runner.run(text, {"price": 1}).error)
        except ScriptRejected as error:
            print("refused:", error.why)
