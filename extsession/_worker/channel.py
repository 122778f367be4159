"""The child's end of the channel: whole frames out, whole frames in. Blocking, no thread."""

from __future__ import annotations

import os
from _thread import RLock

from .._protocol.frames import FrameDecoder, pack_header
from .._protocol.messages import TO_WORKER, Run, unpack_plain_run
from .descriptors import receive_descriptors, send_descriptors, to_high

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
                count = send_descriptors(self.socket(), rest[0], fds)
                rest[0] = rest[0][count:]
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

    def socket(self) -> Any:
        """The channel as a socket object, for what descriptors are needed for."""
        if self._socket is None:
            import _socket

            self._socket = _socket.socket(fileno=to_high(os.dup(self.fd)))
        return self._socket

    def descriptors(self) -> list[int]:
        return [self.fd] if self._socket is None else [self.fd, self._socket.fileno()]

    def replace(self, fd: int) -> None:
        """In a clone: go on with another channel, under the numbers of the old one."""
        os.dup2(fd, self.fd, False)
        if self._socket is not None:
            os.dup2(fd, self._socket.fileno(), False)
        os.close(fd)
        self._decoder = FrameDecoder(TO_WORKER)
        self._frames.clear()

    def receive_raw(self, size: int, most: int) -> tuple[bytes, list[int]]:
        """Bytes that are no frames, with at most so many descriptors; blocks."""
        return receive_descriptors(self.socket(), size, most)

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

    def receive_with_descriptors(self, most: int) -> tuple[Frame, list[int]]:
        """The next frame and the descriptors that came since, where some are expected; blocks."""
        fds: list[int] = []
        while not self._frames:
            data, more = self.receive_raw(_FIRST, most)
            fds += more
            if not data:
                raise EOFError
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0), fds

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
