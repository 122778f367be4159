"""The child's end of the channel: whole frames out, whole frames in. Blocking, no thread."""

from __future__ import annotations

import os
from _thread import RLock
from sys import byteorder

from .._protocol.frames import FrameDecoder, pack_header
from .._protocol.messages import TO_WORKER, Run, unpack_plain_run
from .descriptors import to_high

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Frame = tuple[int, int, Any]

_CHUNK = 65536
_FIRST = 4096  # most messages are small, and room for a large one costs more than a second read


class Channel:
    """Frames over a stream socket.

    EOFError from `receive` and BrokenPipeError from `send` tell that the controller is gone.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._decoder = FrameDecoder(TO_WORKER)
        self._frames: list[Frame] = []
        self._lock = RLock()
        self._socket: Any = None

    def send(self, kind: int, call: int, pieces: list[Any], fds: tuple[int, ...] = ()) -> None:
        """Send one frame whose body is `pieces`; `fds` travel along."""
        with self._lock:
            if len(pieces) == 1 and not fds:
                body = pieces[0]
                self.send_frame(pack_header(kind, call, len(body)) + body)
                return
            views = [memoryview(piece).cast("B") for piece in pieces]
            size = sum([view.nbytes for view in views])
            rest = [memoryview(pack_header(kind, call, size)), *views]
            if fds:
                self._send_descriptors(rest, fds)
            self._send_all(rest)

    def send_frame(self, frame: bytes) -> None:
        """Send a frame that is whole."""
        with self._lock:
            count = os.write(self.fd, frame)
            if count < len(frame):
                self._send_all([memoryview(frame)[count:]])

    def _send_all(self, rest: list[memoryview]) -> None:
        while rest:
            count = os.writev(self.fd, rest[:64])
            while rest and count >= rest[0].nbytes:
                count -= rest.pop(0).nbytes
            if rest and count:
                rest[0] = rest[0][count:]

    def _send_descriptors(self, rest: list[memoryview], fds: tuple[int, ...]) -> None:
        import _socket

        if self._socket is None:
            self._socket = _socket.socket(fileno=to_high(os.dup(self.fd)))
        packed = b"".join([fd.to_bytes(4, byteorder) for fd in fds])
        count = self._socket.sendmsg(rest[:1], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
        rest[0] = rest[0][count:]

    def receive(self) -> Frame:
        """The next frame; blocks."""
        frames = self._frames
        while not frames:
            self._read()
        return frames.pop(0)

    def receive_plain(self) -> tuple[int, Run] | None:
        """The next message if it is a RUN that has only a source, as most are; else None, and `receive` has it."""
        if self._frames or self._decoder.pending:
            return None
        data = os.read(self.fd, _FIRST)
        if not data:
            raise EOFError
        plain = unpack_plain_run(data)
        if plain is None:
            self._frames += self._decoder.feed(data)
        return plain

    @property
    def has_frames(self) -> bool:
        """Whether `receive` would not block."""
        return bool(self._frames)

    def arrived(self) -> list[Frame]:
        """Take in what has arrived, without blocking; returns the frames that wait, which stay."""
        poll = self.poll()
        while poll.poll(0):
            try:
                self._read()
            except EOFError:
                break
        return self._frames

    def poll(self) -> Any:
        """A poll object that waits for something to arrive."""
        import select

        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return poll

    def _read(self) -> None:
        space = self._decoder.space()
        if space is not None:
            count = os.readv(self.fd, [space])
            if not count:
                raise EOFError
            self._frames += self._decoder.filled(count)
            return
        data = os.read(self.fd, _CHUNK if self._decoder.pending else _FIRST)
        if not data:
            raise EOFError
        self._frames += self._decoder.feed(data)

    def close(self) -> None:
        os.close(self.fd)
        if self._socket is not None:
            self._socket.close()
