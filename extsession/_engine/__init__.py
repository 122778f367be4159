"""The controller's half, without colour: neither sync nor async.

What may live here: decisions. Order, state, deadlines, who is killed next; and `link`, the one place that
does I/O, in non-blocking steps.
"""
