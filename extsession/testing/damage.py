"""Programs that harm what they run in: their streams, the channel, the interpreter, their process."""

from __future__ import annotations

from .. import Outcome
from .program import Program, dies, fails, finishes, interrupted

OUTPUT = (
    interrupted("flood", "prints without end", "while True: print('x' * 1000)", "output"),
    interrupted(
        "raw-flood",
        "writes without end, on both streams",
        """
        import os
        while True:
            os.write(1, bytes(65536))
            os.write(2, bytes(65536))
        """,
        "output",
    ),
    finishes(
        "long-line", "prints 1 MB without an end of the line", "print('x' * 2**20, end='')", "x" * 2**20, "output"
    ),
    finishes("long-repr", "its last value's repr has 30 MB", "'x' * 30_000_000", tags="output"),
    finishes(
        "no-text", "prints bytes that are no text", "import os; os.write(1, b'\\xff' * 1000)", "\ufffd" * 1000, "output"
    ),
    finishes(
        "stdout-none", "sets sys.stdout to None", "import sys; sys.stdout = sys.stderr = None; print(1)", "", "output"
    ),
    finishes(
        "stdout-other",
        "sets sys.stdout to something else",
        "import io, sys; sys.stdout = io.StringIO(); print(1)",
        "",
        "output",
    ),
    fails("stdout-closed", "closes sys.stdout", "import sys; sys.stdout.close(); print(1)", "ValueError", "", "output"),
    fails(
        "stdout-fd-closed",
        "closes descriptors 0, 1 and 2",
        "import os; os.closerange(0, 3); print(1)",
        "OSError",
        tags="output",
    ),
    finishes(
        "stdout-dup2",
        "makes stdout another file",
        """
        import os
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(1)
        """,
        "",
        "output",
    ),
    finishes(
        "stdout-not-blocking",
        "makes stdout non-blocking, and writes what there is room for",
        """
        import os
        os.set_blocking(1, False)
        for _ in range(100):
            try:
                os.write(1, bytes(100_000))
            except BlockingIOError:
                pass
        """,
        tags="output",
    ),
)

CHANNEL = (
    dies(
        "garbage-on-channel",
        "writes garbage into all sockets that it finds",
        """
        import os, stat, time
        for name in os.listdir("/proc/self/fd"):
            try:
                if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    os.write(int(name), os.urandom(10_000))
            except OSError:
                pass
        time.sleep(20)
        """,
        "SIGKILL",
        error="RemoteProtocolError",
        tags="channel",
    ),
    dies(
        "closes-everything",
        "closes all descriptors, and works on",
        """
        import os, time
        os.closerange(0, 65536)
        time.sleep(0.2)
        """,
        exit_code=70,
        tags="channel",
    ),
    dies(
        "channel-dup2",
        "makes all descriptors /dev/null",
        """
        import os, time
        null = os.open(os.devnull, os.O_RDWR)
        for name in os.listdir("/proc/self/fd"):
            os.dup2(null, int(name))
        time.sleep(0.2)
        """,
        exit_code=0,
        tags="channel",
    ),
)

CRASHES = (
    dies("segfault", "reads from address 0", "import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    dies("abort", "aborts", "import os; os.abort()", "SIGABRT"),
    dies("hard-exit", "ends by os._exit(3)", "import os; os._exit(3)", exit_code=3),
    dies("kills-itself", "sends itself SIGKILL", "import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    dies(
        "deep-recursion",
        "recurses until its stack is used up",
        """
        import sys
        sys.setrecursionlimit(10 ** 9)
        class Deep:
            def __getattr__(self, name): return getattr(self, name + "x")
        Deep().x
        """,
        "SIGSEGV",
    ),
    fails("recursion", "recurses without end", "def again(): again()\nagain()", "RecursionError"),
    Program("leaves", "raises SystemExit(4)", "raise SystemExit(4)", Outcome.EXITED, False, exit_code=4),
    fails("asks", "asks for input that nobody gives", "input('? ')", "EOFError"),
)

SIGNALS = (
    dies(
        "signal-from-outside",
        "is sent SIGTERM by another process",
        """
        import os, subprocess, time
        subprocess.Popen(["sh", "-c", f"sleep 0.1; kill -TERM {os.getpid()}"])
        time.sleep(20)
        """,
        "SIGTERM",
        tags="signals processes",
    ),
    dies(
        "alarm",
        "lets a timer of its own end it",
        "import signal, time; signal.alarm(1); time.sleep(20)",
        "SIGALRM",
        tags="signals",
    ),
    dies(
        "cpu-limit",
        "uses up a CPU limit that it has set for itself",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (1, 5))
        while True: pass
        """,
        "SIGXCPU",
        tags="signals resources",
    ),
    finishes(
        "interrupt-storm",
        "gets a thousand SIGINT while it works, and has no use for KeyboardInterrupt",
        """
        import os, signal, time
        pid = os.getpid()
        if not os.fork():
            for _ in range(1000):
                os.kill(pid, signal.SIGINT)
            os._exit(0)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except KeyboardInterrupt:
                pass
        """,
        tags="signals processes",
    ),
)

RESOURCES = (
    fails(
        "memory",
        "takes memory until there is no more (a limit of its own)",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (2 ** 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
        taken = []
        while True:
            taken.append(bytearray(10_000_000))
        """,
        "MemoryError",
        tags="resources",
    ),
    fails(
        "descriptors",
        "opens descriptors until there are no more, and keeps them",
        """
        import os
        taken = []
        while True:
            taken.append(os.dup(0))
        """,
        "OSError",
        tags="resources",
    ),
)

INTERPRETER = (
    finishes("no-modules", "empties sys.modules", "import sys; sys.modules.clear()", tags="interpreter"),
    finishes(
        "no-builtins",
        "deletes what is built in",
        """
        import builtins
        delete = delattr
        for name in list(vars(builtins)):
            if not name.startswith("__"):
                delete(builtins, name)
        """,
        tags="interpreter",
    ),
    finishes(
        "hooks",
        "replaces hooks by some that fail",
        """
        import sys
        def fail(*_): raise ZeroDivisionError
        sys.excepthook = sys.displayhook = sys.unraisablehook = fail
        """,
        tags="interpreter",
    ),
    fails(
        "trace",
        "sets a trace function that fails",
        """
        import sys
        def fail(*_): raise ZeroDivisionError
        sys.settrace(fail)
        def work(): pass
        work()
        """,
        "ZeroDivisionError",
        tags="interpreter",
    ),
    finishes(
        "no-folder",
        "is in a folder that is not there any more",
        """
        import os, tempfile
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        os.rmdir(folder)
        """,
        tags="interpreter",
    ),
)
