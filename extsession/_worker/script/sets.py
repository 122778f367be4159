"""Sets that keep the order in which elements were added, so that nothing depends on hashes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator


class OrderedSet:
    """A set as scripts have it. Keys of a dict; whoever adds to it has checked the key (`guards.key`)."""

    __slots__ = ("d",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self.d: dict[Any, None] = dict.fromkeys(items)

    def __len__(self) -> int:
        return len(self.d)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.d)

    def __contains__(self, item: Any) -> bool:
        return item in self.d

    def __eq__(self, other: Any) -> Any:
        return self.d.keys() == other.d.keys() if type(other) is OrderedSet else NotImplemented

    def __le__(self, other: Any) -> Any:
        return self.d.keys() <= other.d.keys() if type(other) is OrderedSet else NotImplemented

    def __lt__(self, other: Any) -> Any:
        return self.d.keys() < other.d.keys() if type(other) is OrderedSet else NotImplemented

    def __ge__(self, other: Any) -> Any:
        return self.d.keys() >= other.d.keys() if type(other) is OrderedSet else NotImplemented

    def __gt__(self, other: Any) -> Any:
        return self.d.keys() > other.d.keys() if type(other) is OrderedSet else NotImplemented


OrderedSet.__name__ = OrderedSet.__qualname__ = "set"


def of(keys: dict[Any, None]) -> OrderedSet:
    """The set that has this very dict."""
    made = OrderedSet()
    made.d = keys
    return made


def union(left: OrderedSet, right: OrderedSet) -> OrderedSet:
    return of({**left.d, **right.d})


def intersection(left: OrderedSet, right: OrderedSet) -> OrderedSet:
    other = right.d
    return of({key: None for key in left.d if key in other})


def difference(left: OrderedSet, right: OrderedSet) -> OrderedSet:
    other = right.d
    return of({key: None for key in left.d if key not in other})


def symmetric_difference(left: OrderedSet, right: OrderedSet) -> OrderedSet:
    mine = left.d
    found = difference(left, right)
    found.d.update({key: None for key in right.d if key not in mine})
    return found
