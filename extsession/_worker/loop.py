"""The event loop of a session: made when the first `await` needs it, kept until the session ends."""

from __future__ import annotations

import asyncio
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

    def reborn(self) -> None:
        """In a clone: the selector and the pipe that wakes it are shared with the original's loop. Make our own."""
        import selectors

        loop: Any = self._loop
        old = loop._selector
        new = selectors.DefaultSelector()
        for key in list(old.get_map().values()):
            new.register(key.fd, key.events, key.data)
        loop._selector = new
        old.close()  # our copy of its descriptor; what it watches, it goes on watching for the original
        loop._close_self_pipe()
        loop._make_self_pipe()

    def has_work(self) -> bool:
        """Whether tasks of earlier calls are alive."""
        return bool(asyncio.all_tasks(self._loop))

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
