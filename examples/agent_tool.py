"""A code tool for an AI agent: one isolated session that keeps its state, a branch for each try, limits, plain answers.

`CodeTool.run` is what the agent's framework would call. A try that fails leaves nothing behind: the agent may try again
from the same state, as often as it likes.
"""

from __future__ import annotations

from typing import Any

from extsession import ExtSession, Isolation, Limits


class CodeTool:
    """Runs code that a model has written. Tries go to a branch; what works becomes the state."""

    def __init__(self) -> None:
        limits = Limits(wall=5.0, memory=300_000_000, processes=16, output=100_000)
        self.session = ExtSession(isolation=Isolation(), limits=limits)

    def run(self, source: str) -> dict[str, Any]:
        """What the model is told: what was printed, the value of the last expression, the error."""
        trial = self.session.fork()
        call = trial.execute(source).wait()
        if call.completion.ok:
            self.session.close()
            self.session = trial  # the try is the state from now on
        else:
            trial.close()
        error = "" if call.error is None else f"{type(call.error).__name__}: {call.error}".splitlines()[0]
        return {"ok": call.completion.ok, "printed": call.stdout, "value": call.repr, "error": error}

    def close(self) -> None:
        self.session.close()


#: what a model might send, one after the other
SCRIPT = [
    "data = [3, 1, 4, 1, 5, 9, 2, 6]",
    "data.clear(); total = sum(data) / len(data)",  # a bug, after it has destroyed the data
    "total = sum(data) / len(data); print('mean', total)",
    "while True: data.append(total)",
    "import os; os.abort()",
    "sorted(data)[-1], total",
]

if __name__ == "__main__":
    tool = CodeTool()
    try:
        for source in SCRIPT:
            told = tool.run(source)
            answer = told["error"] or told["printed"].strip() or told["value"] or "done"
            print(f"{source.splitlines()[0][:60]} -> {answer[:60]}")
    finally:
        tool.close()
