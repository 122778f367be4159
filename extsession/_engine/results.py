"""What a call shows of itself, for both colours."""

from __future__ import annotations

from typing import Any

from ..errors import NotReady
from .call import Call
from .core import Core


class EndOfCall:
    """How a call ended, of a session of whatever kind. The facts are there when it is complete."""

    _call: Any

    @property
    def number(self) -> int:
        """The call's number in its session, from 1."""
        number: int = self._call.number
        return number

    @property
    def completion(self) -> Any:
        """The Completion: outcome, error, usage, steps of the ladder, what became of the session."""
        if self._call.completion is None:
            raise NotReady(f"call {self._call.number} is not complete yet")
        return self._call.completion

    @property
    def outcome(self) -> Any:
        return self.completion.outcome

    @property
    def error(self) -> BaseException | None:
        """What the code raised, or what ended the call before its end; None if it went well."""
        _ = self.completion
        error: BaseException | None = self._call.error
        return error

    def raise_for_error(self) -> None:
        """Raise `error` if there is one."""
        error = self.error
        if error is not None:
            raise error

    @property
    def dropped(self) -> int:
        """Bytes of output over the limit, which were not kept."""
        dropped: int = self._call.output.dropped
        return dropped


class ResultsCore(EndOfCall):
    """What a call has given, for both colours. Text and errors are there when the call is complete."""

    _call: Call

    def __init__(self, core: Core, call: Call) -> None:
        self._core = core
        self._call = call
        self._position = 0

    @property
    def source(self) -> str:
        return self._call.label

    @property
    def done(self) -> bool:
        """Whether the call is complete. Becomes true while somebody waits, or by the hub."""
        return self._call.is_done

    @property
    def usage(self) -> Any:
        """Usage of the call: wall and CPU seconds, peak memory of the session in bytes."""
        return self.completion.usage

    @property
    def exit_code(self) -> int | None:
        """The status that SystemExit asked for, or that the process ended with."""
        code: int | None = self.completion.exit_code
        return code

    @property
    def stdout(self) -> str:
        """What the call wrote to stdout. Undecodable bytes are replaced; `stdout_bytes` has them."""
        return self._decode(self.stdout_bytes)

    @property
    def stderr(self) -> str:
        return self._decode(self.stderr_bytes)

    @property
    def stdout_bytes(self) -> bytes:
        _ = self.completion
        return self._call.output.joined("stdout")

    @property
    def stderr_bytes(self) -> bytes:
        _ = self.completion
        return self._call.output.joined("stderr")

    @property
    def late_stdout(self) -> str:
        """What threads, tasks and processes that the call left behind have written since it was over."""
        return self._decode(self._call.output.joined("stdout", True))

    @property
    def late_stderr(self) -> str:
        return self._decode(self._call.output.joined("stderr", True))

    @property
    def events(self) -> tuple[Any, ...]:
        """The chunks of both streams so far, in order; those that came late at the end."""
        return tuple(self._call.output.events)

    @property
    def displays(self) -> tuple[Any, ...]:
        """Rich output (RichOutput), where the session was asked for it."""
        return tuple(self._call.output.displays)

    @property
    def repr(self) -> str | None:
        """repr() of the value of the last expression, as a prompt shows it; None if there is none to show."""
        _ = self.completion
        done = self._call.done
        text = (done.extra or {}).get("repr") if done is not None else None
        return text if isinstance(text, str) else None

    def read(self, size: int | None = None) -> str:
        """The next `size` characters of stdout, or all that is left; NotReady until the call is complete."""
        text = self.stdout
        start = self._position
        end = len(text) if size is None or size < 0 else min(len(text), start + size)
        self._position = end
        return text[start:end]

    def _decode(self, data: bytes) -> str:
        return data.decode(self._core.encoding, "replace")

    def __repr__(self) -> str:
        state = self._call.completion or f"call {self._call.number} {self._call.state.value}"
        return f"<{type(self).__name__} {state}>"


def prompt_of(call: Call, encoding: str) -> str:
    """What the code printed before it asked for input: the last line, which has no end. getpass asks on stderr.

    To be called once for each line: the line end that a person types after a prompt is not in the output.
    """
    events = call.output.events
    if not events:
        return ""
    stream = events[-1].stream
    text = call.output.joined(stream)
    tail = text[max(call.stdin.seen.get(stream, 0), len(text) - 4096) :]
    call.stdin.seen[stream] = len(text)
    return tail[tail.rfind(b"\n") + 1 :].decode(encoding, "replace")


