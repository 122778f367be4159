"""Templates as users see them: look at them, make them ahead of need, end them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

from .._launch import templates as _templates
from .._launch.template import Template
from .._launch.walled import WalledLauncher
from ..options import Isolation
from .core import Core, Options, check_preload


class TemplateInfo:
    """A template of this process: what sessions like it are cloned from.

    python: its interpreter; version; preload: modules that it has loaded; pid; sessions: that were made of it; ready:
    that wait, see `warm_up`; age, idle: seconds. A snapshot, but for `end`.
    """

    def __init__(self, template: Template) -> None:
        self._template = template
        self.python = template.interpreter.path
        self.version = template.interpreter.version
        self.preload = template.preload
        self.pid = template.pid
        self.sessions = template.sessions
        self.ready = len(template.stock)
        now = time.monotonic()
        self.age = now - template.started
        self.idle = now - template.used

    def end(self) -> None:
        """End it and free its memory. Sessions that came of it go on; the next one like it has another template."""
        _templates.drop(self._template)

    def __repr__(self) -> str:
        version = ".".join(map(str, self.version))
        loaded = f" with {', '.join(self.preload)}" if self.preload else ""
        return f"<Template {version}{loaded} pid {self.pid}, {self.sessions} sessions, idle for {self.idle:.0f} s>"


def templates() -> list[TemplateInfo]:
    """The templates that this process has, in the order in which they were started."""
    return [TemplateInfo(each) for each in _templates.known()]


def warm_up(
    python: str | os.PathLike[str] | None = None,
    *,
    preload: Iterable[str] = (),
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stock: int = 0,
    timeout: float | None = 30.0,
    isolation: Isolation | None = None,
) -> TemplateInfo | None:
    """Start the template for sessions with these options now, so that the first of them is as quick as the others.

    Returns when it is ready. stock: keep up to so many sessions ready from then on, for a start in a fifth of the time;
    each takes about a megabyte, and unused ones go after a while. timeout: seconds that it may take. None where there
    are no templates: sessions are spawned there. isolation: of sessions behind these walls; there is no stock of them,
    and no template in the tier of bubblewrap. Raises IsolationUnavailable, or LaunchError, which says which preload
    failed and what it printed.
    """
    if isinstance(stock, bool) or not isinstance(stock, int) or stock < 0:
        raise ValueError(f"stock takes a number of sessions from 0 up, not {stock!r}")
    if stock and isolation is not None:
        raise ValueError("there is no stock of isolated sessions: each has a world of its own")
    options = Options(
        python, cwd, env, start_timeout=timeout, preload=check_preload(preload), isolation=isolation
    )
    core = Core(options)
    spec = core.spec(b"")
    found = WalledLauncher(isolation).warm_up(spec) if isolation is not None else _templates.warm_up(spec)
    if found is None:
        return None
    found.keep_ready(stock)
    return TemplateInfo(found)
