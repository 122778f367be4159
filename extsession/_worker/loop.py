"""The event loop of a session: made when the first `await` needs it, kept until the session ends."""

from __future__ import annotations

import asyncio
import os
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any


class SessionLoop:
    """Runs one coroutine at a time on a loop that stays. Tasks left over go on with the next one."""

    def __init__(self) -> None:
        self.call: ContextVar[int] = ContextVar("call")  # each task inherits the call that it was started by
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False

    def run(self, coroutine: Any, router: Any = None) -> Any:
        """The result of a coroutine. router: of a session in a child, which knows the call and of interrupts."""
        token = self.call.set(router.call if router is not None else 0)
        try:
            return self._run(coroutine, router)
        finally:
            self.call.reset(token)

    def _run(self, coroutine: Any, router: Any) -> Any:
        asyncio.set_event_loop(self._loop)
        self._interrupted = False
        self._task = task = self._loop.create_task(coroutine)
        try:
            # an interrupt that came before the task was there; from here on `interrupt` sees to it
            if router is not None and router.interrupted:
                router.take_interrupt()
            return self._loop.run_until_complete(task)
        except asyncio.CancelledError:
            if self._interrupted:
                raise KeyboardInterrupt from None
            raise
        except KeyboardInterrupt:
            self._wind_up(task)
            raise
        finally:
            self._task = None

    def interrupt(self, frame: FrameType | None) -> bool:
        """Interrupt by cancelling, where the loop waits and no user code runs; False: not so."""
        if self._task is None or self._task.done() or frame is None:
            return False
        module = str(frame.f_globals.get("__name__", ""))
        waits = module.startswith("asyncio.") or module == "selectors"
        if not waits and frame.f_code is not SessionLoop._run.__code__:
            return False
        self._interrupted = True
        # also wakes the selector
        self._loop.call_soon_threadsafe(self._task.cancel)
        return True

    def has_work(self) -> bool:
        """Whether tasks of earlier calls are alive."""
        return bool(asyncio.all_tasks(self._loop))

    # for a branch: the same process twice

    def tasks(self) -> list[str]:
        """Names of the tasks that are alive, each with what it runs."""
        return sorted([_name(task) for task in asyncio.all_tasks(self._loop)])

    def descriptors(self) -> list[int]:
        """The loop's own descriptors, which `renew` makes anew; none if the loop is of a kind that it cannot renew."""
        loop: Any = self._loop
        try:
            epoll = loop._selector._selector
            sockets = [loop._ssock.fileno(), loop._csock.fileno()]
        except AttributeError:  # no loop of asyncio's own, or it is closed
            return []
        # a poll object has no descriptor; a kqueue is not inherited
        return sockets if not hasattr(epoll, "fileno") else [epoll.fileno(), *sockets]

    def renew(self) -> None:
        """In the branch: the loop goes on, with descriptors of its own under the old numbers.

        A copied epoll descriptor is the same object in the kernel: what one process registers or removes there, the
        other has too; and each would read the wake-up bytes of both.
        """
        import socket

        numbers = self.descriptors()
        if not numbers:
            return
        loop: Any = self._loop
        for new, old in zip(socket.socketpair(), numbers[-2:]):
            new.setblocking(False)
            os.dup2(new.fileno(), old, False)
            new.close()
        if len(numbers) == 3:
            self._renew_epoll(loop._selector, numbers[0])

    def _renew_epoll(self, selector: Any, old: int) -> None:
        import select

        with select.epoll() as new:
            os.dup2(new.fileno(), old, False)
        for key in selector.get_map().values():
            events = key.events & 1 and select.EPOLLIN
            selector._selector.register(key.fd, events | (key.events & 2 and select.EPOLLOUT))

    def close(self) -> None:
        """End what is left, as asyncio.run() does at its end."""
        if self._loop.is_closed():
            return
        asyncio.set_event_loop(self._loop)
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _wind_up(self, task: asyncio.Task[Any]) -> None:
        # KeyboardInterrupt left run_until_complete from another task or callback: ours would wait for ever
        if not task.done():
            task.cancel()
            try:
                self._loop.run_until_complete(task)
            except BaseException:  # its end is of no interest: the interrupt is what is reported
                return


def _name(task: Any) -> str:
    coroutine = getattr(task, "get_coro", lambda: None)()
    running = getattr(coroutine, "__qualname__", "")
    return str(task.get_name()) + (" (%s)" % running if running else "")
