"""What a user would take instead: one class a peer, all with `run(mode, source)` on a warm process.

Each says with `needs` which module it is made with; `Missing` is raised where that is not installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, ClassVar

from . import child
from .harness import Bench, Missing

_PATIENCE = 60.0


class Peer:
    """A process that runs source text; modes are those of child.run. large: it carries 100 MB in a value."""

    name: ClassVar[str]
    needs: ClassVar[str] = ""
    large: ClassVar[bool] = False

    @classmethod
    def require(cls) -> None:
        if cls.needs and importlib.util.find_spec(cls.needs) is None:
            raise Missing(f"{cls.needs} is not installed")

    def run(self, mode: str, source: str) -> Any:
        raise NotImplementedError

    def array(self, name: str) -> Any:
        """The NumPy array of that name."""
        return self.run("eval", name)

    def close(self) -> None:
        raise NotImplementedError


class PipeWorker(Peer):
    """A pickled call over multiprocessing.Pipe, and nothing else."""

    name = "multiprocessing.Pipe"
    large = True

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=child.serve_pipe, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, mode: str, source: str) -> Any:
        self._connection.send((mode, source))
        return self._connection.recv()

    def close(self) -> None:
        self._connection.close()
        self._process.join(_PATIENCE)
        self._process.close()


class ForkServer(Peer):
    """multiprocessing's fork server, which has loaded what its children run: a process and a pipe for each."""

    name = "multiprocessing forkserver"

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=child.serve_pipe, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    @classmethod
    @contextlib.contextmanager
    def serving(cls, *preload: str) -> Iterator[None]:
        """The server, which is one for the whole of this process, with modules loaded."""
        from multiprocessing import forkserver

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([child.__name__, *preload])
        try:
            cls().close()  # it is started with the first of them
            yield
        finally:
            server: Any = forkserver._forkserver  # type: ignore[attr-defined]
            server._stop()  # as CPython's own tests do: the next row wants it with other modules

    def run(self, mode: str, source: str) -> Any:
        self._connection.send((mode, source))
        return self._connection.recv()

    def close(self) -> None:
        self._connection.close()
        self._process.join(_PATIENCE)
        self._process.close()


class Executor(Peer):
    """One process, spawned: a fork of this one would hold the descriptors of the other peers."""

    name = "ProcessPoolExecutor"
    large = True

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def run(self, mode: str, source: str) -> Any:
        return self._pool.submit(child.run, mode, source).result(_PATIENCE)

    def close(self) -> None:
        self._pool.shutdown()


class Loky(Peer):
    name = "loky"
    needs = "loky"
    large = True

    def __init__(self) -> None:
        import loky

        self._pool = loky.ProcessPoolExecutor(max_workers=1)

    def run(self, mode: str, source: str) -> Any:
        return self._pool.submit(child.run, mode, source).result(_PATIENCE)

    def close(self) -> None:
        self._pool.shutdown(wait=True, kill_workers=True)


class Execnet(Peer):
    """A loop inside one remote_exec. It knows no arrays: those are pickled, protocol 5."""

    name = "execnet"
    needs = "execnet"
    large = True

    _LOOP = """
import pickle
for mode, source in channel:
    if mode == "pickle":
        channel.send(pickle.dumps(run("eval", source), 5))
    else:
        channel.send(run(mode, source))
"""

    def __init__(self) -> None:
        import execnet

        self._group = execnet.Group()
        self._channel = self._group.makegateway("popen").remote_exec(inspect.getsource(child) + self._LOOP)

    def run(self, mode: str, source: str) -> Any:
        self._channel.send((mode, source))
        return self._channel.receive(_PATIENCE)

    def array(self, name: str) -> Any:
        return pickle.loads(self.run("pickle", name))

    def close(self) -> None:
        self._channel.close()
        self._group.terminate(5.0)


class JsonLines(Peer):
    name = "JSON lines child"

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", inspect.getsource(child) + "\nserve_lines()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, mode: str, source: str) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps((mode, source)) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    def close(self) -> None:
        self._process.communicate()


class ReplWrap(Peer):
    """pexpect.replwrap, without the delay of 50 ms before each line sent that it has by default."""

    name = "pexpect.replwrap, no delay"
    needs = "pexpect"
    delay: ClassVar[float | None] = None

    def __init__(self) -> None:
        from pexpect import replwrap

        # Python 3.13 has a prompt of its own that echoes and colours.
        self._repl = replwrap.python(command=f"env PYTHON_BASIC_REPL=1 {sys.executable}")
        self._repl.child.delaybeforesend = self.delay

    def run(self, mode: str, source: str) -> Any:
        shown = self._repl.run_command(source, timeout=_PATIENCE).replace("\r\n", "\n")
        return {"exec": None, "print": shown}[mode] if mode != "eval" else int(shown)

    def close(self) -> None:
        self._repl.child.close(force=True)


class ReplWrapDefault(ReplWrap):
    name = "pexpect.replwrap"
    delay = 0.05


class IPyKernel(Peer):
    """jupyter_client: the shell's reply; with execute_interactive for what was printed or displayed."""

    name = "ipykernel"
    needs = "ipykernel"

    def __init__(self) -> None:
        from jupyter_client.manager import start_new_kernel

        self._manager, self._client = start_new_kernel(kernel_name="python3", startup_timeout=_PATIENCE)

    def run(self, mode: str, source: str) -> Any:
        if mode == "exec":
            self._client.execute(source, reply=True, timeout=_PATIENCE)
            return None
        shown: list[str] = []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            elif message["msg_type"] == "execute_result":
                shown.append(content["data"]["text/plain"])

        self._client.execute_interactive(source, timeout=_PATIENCE, output_hook=take)
        text = "".join(shown)
        return text if mode == "print" else int(text)

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


ALL: tuple[type[Peer], ...] = (
    PipeWorker,
    JsonLines,
    Execnet,
    Executor,
    Loky,
    ReplWrap,
    ReplWrapDefault,
    IPyKernel,
)


def start(bench: Bench, kind: type[Peer]) -> Peer | None:
    """The peer, warm, to be closed with the row; None, and left out by name, where it cannot be."""
    peer = None
    with bench.optional(kind.name):
        kind.require()
        peer = kind()
        bench.closing(peer.close)
        peer.run("exec", "pass")
        return peer
    return None
