"""The buffers of the C library: emptied when a call ends, switched off where C code is about to print.

C's stdout is fully buffered on a pipe. Only code that came with a foreign extension module or through ctypes
prints there: until one is loaded, `_ctypes` is not, and nothing is paid.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IONBF = 2


def attach(force: bool = False) -> CStdio | None:
    """A handle on C's buffers, if code that may use them is loaded (or `force`)."""
    if not force and "_ctypes" not in sys.modules and not _foreign_extensions():
        return None
    try:
        return CStdio()
    except Exception:  # no ctypes in this build, or a C library of another kind: nothing to be done
        return None


def _foreign_extensions() -> bool:
    for module in list(sys.modules.values()):
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        if type(origin) is str and origin.endswith((".so", ".dylib")) and "lib-dynload" not in origin:
            return True
    return False


class CStdio:
    """stdout of the C library, unbuffered from here on; other streams of C are flushed on request."""

    def __init__(self) -> None:
        import ctypes

        libc = ctypes.PyDLL(None)
        self._fflush: Any = libc.fflush
        name = "__stdoutp" if sys.platform == "darwin" else "stdout"
        stdout = ctypes.c_void_p.in_dll(libc, name)
        libc.fflush(None)
        libc.setvbuf(stdout, None, _IONBF, ctypes.c_size_t(0))

    def flush(self) -> None:
        self._fflush(None)
