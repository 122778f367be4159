"""All that runs in a child process. Shipped to it as source or byte code, loaded from memory.

What may live here: code that runs beside the user's code. Standard library only, CPython 3.8+, relative
imports of this package and of `_protocol` only. What it imports at start is start-up time of every
session, and a test lists it.
"""
