"""What a session's descriptors are waited for with: by a caller, and by the hub or an event loop."""

from __future__ import annotations

import select
import selectors

_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


class Watch:
    """Poll objects over the descriptors of one session.

    A caller waits for those that are `urgent` alone at first, and for all later; `pollable` is one descriptor that
    stands for all, made when somebody wants it.
    """

    def __init__(self) -> None:
        self._urgent = select.poll()
        self._all = select.poll()
        self._masks: dict[int, int] = {}
        self._selector: selectors.BaseSelector | None = None

    def add(self, fd: int, urgent: bool = False) -> None:
        self._all.register(fd, select.POLLIN)
        if urgent:
            self._urgent.register(fd, select.POLLIN)
        self._masks[fd] = selectors.EVENT_READ
        if self._selector is not None:
            self._selector.register(fd, selectors.EVENT_READ)

    def remove(self, fd: int, urgent: bool = False) -> None:
        self._all.unregister(fd)
        if urgent:
            self._urgent.unregister(fd)
        del self._masks[fd]
        if self._selector is not None:
            self._selector.unregister(fd)

    def want_room(self, fd: int, wanted: bool) -> None:
        """Whether it is also waited for until an urgent descriptor can be written to."""
        mask = select.POLLIN | (select.POLLOUT if wanted else 0)
        self._urgent.modify(fd, mask)
        self._all.modify(fd, mask)
        self._masks[fd] = _BOTH if wanted else selectors.EVENT_READ
        if self._selector is not None:
            self._selector.modify(fd, self._masks[fd])

    def wait_urgent(self, milliseconds: float) -> list[tuple[int, int]]:
        return self._urgent.poll(milliseconds)

    def wait(self, milliseconds: float) -> list[tuple[int, int]]:
        return self._all.poll(milliseconds)

    def look(self) -> list[tuple[int, int]]:
        """What is ready now. A caller may be blocked in the other poll objects, which take one at a time."""
        poll = select.poll()
        for fd in self._masks:
            poll.register(fd, select.POLLIN)
        return poll.poll(0)

    def pollable(self) -> int:
        """One descriptor that is readable when any of them is ready."""
        if self._selector is None:
            selector = selectors.DefaultSelector()
            for fd, mask in self._masks.items():
                selector.register(fd, mask)
            self._selector = selector
        fileno: int = self._selector.fileno()  # type: ignore[attr-defined]
        return fileno

    def drop_pollable(self) -> None:
        """Nobody wants it any more: one descriptor less."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None
