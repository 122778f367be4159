"""Bytes <-> frames <-> messages, without any I/O. Shipped to every child.

What may live here: byte layouts and the values that cross the wire. Nothing here reads a
descriptor, a clock or a process. Standard library only, CPython 3.8+, and at import time
nothing that a bare interpreter has not loaded already.
"""
