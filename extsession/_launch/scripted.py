"""Sessions that run locked-down scripts: they have the engine for it, which others are not sent."""

from __future__ import annotations

import dataclasses

from .base import Launcher, Process, Spec


class ScriptLauncher:
    """Another launcher, for such sessions."""

    def __init__(self, inner: Launcher) -> None:
        self._inner = inner

    def launch(self, spec: Spec) -> Process:
        """As the other one."""
        return self._inner.launch(dataclasses.replace(spec, scripts=True))

    def may_block(self, spec: Spec) -> bool:
        return self._inner.may_block(dataclasses.replace(spec, scripts=True))
