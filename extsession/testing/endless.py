"""Programs that do not end when they should, and those that leave something running."""

from __future__ import annotations

from .program import TO_KILL, TO_TERMINATE, dies, finishes, interrupted, stubborn

WILL_NOT_STOP = (
    stubborn(
        "catches-everything",
        "catches BaseException in a loop",
        """
        def work():  # CPython 3.11 looks for signals at a loop's jump, just outside of a `try` around the loop
            while True: pass
        while True:
            try:
                work()
            except BaseException:
                pass
        """,
        TO_TERMINATE,
    ),
    stubborn(
        "ignores-signals",
        "ignores SIGINT and SIGTERM",
        """
        import signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: pass
        """,
        TO_KILL,
        "signals",
    ),
    stubborn(
        "blocks-signals",
        "blocks all signals",
        """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True: pass
        """,
        TO_KILL,
        "signals",
    ),
    stubborn(
        "replaces-handlers",
        "has handlers of its own for all signals, which do nothing",
        """
        import signal
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try:
                signal.signal(number, lambda *_: None)
            except (OSError, ValueError):
                pass
        while True: pass
        """,
        TO_KILL,
        "signals",
    ),
    interrupted("long-power", "computes 7**7**12: C code that looks for signals now and then", "7 ** 7 ** 12"),
    stubborn("c-loop", "sits in a loop in C", "sum(iter(int, 1))", TO_TERMINATE),
    stubborn(
        "holds-the-gil",
        "waits in C for a lock that nobody releases, and holds the GIL",
        """
        import ctypes
        library = ctypes.PyDLL(None)
        lock = ctypes.create_string_buffer(256)
        library.pthread_mutex_init(lock, None)
        library.pthread_mutex_lock(lock)
        library.pthread_mutex_lock(lock)
        """,
        TO_TERMINATE,
    ),
    stubborn(
        "stops-itself", "stops itself", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", TO_KILL, "signals"
    ),
    stubborn(
        "sleeps-uninterruptibly",
        "waits in the kernel for a child to exec, as vfork() does: only SIGKILL ends that",
        """
        import ctypes, os, time
        number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
        if ctypes.CDLL(None).syscall(number, 0x4000 | 17, 0, 0, 0, 0) == 0:  # clone(CLONE_VFORK | SIGCHLD)
            time.sleep(1000)
        """,
        TO_KILL,
        "signals processes",
    ),
    stubborn(
        "becomes-another",
        "becomes another program by exec, which ignores signals",
        """
        import os
        os.execv("/bin/sh", ["sh", "-c", 'trap "" INT TERM; while :; do sleep 0.05; done'])
        """,
        TO_KILL,
    ),
    interrupted(
        "full-pipe", "writes into a full pipe of its own", "import os; r, w = os.pipe(); os.write(w, bytes(1 << 21))"
    ),
    interrupted(
        "full-pipe-of-child",
        "waits for a child whose output it does not read",
        "import subprocess; subprocess.Popen(['yes'], stdout=subprocess.PIPE).wait()",
        "processes",
    ),
    interrupted("sleeps", "sleeps", "import time; time.sleep(1000)"),
    interrupted("awaits", "awaits what never comes", "import asyncio; await asyncio.Event().wait()"),
    stubborn(
        "awaits-stubbornly",
        "catches CancelledError and KeyboardInterrupt in a loop",
        """
        import asyncio
        while True:
            try:
                await asyncio.sleep(0.01)
            except BaseException:
                pass
        """,
        TO_TERMINATE,
    ),
    interrupted(
        "repr-hangs",
        "its last value's repr does not end",
        """
        class Slow:
            def __repr__(self):
                while True: pass
        Slow()
        """,
    ),
    stubborn(
        "atexit-hangs",
        "leaves with SystemExit, and hangs in atexit",
        "import atexit, time\natexit.register(time.sleep, 1000)\nraise SystemExit(3)",
        TO_TERMINATE,
    ),
)

PROCESSES = (
    finishes(
        "daemons",
        "double-forks, setsid, closes all descriptors, and goes on",
        """
        import os, time
        for _ in range(5):
            if not os.fork():
                os.setsid()
                if not os.fork():
                    os.setsid()
                    os.closerange(0, 4096)
                    time.sleep(30)
                os._exit(0)
            os.wait()
        """,
        tags="processes",
    ),
    finishes(
        "nohup",
        "leaves processes that ignore SIGHUP and SIGTERM",
        """
        import subprocess
        for _ in range(3):
            subprocess.Popen(["nohup", "sh", "-c", 'trap "" TERM HUP; sleep 30'], start_new_session=True)
        """,
        tags="processes",
    ),
    finishes(
        "hydra",
        "leaves processes that go on as a child of themselves, again and again",
        """
        import os, time
        end = time.monotonic() + 10
        for _ in range(4):
            if not os.fork():
                os.setsid()
                while time.monotonic() < end:
                    if os.fork():
                        os._exit(0)
                os._exit(0)
        """,
        tags="processes",
    ),
    finishes(
        "fork-bomb",
        "leaves 63 processes, each the child of another",
        """
        import os, time
        me = os.getpid()
        for _ in range(6):
            os.fork()
        if os.getpid() != me:
            time.sleep(30)
            os._exit(0)
        """,
        tags="processes",
    ),
    finishes(
        "stopped-child",
        "leaves a stopped child and a zombie",
        """
        import os, signal, subprocess
        subprocess.Popen(["sleep", "30"]).send_signal(signal.SIGSTOP)
        if not os.fork():
            os._exit(0)
        """,
        tags="processes",
    ),
    finishes(
        "many-threads",
        "leaves threads that are no daemons, and print",
        """
        import threading, time
        def work():
            for _ in range(3000):
                print("x", end="", flush=True)
                time.sleep(0.01)
        for _ in range(5):
            threading.Thread(target=work).start()
        """,
        tags="threads",
    ),
    dies(
        "kills-warden",
        "kills its parent, the warden, with SIGKILL",
        "import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(20)",
        alone=True,
        tags="processes",
    ),
)
