"""A kit for tests of programs that use sessions, and of this package itself.

    leaks.py     whether something is left afterwards: descriptors, threads, processes, files, memory
    programs.py  a catalogue of misbehaving programs, with what is to become of each
    clock.py     a clock that stands still until it is told otherwise
    pytest.py    a plugin for pytest: the leak check as a fixture

A front end: it uses public names of the package only, and psutil.
"""

from __future__ import annotations

from .clock import ManualClock
from .leaks import LeakError, no_leaks, own_folder
from .programs import PROGRAMS, Program

__all__ = ["PROGRAMS", "LeakError", "ManualClock", "Program", "no_leaks", "own_folder"]
