"""Values between trusted sides: what is pickled, which buffers travel beside it, refusals."""

from __future__ import annotations

import io
import pickle
import threading
from typing import Any

import pytest

from extsession._protocol.faults import BadValue, CannotTravel
from extsession._protocol.pickles import BIG, BYTEARRAY, BYTES, NONE, PICKLE, SAFE, pack, unpack
from extsession._protocol.values import encode

HERE = __name__


@pytest.mark.parametrize("value", [True, 5, 1.5, "text", b"short"])
def test_plain_values_are_packed_safely(value: Any) -> None:
    assert pack(value) == (SAFE, encode(value), [])
    assert unpack(SAFE, encode(value), [], False) == value


def test_none() -> None:
    assert pack(None) == pack(None, safe_only=True) == (NONE, b"", [])
    assert unpack(NONE, b"", [], False) is None


def test_large_bytes_are_not_copied() -> None:
    data = bytes(BIG)
    kind, head, buffers = pack(data)
    assert (kind, head) == (BYTES, b"")
    assert buffers[0] is data
    assert unpack(kind, head, buffers, False) is data
    assert unpack(kind, head, [memoryview(bytearray(data))], False) == data
    array = bytearray(BIG)
    kind, head, buffers = pack(array)
    assert (kind, head) == (BYTEARRAY, b"")
    assert buffers[0] is array
    back = unpack(kind, head, [memoryview(data)], False)
    assert type(back) is bytearray
    assert back == array
    assert pack(data, safe_only=True) == (SAFE, encode(data), [])


class Holder:
    """Pickles its memory out of band."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: int) -> Any:
        return Holder, (pickle.PickleBuffer(self.memory),)


def test_large_buffers_travel_beside_the_pickle() -> None:
    large, small = bytearray(BIG), bytearray(BIG - 1)
    kind, head, buffers = pack([Holder(large), Holder(small)])
    assert kind == PICKLE
    assert [buffer.obj for buffer in buffers] == [large]
    large[5] = 9
    assert buffers[0][5] == 9
    assert BIG <= len(head) + 1 < 2 * BIG
    one, two = unpack(kind, head, buffers, True)
    assert one.memory[5] == 9
    assert bytes(two.memory) == small


def test_numpy_arrays_are_not_copied() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100000)
    kind, head, buffers = pack({"a": array})
    assert kind == PICKLE
    assert len(head) < 1000
    assert numpy.shares_memory(numpy.frombuffer(buffers[0], array.dtype), array)
    back = unpack(kind, head, [bytearray(buffers[0])], True)["a"]
    assert (back == array).all()
    assert back.flags.writeable
    with pytest.raises(CannotTravel, match=r"numpy\.ndarray"):
        pack(array, safe_only=True)
    strided = unpack(*pack(array[::2]), True)  # not contiguous: in band
    assert (strided == array[::2]).all()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (threading.Lock(), "_thread.lock"),
        ([1, threading.Lock()], "_thread.lock"),
        (lambda: 1, ""),
        (io.TextIOWrapper(io.BytesIO()), "TextIOWrapper"),
    ],
    ids=["lock", "inside", "lambda", "file"],
)
def test_what_pickle_refuses_is_named(value: Any, name: str) -> None:
    with pytest.raises(CannotTravel) as caught:
        pack(value)
    assert name in caught.value.type_name
    assert caught.value.why


class Angry:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("not me")


def test_the_error_of_a_reduce_method_is_told() -> None:
    with pytest.raises(CannotTravel, match="not me") as caught:
        pack(Angry())
    assert caught.value.type_name == HERE + ".Angry"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_another_pickler_has_its_turn_where_pickle_fails() -> None:
    def dumps(value: Any, protocol: int, buffer_callback: Any) -> bytes:
        return pickle.dumps("other", protocol=protocol, buffer_callback=buffer_callback)

    value = [Holder(bytearray(BIG)), Angry()]
    kind, head, buffers = pack(value, dumps=dumps)
    assert buffers == []  # what the failed one has left is gone
    assert unpack(kind, head, buffers, True) == "other"
    assert unpack(*pack([1], dumps=dumps), True) == [1]

    def fails(value: Any, **_: Any) -> bytes:
        raise TypeError("cannot pickle 'odd.Thing' object")

    with pytest.raises(CannotTravel) as caught:
        pack(Angry(), dumps=fails)
    assert caught.value.type_name == "odd.Thing"


def test_a_pickle_is_read_only_from_a_trusted_side() -> None:
    with pytest.raises(BadValue):
        unpack(*pack([1]), False)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"cno_such_module_at_all\nFoo\n.", "no_such_module_at_all"),
        (b"ccollections\nNoSuchFoo\n.", "collections.NoSuchFoo"),
        (b"garbage", "<pickled>"),
        (b"", "<pickled>"),
    ],
)
def test_a_pickle_that_cannot_be_read_here(head: bytes, name: str) -> None:
    with pytest.raises(CannotTravel) as caught:
        unpack(PICKLE, head, [], True)
    assert caught.value.type_name == name


@pytest.mark.parametrize(
    ("kind", "head", "buffers"),
    [
        (NONE, b"x", []),
        (NONE, b"", [b""]),
        (SAFE, b"N", [b""]),
        (SAFE, b"", []),
        (BYTES, b"", []),
        (BYTES, b"x", [b"y"]),
        (BYTEARRAY, b"", [b"", b""]),
        (5, b"", []),
        (-1, b"", []),
    ],
)
def test_kinds_that_do_not_fit(kind: int, head: bytes, buffers: list[bytes]) -> None:
    with pytest.raises(BadValue):
        unpack(kind, head, buffers, True)
