"""Locked-down scripts: the engine that checks, compiles and runs them inside a child.

`text` and `checker` say what is a script, `compiler` rewrites it so that all it does goes through `guards`, `methods`
and `builtins`, which charge `meter` by the table in `costs`. `values` copies data in and out, `render` makes text of
it, `sets` are sets with an order. `engine` is the only entrance: `prepare` and `run`. Loaded only in sessions that run
scripts.
"""
