"""The environment variables of a session to come: what changes against its template, and what cannot.

As bytes throughout, as the kernel has them: the two sides need not agree on an encoding.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

#: (what their names begin with, who has read them by the time an interpreter is ready)
_READ_AT_START = (
    ("PYTHON", "CPython and its site module: flags, hash seed, path, encodings, allocator"),
    ("LC_", "setlocale(), on which the file system's encoding and those of the streams rest"),
    ("LANG", "the same; LANGUAGE as well"),
    ("LOCPATH", "setlocale(): where glibc looks for locales"),
    ("LD_", "the dynamic loader: libraries, preloads, audits"),
    ("GLIBC_TUNABLES", "the dynamic loader and malloc"),
    ("MALLOC_", "malloc, and the same names of other allocators"),
    ("HOME", "site: the user's site-packages on sys.path"),
    ("ASAN_OPTIONS", "the run time of a sanitizer"),
    ("LSAN_OPTIONS", "the same"),
    ("MSAN_OPTIONS", "the same"),
    ("TSAN_OPTIONS", "the same"),
    ("UBSAN_OPTIONS", "the same"),
    ("COVERAGE_", "coverage's .pth file, which starts the measuring of a child"),
    ("COV_CORE_", "pytest-cov's .pth file, the same"),
)
#: the same for libraries that read them while they are loaded, or make their threads then
_READ_BY_LIBRARIES = (
    ("OMP_", "every OpenMP run time: threads, their places"),
    ("GOMP_", "GNU's"),
    ("KMP_", "Intel's and LLVM's"),
    ("OPENBLAS_", "OpenBLAS starts its threads when it is loaded"),
    ("GOTO_NUM_THREADS", "OpenBLAS, by its old name"),
    ("BLIS_", "BLIS"),
    ("MKL_", "Intel's MKL"),
    ("VECLIB_", "Apple's Accelerate"),
    ("NUMEXPR_", "numexpr: size of its pool"),
    ("NUMBA_", "numba: its configuration"),
    ("NPY_", "numpy: which instructions of the processor it may use"),
    ("NUMPY_", "numpy: the same, and memory by huge pages"),
    ("MPL", "matplotlib: MPLBACKEND, MPLCONFIGDIR"),
    ("OPENSSL_", "OpenSSL: its configuration, read by the first of ssl and hashlib"),
    ("CUDA_", "CUDA and what is built on it: the devices there are"),
)
_AT_START = tuple(os.fsencode(name) for name, _ in _READ_AT_START)
_BY_LIBRARIES = _AT_START + tuple(os.fsencode(name) for name, _ in _READ_BY_LIBRARIES)

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

# the last question and its answer, by `preloaded`: an environment is looked through once, not at each start
_last: dict[bool, tuple[Mapping[bytes, bytes], tuple[tuple[bytes, bytes], ...]]] = {}


def of_child(env: Mapping[str, str] | None = None) -> dict[bytes, bytes]:
    """The environment that `subprocess.Popen(env=env)` gives a child now, as a dict of the caller's own.

    None is this process's os.environ. Popen(env=None) gives C's environment instead, which has what code in C has set
    past os.environ, such as readline's LINES and COLUMNS: templates are started with this very dict, so that
    forked sessions and spawned ones agree.
    Raises what Popen raises for a name or value that cannot be: ValueError, TypeError.
    """
    if env is None:
        # a copy of the dict itself: in one step, whatever other threads do, and without decoding each entry
        data = getattr(os.environ, "_data", None)
        return data.copy() if isinstance(data, dict) else dict(os.environb)
    try:
        encoded = {name.encode(_ENCODING, _ERRORS): value.encode(_ENCODING, _ERRORS) for name, value in env.items()}
    except AttributeError:  # bytes and paths, which Popen takes too
        encoded = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    names = b"".join(encoded)
    if b"" in encoded or b"=" in names or b"\0" in names:
        raise ValueError(f"illegal environment variable name among {list(encoded)}")
    if b"\0" in b"".join(encoded.values()):
        bad = next(name for name, value in encoded.items() if b"\0" in value)
        raise ValueError(f"embedded null byte in the environment variable {os.fsdecode(bad)!r}")
    return encoded


def changes(
    now: Mapping[bytes, bytes], base: Mapping[bytes, bytes]
) -> tuple[dict[bytes, bytes], list[bytes]] | None:
    """What to set and what to remove where `base` is to become `now`; None if they are equal."""
    if now == base:
        return None
    missing = object()
    get = base.get
    return (
        {name: value for name, value in now.items() if get(name, missing) != value},
        [name for name in base if name not in now],
    )


def fixed(env: Mapping[bytes, bytes], preloaded: bool) -> tuple[tuple[bytes, bytes], ...]:
    """The variables that cannot be changed once an interpreter has started, for the key of its template.

    preloaded: it has loaded modules of the caller's choice, some of which read variables while they are loaded.
    """
    last = _last.get(preloaded)
    if last is not None and last[0] == env:
        return last[1]
    names = _BY_LIBRARIES if preloaded else _AT_START
    found = tuple(sorted(item for item in env.items() if item[0].startswith(names)))
    _last[preloaded] = (dict(env), found)
    return found
