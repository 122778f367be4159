"""One-shots: a fresh process for one expression or one program, gone when it is done."""

from extsession import ExtEval, exteval, extexec

# One expression: its value. What it raises is raised here.
print("exteval:", exteval("sum(range(101))"))
try:
    exteval("{}['missing']")
except KeyError as error:
    print("exteval raises:", repr(error))

# One program, to the end of its process: what it printed.
result = extexec("import sys; print('to stdout'); print('to stderr', file=sys.stderr); sys.exit(3)")
stdout, stderr = result
print("extexec:", repr(stdout), repr(stderr), "status", result.exit_status)

# Several expressions at the same time, each in a process of its own.
evaluations = [ExtEval(f"(__import__('time').sleep(1), {n} ** 2)[1]") for n in (1, 2, 3)]
try:
    print("the first was done at once:", evaluations[0].result)
except ValueError as error:
    print("reading it early:", error)
print("ExtEval:", [each.wait().result for each in evaluations])
