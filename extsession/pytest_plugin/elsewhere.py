"""Tests that run under other interpreters: one item for each, and what was asked for of whom.

Workers run at the same time, and a little ahead of what is reported; it is reported in the order of the collection.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from .settings import Settings
from .workers import Job, Result, Worker

#: tests that a worker may have been asked for before they are reported
_AHEAD = 2


class OtherPython(pytest.Item):
    """A test as it is under another interpreter; its marks are those of the original."""

    def __init__(self, *, original: pytest.Item, python: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.original = original
        self.python = python
        self.own_markers = list(original.own_markers)
        self.extra_keyword_matches |= original.extra_keyword_matches | {original.name}
        self.keywords.update(dict.fromkeys(original.keywords, True))

    def reportinfo(self) -> tuple[Any, int | None, str]:
        path, line, name = self.original.reportinfo()
        return path, line, _named(name, self.python)

    def runtest(self) -> None:
        raise RuntimeError("it runs in a worker, never here")


def label(python: str) -> str:
    """py3.9 for "3.9"; of a path its last folder that tells something."""
    if re.fullmatch(r"\d+(\.\d+)*t?", python):
        return f"py{python}"
    if re.fullmatch(r"python\d+(\.\d+)*t?", python):
        return "py" + python[len("python") :]
    parts = [part for part in python.replace("\\", "/").split("/") if part]
    while len(parts) > 1 and (parts[-1].startswith("python") or parts[-1] == "bin"):
        parts.pop()
    return "py-" + re.sub(r"[^\w.+-]", "_", parts[-1] if parts else python)


def _named(name: str, python: str) -> str:
    """test_a[py3.9], test_a[py3.9-1] of test_a[1]."""
    head, bracket, rest = name.partition("[")
    return f"{head}[{label(python)}-{rest}" if bracket else f"{name}[{label(python)}]"


def expanded(item: pytest.Item, pythons: tuple[str, ...]) -> Iterator[pytest.Item]:
    """One test for each interpreter."""
    assert item.parent is not None
    for python in pythons:
        yield OtherPython.from_parent(item.parent, name=_named(item.name, python), original=item, python=python)


class Elsewhere:
    """The workers of a run, and the jobs that they have."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._workers: dict[str | None, Worker] = {}
        self._jobs: dict[pytest.Item, Job] = {}
        self._places: dict[pytest.Item, int] = {}
        self._is_free = threading.Semaphore(os.cpu_count() or 1)

    def result(
        self, item: pytest.Item, nextitem: pytest.Item | None, settings_of: Any, order_of: Any
    ) -> tuple[Settings, Result]:
        """Run a test, unless it has been already, and ask for some of those that follow.

        settings_of(item): its settings, None if it does not run in a worker. order_of(settings): for its process.
        """
        following = self._following(item, nextitem)
        if item not in self._jobs:
            settings = settings_of(item)
            self._ask(item, settings, order_of(settings), following)
        for each in following[1 : 1 + _AHEAD * max(1, len(self._workers)) * 2]:
            settings = settings_of(each)
            if settings is None:  # it forks this process, which must have no other test at work then
                break
            python = _python_of(each)
            worker = self._workers.get(python)
            if each not in self._jobs and (worker is None or worker.outstanding < _AHEAD):
                self._ask(each, settings, order_of(settings), following)
        job = self._jobs.pop(item)
        while not job.done.wait(1.0):  # so that Ctrl-C comes through
            pass
        self._workers[_python_of(item)].outstanding -= 1
        return job.settings, job.result

    def _following(self, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.Item]:
        items = item.session.items
        if not self._places:
            self._places = {each: number for number, each in enumerate(items)}
        place = self._places.get(item)
        if place is None or hasattr(self._config, "workerinput"):  # xdist says only what comes next
            return [item] if nextitem is None else [item, nextitem]
        return items[place : place + 64]

    def _ask(self, item: pytest.Item, settings: Settings, order: dict[str, Any], following: list[pytest.Item]) -> None:
        python = _python_of(item)
        worker = self._workers.get(python)
        if worker is None:
            paths = dict.fromkeys(str(each.path) for each in item.session.items if _python_of(each) == python)
            worker = self._workers[python] = Worker(python, self._config, list(paths), self._is_free)
        original = item.original if isinstance(item, OtherPython) else item
        job = self._jobs[item] = Job(original.nodeid, settings, order)
        worker.ask(job)

    def close(self) -> None:
        """End all workers."""
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            worker.close()
        for job in self._jobs.values():
            job.result.close()


def _python_of(item: pytest.Item) -> str | None:
    return item.python if isinstance(item, OtherPython) else None
