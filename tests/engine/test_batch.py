"""Batch and Function without a process: what is sent when, in which order results are given out, what travels how."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extsession import ValueRefused
from extsession._engine.batch import Batch, Chunk, Result, placed
from extsession._engine.travel import Function, Request, pack_call


def batch(*iterables: Any, **options: Any) -> Batch:
    options = {"chunksize": 1, "ordered": True, "timeout": None, "size": 2, **options}
    return Batch(abs, iterables, **options)


def chunks(of: Batch) -> list[Chunk]:
    return list(iter(of.next_chunk, None))


@given(
    count=st.integers(0, 40),
    chunksize=st.integers(1, 7),
    size=st.integers(1, 4),
    ordered=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_result_once_and_in_order(count: int, chunksize: int, size: int, ordered: bool, seed: int) -> None:
    dice = random.Random(seed)
    items = batch(range(count), chunksize=chunksize, size=size, ordered=ordered)
    assert items.total == count
    out: list[Chunk] = []
    came: list[int] = []
    found: list[int] = []
    while not items.is_over:
        for chunk in chunks(items):
            out.append(chunk)
        assert sum(len(chunk.requests) - chunk.done for chunk in out) <= 2 * size * chunksize
        if out:
            chunk = dice.choice(out)
            assert isinstance(chunk.next(), Request)
            index = chunk.advance()
            items.settle(index, Result(index))
            came.append(index)
            if chunk.is_over:
                out.remove(chunk)
        while dice.random() < 0.7 and (result := items.take()) is not None:
            found.append(result.value)
    assert found == (list(range(count)) if ordered else came)
    assert items.completed == count


def test_bounded_ahead() -> None:
    items = batch(itertools.count(), chunksize=3, size=2)
    assert items.total is None
    first = chunks(items)
    assert [chunk.first for chunk in first] == [0, 3, 6, 9]
    items.settle(first[0].advance(), Result(0))
    assert items.next_chunk() is None  # it is there, and was not taken
    for _ in range(2):
        items.settle(first[0].advance(), Result(0))
    assert [items.take() is None for _ in range(4)] == [False, False, False, True]
    assert [chunk.first for chunk in chunks(items)] == [12]


def test_totals() -> None:
    assert batch([1, 2, 3], range(2)).total == 2
    assert batch([1, 2, 3], itertools.count()).total == 3


def test_an_interrupt_in_the_input_loses_nothing() -> None:
    class Numbers:
        """An iterator that goes on after it has raised."""

        def __init__(self) -> None:
            self.count = 0
            self.raised = False

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> int:
            if self.count == 3 and not self.raised:
                self.raised = True
                raise KeyboardInterrupt
            self.count += 1
            if self.count > 5:
                raise StopIteration
            return self.count

    items = batch(Numbers(), chunksize=5)
    with pytest.raises(KeyboardInterrupt):
        items.next_chunk()
    chunk = items.next_chunk()
    assert chunk is not None
    assert len(chunk.requests) == 5


def test_errors_that_end_iterations() -> None:
    error = ValueError()
    assert placed(error) is error
    for kind in (StopIteration, StopAsyncIteration):
        replaced = placed(kind())
        assert isinstance(replaced, RuntimeError)
        assert isinstance(replaced.__cause__, kind)


def arrive(request: Request) -> Any:
    assert request.data[0] == 2  # a pickle
    return pickle.loads(request.data[1:], buffers=request.buffers)


def test_functions_travel_by_name_where_they_can() -> None:
    request = Function(os.getcwd).request((), {})
    assert b"cloudpickle" not in request.data
    assert arrive(request) == (os.getcwd, (), {})
    assert request.label == "getcwd(...)"


def test_functions_travel_by_value() -> None:
    factor = 3
    function = Function(lambda x, *, y=0: x * factor + y)
    called, args, kwargs = arrive(function.request((14,), {"y": 1}))
    assert called(*args, **kwargs) == 43
    called.__module__ = "__main__"
    data, _buffers = pack_call(called, (1,), {})
    assert pickle.loads(data[1:])[0](1) == 3


def test_arguments_of_main_travel_by_value() -> None:
    class Point:
        pass

    Point.__module__ = "__main__"
    Point.__qualname__ = "Point"
    request = Function(len).request((Point(),), {"data": bytes(100_000)})
    assert b"cloudpickle" in request.data
    assert isinstance(arrive(request)[1][0], Point)


def test_large_arguments_travel_beside_the_pickle() -> None:
    data = bytearray(100_000)
    request = Function(len).request((pickle.PickleBuffer(data),), {})
    assert len(request.data) < 1000
    assert len(request.buffers) == 1


def test_refusals() -> None:
    lock = threading.Lock()
    with pytest.raises(ValueRefused, match=r"the function .*refusals.<locals>.<lambda> cannot travel to a session") as caught:
        Function(lambda: lock)
    assert caught.value.type_name == "_thread.lock"
    with pytest.raises(ValueRefused, match=r"an argument of abs\(...\) cannot travel"):
        Function(abs).request((lock,), {})

    class Callable:
        def __call__(self) -> None: ...

        def __reduce__(self) -> Any:
            raise RuntimeError("not me")

    with pytest.raises(ValueRefused, match="not me"):
        Function(Callable())
