"""The templates of this process: found by what they can serve, started when first needed, replaced when outdated."""

from __future__ import annotations

import functools
import marshal
import os
import threading
from collections.abc import Callable
from typing import Any

from ..errors import IsolationUnavailable, LaunchError
from . import ambient, environment
from .base import Process, Spec
from .local import LocalLauncher, LocalProcess
from .places import key_of
from .template import LOOK, CannotServe, Template, TemplateGone, is_possible

#: open files below which the descriptors that a template has would be out of reach
_FEW_FILES = 256
#: most templates that are kept; those used longest ago end
_MOST = 32


class Templates:
    """Templates by what they can serve."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[Any, Template] = {}
        self._starting: dict[Any, threading.Lock] = {}
        self._impossible: set[Any] = set()  # what cannot have templates
        self.when_due: Callable[[], object] | None = None  # called when `next_look` has changed

    def launch(self, spec: Spec) -> LocalProcess:
        """A session by a template, which is started if there is none; CannotServe, LaunchError."""
        now = ambient.capture()
        env = environment.of_child(spec.env)
        folder = _open_folder(spec)
        try:
            for _ in range(3):  # one that ends just when it is asked is replaced
                template = self._get(spec, now, env, folder)
                try:
                    process = template.clone(spec, now, env, folder)
                except TemplateGone:
                    self.drop(template)
                else:
                    if template.stock.most:
                        self._restock(template)
                    return process
        finally:
            os.close(folder)
        raise CannotServe("its templates end as soon as they are there")

    def _restock(self, template: Template) -> None:
        if self.when_due is None:  # nobody tends
            template.fill_stock()
        else:
            template.stock.fill_soon()
            self.when_due()

    def is_ready(self, spec: Spec) -> bool:
        """Whether a template for it is there already."""
        try:
            now, env = ambient.capture(), environment.of_child(spec.env)
            folder = _open_folder(spec)
        except (OSError, ValueError, TypeError):
            return True  # whatever is wrong is told at once
        try:
            key, here = self._keys(spec, now, env, folder)
        finally:
            os.close(folder)
        return key in self._known or here in self._known or key in self._impossible

    def warm_up(self, spec: Spec) -> Template:
        """The template for `spec`, started if it is not there."""
        now = ambient.capture()
        env = environment.of_child(spec.env)
        folder = _open_folder(spec)
        try:
            return self._get(spec, now, env, folder)
        finally:
            os.close(folder)

    def all(self) -> list[Template]:
        """Those that are alive, as far as is known."""
        self.tend()
        with self._lock:
            return list(self._known.values())

    def tend(self) -> None:
        """Collect those that have ended for want of use."""
        for template in list(self._known.values()):
            template.tend()
            if template.is_over:
                self.drop(template)

    def next_look(self) -> float | None:
        known = list(self._known.values())
        due = [each.due() for each in known]
        due += [when for each in known if (when := each.stock.next_look()) is not None]
        return min(due, default=None)

    def abandon(self) -> None:
        """In a forked process."""
        known, self._known = self._known, {}
        for template in known.values():
            template.abandon()
        self._lock = threading.RLock()
        self._starting = {}
        self.when_due = None

    def _get(self, spec: Spec, now: ambient.Ambient, env: dict[bytes, bytes], folder: int) -> Template:
        key, here = self._keys(spec, now, env, folder)
        if key in self._impossible:
            raise CannotServe
        found = self._usable(key, here)
        if found is not None:
            return found
        with self._lock:
            starting = self._starting.setdefault(key, threading.Lock())
        while not starting.acquire(timeout=LOOK):
            if spec.is_unwanted():
                raise CannotServe("it is not waited for any more")
        try:
            found = self._usable(key, here)
            if found is None:
                try:
                    found = Template.start(spec, now, env)
                except CannotServe as fault:
                    if fault.for_good:
                        self._impossible.add(key)
                    raise
                with self._lock:
                    self._known[here if found.local else key] = found
                    outdated = sorted(self._known.values(), key=lambda each: each.used)[:-_MOST]
                for each in outdated:
                    self.drop(each)
                self.tend()
                if self.when_due is not None:
                    self.when_due()
        finally:
            starting.release()
        return found

    def _keys(self, spec: Spec, now: ambient.Ambient, env: dict[bytes, bytes], folder: int) -> tuple[Any, Any]:
        """Of a template that serves in any directory, and of one that has loaded modules of this one."""
        if spec.walls is not None:  # nothing of it is changed for a session
            walls = marshal.dumps(dict(spec.walls))
            kind = (key_of(spec.interpreter.path), spec.preload, spec.scripts)
            key: Any = (*kind, now, tuple(sorted(env.items())), walls)
            return key, key
        key = (key_of(spec.interpreter.path), spec.preload, spec.scripts, ambient.fixed(now, env, bool(spec.preload)))
        place = os.fstat(folder)
        here = (*key, place.st_dev, place.st_ino)
        return (here if _has_one_of(folder, spec.preload) else key), here

    def _usable(self, key: Any, here: Any) -> Template | None:
        for each in (key, here):
            found = self._known.get(each)
            if found is not None:
                if found.is_current():
                    return found
                self.drop(found)
        return None

    def drop(self, template: Template) -> None:
        with self._lock:
            for key in [key for key, each in self._known.items() if each is template]:
                del self._known[key]
        template.end()


def _open_folder(spec: Spec) -> int:
    return os.open("." if spec.cwd is None else spec.cwd, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _has_one_of(folder: int, modules: tuple[str, ...]) -> bool:
    """Whether one of these is there, perhaps: the current directory comes first on `sys.path`."""
    for name in modules:
        top = name.partition(".")[0]
        for each in (top, top + ".py"):  # what is compiled only, or in C, has another suffix: rare enough
            try:
                os.stat(each, dir_fd=folder)
            except OSError:
                continue
            return True
    return False


_templates = Templates()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_templates.abandon)


def _can_serve(spec: Spec) -> bool:
    return is_possible() and spec.limits.get("open_files", _FEW_FILES) >= _FEW_FILES


class WarmLauncher:
    """Clones a template where that can be, and spawns where not."""

    def __init__(self) -> None:
        self._cold = LocalLauncher()

    def launch(self, spec: Spec) -> Process:
        """A session; LaunchError. May take as long as its template needs to load the preloads."""
        if _can_serve(spec):
            try:
                process = _templates.launch(spec)
                process.again = functools.partial(self._cold.launch, spec)  # it ends before it has made the session
                return process
            except (CannotServe, OSError, ValueError):  # the spawn says better what is wrong, if anything is
                pass
        return self._cold.launch(spec)

    def may_block(self, spec: Spec) -> bool:
        return _can_serve(spec) and not _templates.is_ready(spec)


def launch(spec: Spec) -> LocalProcess:
    """A session by its template; CannotServe, LaunchError."""
    try:
        return _templates.launch(spec)
    except (OSError, ValueError) as error:
        raise LaunchError(f"cannot start {spec.interpreter.path}: {error}", python=spec.interpreter.path) from error


def is_ready(spec: Spec) -> bool:
    """Whether its template is there."""
    return _templates.is_ready(spec)


_denied: dict[tuple[str, bytes], IsolationUnavailable] = {}


def denied(spec: Spec) -> IsolationUnavailable | None:
    """Whether the host has denied these walls before: it will again."""
    return _denied.get((spec.interpreter.path, marshal.dumps(dict(spec.walls or {}))))


def note_denied(spec: Spec, error: IsolationUnavailable) -> None:
    _denied[spec.interpreter.path, marshal.dumps(dict(spec.walls or {}))] = error


def warm_up(spec: Spec) -> Template | None:
    """The template that serves `spec`; None where there can be none. LaunchError."""
    if not is_possible():
        return None
    try:
        return _templates.warm_up(spec)
    except CannotServe:
        return None


def known() -> list[Template]:
    """Those of this process."""
    return _templates.all()


def drop(template: Template) -> None:
    """End one of them."""
    _templates.drop(template)


def next_look() -> float | None:
    """When a template may have ended for want of use, by the monotonic clock; None if there is none."""
    return _templates.next_look()


def call_when_due(callback: Callable[[], object]) -> None:
    """Have it called, in any thread, when `next_look` has changed."""
    _templates.when_due = callback


def tend() -> None:
    """Collect those that have."""
    _templates.tend()
