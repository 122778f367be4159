"""The progress of a `map`, shown by rich."""

from __future__ import annotations

from typing import Any


class Bar:
    """A line on stderr while it is open; a thread of rich redraws it. ImportError without the extra."""

    def __init__(self, label: str, total: int | None) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError as error:
            text = "progress=True needs rich, which is not installed: pip install 'extsession[progress]'"
            raise ModuleNotFoundError(text, name="rich") from error
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._progress: Any = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(label, total=total)
        self._progress.start()

    def show(self, completed: int) -> None:
        self._progress.update(self._task, completed=completed)

    def close(self) -> None:
        """Leaves the line as it is. Does nothing the second time."""
        self._progress.stop()
