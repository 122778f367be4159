"""What a session answers besides running source: names, function calls, completion, inspection."""

from __future__ import annotations

import builtins

from .._protocol import messages, pickles, values
from .._protocol.faults import BadMessage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .evaluate import Evaluator


def answer(evaluator: Evaluator, run: messages.Run) -> Any:
    """The value that answers a request. Names that are missing raise KeyError, as in a dict."""
    namespace = evaluator.namespace
    action = run.action
    name = run.source
    if action == messages.GET:
        return namespace[name]
    if action == messages.SET:
        namespace[name] = _value(run)
        return None
    if action == messages.DELETE:
        del namespace[name]
        return None
    if action == messages.CONTAINS:
        return name in namespace
    if action == messages.NAMES_OF:
        return [key for key in namespace if type(key) is str and not _is_module_name(key)]
    if action == messages.CALL:
        function, args, kwargs = _value(run)
        return evaluator.call(function, args, kwargs)
    from .introspect import complete, inspect_source, is_complete

    fields = values.decode(run.data)
    if action == messages.COMPLETE:
        return complete(run.source, fields["cursor"], namespace)
    if action == messages.INSPECT:
        return inspect_source(run.source, fields["cursor"], namespace, fields["detail"])
    if action == messages.IS_COMPLETE:
        return is_complete(run.source)
    raise BadMessage("Run with the unknown action %d" % action)


def _value(run: messages.Run) -> Any:
    kind = run.data[0]
    # what the controller sends is trusted: it is what runs code here in the first place
    return pickles.unpack(kind, run.data[1:], run.buffers, True)


def _is_module_name(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and (name in _MODULE_NAMES or hasattr(builtins, name))


_MODULE_NAMES = frozenset(
    ["__name__", "__doc__", "__package__", "__loader__", "__spec__", "__annotations__", "__builtins__"]
)
