"""Every construct, builtin and method does what it does in Python; where it does something else, a test says what."""

from __future__ import annotations

import math
from typing import Any

import pytest

from extsession._worker.script import builtins, errors, methods
from extsession._worker.script.sets import OrderedSet

PYTHON_HAS = {name: getattr(math, name) for name in dir(math) if name[0] != "_" and len(name) > 1}

#: scripts, with an empty line between them: each gives the same globals as in Python
SAME = """
x = 1; y = x + 2; x = y = 5

a, b = 1, 2; a, b = b, a; (c, d), e = [(1, 2), 3]; f, *g = 'abcd'; *h, i = range(4); j, k = {'p': 1, 'q': 2}

[a, b] = (1, 2); m, (n, [o]) = 1, (2, [3])

x = 7; x += 3; x -= 1; x *= 2; x //= 4; x **= 3; x %= 50; x <<= 3; x >>= 1; x |= 8; x &= 60; x ^= 5; y = 9; y /= 2

x = [1]; y = x; x += [2]; x += (3,); x *= 2

x = [1, 2]; x[0] += 5; x[-1] *= 3; d = {'a': 1}; d['a'] += 1; d['b'] = 2

x = 'ab'; x += 'c'; x *= 2; t = (1,); t += (2,); t *= 2

s = {1, 2}; u = s; s |= {3}; s &= {1, 3, 4}; s ^= {9}; s -= {1}

d = {'a': 1}; e = d; d |= {'b': 2}; f = d | {'a': 3}

x = 1 if 2 > 1 else 3; y = 0 or 'a'; z = 1 and 2; w = not 3

x = 1 < 2 < 3; y = 1 < 3 < 2; z = 1 == 1.0 == True; w = 1 != 2

x = None is None; y = x is not None; z = 3 in [1, 2, 3]; w = 'b' not in 'abc'; v = 2 in {2: 1}; u = 5 in (1, 2)

x = 5 // 2, -5 // 2, 5 % 3, -5 % 3, 2 ** 10, 2 ** -1, 7 / 2, 1e3, 0x1f, 0b11, 0o17, 1_000

x = ~5, -5, +5, 6 & 3, 6 | 3, 6 ^ 3, 1 << 4, 256 >> 2, 2.5 // 1, 7.5 % 2

x = 'a' * 3, 3 * 'a', [0] * 2, 2 * [0], (1,) * 2, 'a' + 'b', [1] + [2], (1,) + (2,)

x = 'hello'; y = x[1], x[-1], x[1:3], x[:2], x[3:], x[::-1], x[::2], x[10:]

x = [0, 1, 2, 3, 4]; y = x[1:3]; x[1:3] = [9]; del x[0]; del x[1:2]; z = x[:]; x[::2] = [7]

d = {1: 2, 'a': [3], (1, 2): None, 2.5: 1, True: 4}; del d['a']; n = len(d)

d = {}; d[1, 2] = 3; x = d[(1, 2)]

if 1: x = 1

if 0: x = 1
elif 1: x = 2
else: x = 3

x = 0
while x < 5: x += 1
else: y = x

x = 0
while True:
    x += 1
    if x == 3: continue
    if x > 5: break

n = 0
for i in range(5):
    if i == 3: break
    n += i
else: n = 100

for a, b in [(1, 2), (3, 4)]: c = a + b

for a, (b, c) in {'x': (1, 2)}.items(): d = c

for c in 'abc': x = c

for k in {'a': 1}: x = k

def f(a, b=2, *, c=3): return a + b + c
x = f(1); y = f(1, 5); z = f(1, c=0); w = f(b=1, a=1)

def f(a, /, b): return a - b
x = f(1, 2), f(1, b=3)

def f(): pass
x = f()

def f(n):
    if n <= 1: return 1
    return n * f(n - 1)
x = f(30)

def outer():
    n = 0
    def inner():
        nonlocal n
        n += 1
        return n
    inner()
    return inner()
x = outer()

n = 0
def f():
    global n, m
    n += 1
    m = n
f(); f()

f = lambda a, b=2: a * b; x = f(3); y = (lambda: 5)(); z = [g(2) for g in [lambda v: v + 1, lambda v: v * 10]]

def counter():
    'text of documentation'
    return 1
x = counter()

x = [i * i for i in range(5) if i % 2]; y = {i: str(i) for i in range(3)}; z = {i % 3 for i in range(9)}

x = [(a, b) for a in range(3) for b in range(a) if a != b]; y = sum(i for i in [1, 2, 3]); z = [[j for j in range(i)] for i in range(3)]

x = [k for k in {'b': 1, 'a': 2}]; y = [a + b for a, b in [(1, 2)]]; z = [i for i in 'ab' if 'a' <= i <= 'z']

x = 5; f = f'{x} {x!r} {"q"!r} {x:05d} {3.14159:.2f} {"a":>5}|{"b":<4}|{"c":^5}| {x=} {1000000:,} {255:x} {0.5:%} {{}}'

try: 1 / 0
except ZeroDivisionError: x = 1

try: {}['a']
except (TypeError, KeyError) as e: x = str(e)

try: [][1]
except Exception as e: x = str(e)

try: int('q')
except: x = 2
else: x = 3
finally: y = 4

try: x = 1
except ValueError: x = 2
else: x = 3
finally: y = 5

def f():
    try: return 1
    finally: pass
x = f()

def f():
    for i in range(3):
        try: continue
        finally: pass
    return i
x = f()

try: raise ValueError('mine')
except ValueError as e: x = str(e)

try: raise RuntimeError('mine')
except RuntimeError as e: x = str(e)

try: raise Exception('mine')
except Exception as e: x = str(e)

try: raise KeyError
except LookupError: x = 1

try:
    try: raise ValueError('a')
    except ValueError: raise
except ValueError as e: x = str(e)

try: assert 1 == 2, 'never'
except AssertionError as e: x = str(e)

assert True; pass

x = 1; del x

x = [1, 2, 3]; del x[0], x[0]

x = 10 ** 30 + 1, -10 ** 20 // 7, 10 ** 20 % 7, 2 ** 100 - 1

x = float('inf') > 1, str(1e100), 0.1 + 0.2, 1e16 + 1, -0.0

x = len('abc'), len([1]), len({}), len({1}), len(()), len(range(5))

x = list(range(3)), list(range(1, 4)), list(range(5, 0, -2)), range(10)[3], list(range(10)[2:4]), 3 in range(5), 1.0 in range(5)

x = min(3, 1, 2), min([3, 1]), max('abc'), max([1, 2], key=lambda v: -v), min([], default=7), max(2.5, 1), max({'a': 1, 'b': 0})

x = sum([1, 2]), sum([1.5, 2]), sum([[1], [2]], []), sum((), 5), sum({1: 2}), sum([True, 2])

x = sorted([3, 1, 2]), sorted('bca', reverse=True), sorted([(1, 'b'), (0, 'a')], key=lambda p: p[1]), sorted({'b': 1, 'a': 2})

x = sorted([3, 1, 2], key=lambda v: v % 2, reverse=True), sorted([[2], [1, 5], [1]])

x = abs(-5), abs(2.5), round(2.5), round(2.567, 2), round(1234, -2), round(-1.5), divmod(7, 3), divmod(-7.5, 2), pow(2, 5), pow(2, 5, 7), pow(2, -1)

x = str(5), str([1, 'a', (2,), {3: 4.5}]), str(None), str(), str({1}), str(()), str({}), str([]), repr('a'), repr(5), str(True), str('a'), repr("it's")

x = int('12'), int(3.9), int(True), int('ff', 16), int(' 7 '), int('-3'), int(), float('1.5'), float(2), float(), bool(0), bool('a'), bool([]), bool()

x = list('ab'), list((1,)), list(), tuple([1]), tuple(), set([1, 1]), set(), dict([(1, 2)]), dict(a=1), dict({1: 2}, b=3), dict(), set('aab')

x = list(enumerate('ab')), list(enumerate('ab', 1)), list(zip([1, 2], 'ab')), list(zip()), list(zip([1], [2], [3]))

x = list(map(str, [1, 2])), list(map(lambda a, b: a + b, [1], [2])), list(filter(None, [0, 1])), list(filter(lambda v: v > 1, [1, 2]))

x = any([0, 1]), any([]), all([1, 0]), all([]), list(reversed([1, 2])), list(reversed('ab')), any({})

x = isinstance(1, int), isinstance(True, int), isinstance('a', (int, str)), isinstance([], list), isinstance({1}, set), isinstance(1.0, float), isinstance({}, dict), isinstance((), tuple), isinstance(True, bool), isinstance(1, str)

x = chr(65), ord('a'), chr(8364)

x = 'aB'.upper(), 'aB'.lower(), 'ab cd'.title(), 'ab'.capitalize(), 'aB'.swapcase(), 'ß'.casefold()

x = ' a '.strip(), 'xax'.strip('x'), ' a '.lstrip(), ' a '.rstrip(), 'xa'.lstrip('x'), 'ax'.rstrip('x')

x = 'abab'.find('b'), 'abab'.rfind('b'), 'abab'.index('a'), 'abab'.rindex('a'), 'abab'.count('a'), 'abab'.find('b', 2), 'abab'.find('b', 2, 3), 'a'.find('x')

x = 'abc'.startswith('ab'), 'abc'.endswith('bc'), 'abc'.startswith(('x', 'a')), 'abc'.startswith('b', 1)

x = 'a'.center(5), 'a'.ljust(3) + '|', 'a'.rjust(3), '5'.zfill(3), 'a'.center(4, '*'), '-5'.zfill(4)

x = ','.join(['a', 'b']), ''.join([]), '-'.join('abc'), ','.join({'a': 1})

x = 'aXbX'.replace('X', 'yy'), 'aXbX'.replace('X', '', 1), 'ab'.replace('', '-')

x = 'a b  c'.split(), 'a,b'.split(','), 'a,b,c'.split(',', 1), 'a,b,c'.rsplit(',', 1), 'a b c'.split(maxsplit=1), 'a\\nb'.splitlines()

x = 'a=b=c'.partition('='), 'a=b=c'.rpartition('='), 'abc'.removeprefix('a'), 'abc'.removesuffix('bc'), 'abc'.removesuffix('')

x = 'a1'.isalnum(), 'ab'.isalpha(), 'ab'.isascii(), '12'.isdecimal(), '12'.isdigit(), '12'.isnumeric(), 'ab'.islower(), 'AB'.isupper(), ' '.isspace(), 'Ab'.istitle()

x = [1]; x.append(2); x.extend([3]); x.extend('a'); x.insert(0, 9); x.remove(2); y = x.pop(); z = x.pop(0); x.reverse(); w = x.copy(); v = w.index(3), w.count(3); w.clear()

x = [3, 1, 2]; x.sort(); y = x.copy(); y.sort(reverse=True); z = ['bb', 'a']; z.sort(key=len)

x = (1, 2, 1); y = x.count(1), x.index(2), [1, 2, 1].index(1, 1)

d = {'a': 1}; x = d.get('a'), d.get('b'), d.get('b', 2); y = list(d.keys()), list(d.values()), list(d.items()); d.setdefault('c', 3); z = d.setdefault('a', 9)

d = {'a': 1, 'b': 2, 'c': 3}; x = d.pop('a'), d.pop('z', 0); y = d.popitem(); d.update({'q': 1}); d.update([('r', 2)]); d.update(s=3); e = d.copy(); d.clear()

s = {1, 2}; s.add(3); s.discard(9); s.discard(1); s.remove(2); t = s.copy(); s.update([5, 6]); u = s.union([7], {8}); v = s.intersection([5]); w = s.difference({5}); z = s.symmetric_difference([5, 99]); t.clear()

s = {1, 2, 3}; x = s.issubset([1, 2, 3, 4]), s.issuperset({1}), s.isdisjoint([9]), s <= {1, 2, 3}, s < {1}, s == {3, 2, 1}, s >= {1}, s > {1}, s != {1}, 2 in s, len(s)

s = {1, 2, 3}; s.intersection_update([1, 2]); t = {1, 2}; t.difference_update([1]); u = {1, 2}; u.symmetric_difference_update({2, 3})

s = {1}; x = s.pop(); y = s == set()

x = (5).bit_length(), (2.0).is_integer(), (2.5).is_integer()

x = {1: {2: [3]}} == {1: {2: [3]}}, [1, [2]] < [1, [3]], (1, 'a') <= (1, 'b'), {1} == {1.0}, [{1}] == [{1}], 'a' < 'b', 'abc' == 'ab' + 'c'

x = sqrt(16), floor(2.7), ceil(2.1), trunc(-2.7), exp(0), log(1), log(8, 2), log2(8), log10(100), sin(0), cos(0), tan(0), fabs(-1), hypot(3, 4), degrees(0), radians(0), fmod(7, 3), copysign(1, -2), gcd(12, 18), isqrt(17), isnan(nan), isinf(inf), isfinite(1), asin(0), acos(1), atan(0), atan2(0, 1), sinh(0), cosh(0), tanh(0), round(pi, 4)
"""


def _python(source: str) -> dict[str, Any]:
    scope: dict[str, Any] = {**PYTHON_HAS, "pow": pow}
    exec(compile(source, "x", "exec", dont_inherit=True), scope)
    new = {name: value for name, value in scope.items() if name not in PYTHON_HAS and name not in ("pow", "__builtins__")}
    return {name: value for name, value in new.items() if not callable(value)}


@pytest.mark.parametrize("source", SAME.strip().split("\n\n"))
def test_same_as_python(script: Any, source: str) -> None:
    expected = _python(source)
    ran = script(source)
    assert ran.status == "finished", ran
    found = ran.globals
    assert {name: repr(value) for name, value in found.items() if not isinstance(value, set)} == {
        name: repr(value) for name, value in expected.items() if not isinstance(value, set)
    }
    assert {name: value for name, value in found.items() if isinstance(value, set)} == {
        name: value for name, value in expected.items() if isinstance(value, set)
    }


def test_nothing_is_left_out() -> None:
    for name in methods.NAMES:
        assert f".{name}(" in SAME, name
    for name in builtins.TABLE:
        if name not in ("print",):
            assert f"{name}(" in SAME or f"{name})" in SAME or f"({name}" in SAME, name


def test_print(script: Any) -> None:
    ran = script("print('a', 1, [2], sep='-', end='!')\nprint()\nprint('b')")
    assert ran.written == "a-1-[2]!\nb\n"


@pytest.mark.parametrize("name", sorted(errors.CAUGHT))
def test_errors_can_be_raised_and_caught(script: Any, name: str) -> None:
    ran = script(f"try:\n    raise {name}('mine')\nexcept {name} as e:\n    x = f'{{e}}'\n")
    assert ran.globals["x"].strip("'") == "mine"
    ran = script(f"raise {name}('mine')")
    assert (ran.status, ran.error["type"], ran.error["line"]) == ("failed", name, 1)


#: {source: what x is}: not as in Python, on purpose
DIFFERENT = {
    "x = {'b': 1}.keys()": ["b"],
    "x = {'b': 1}.items()": [("b", 1)],
    "x = zip([1], [2])": [(1, 2)],
    "x = map(str, [1])": ["1"],
    "x = (i for i in [1, 2])": [1, 2],
    "x = range(3)": [0, 1, 2],
    "d = {1: 1}\nfor k in d:\n    d[k + 1] = 1\nx = len(d)": 2,
    "x = list({3, 1, 2})": [3, 1, 2],
    "s = {3, 1, 2}\nx = s.pop()": 2,
    "ys = [1, 2]\nx = [ys.append(y) for y in ys]": [None, None],
    "x = str(len)": "<function len>",
    "try:\n    '%d' % 1\nexcept TypeError:\n    x = 1": 1,
}


@pytest.mark.parametrize("source", list(DIFFERENT))
def test_different_from_python(script: Any, source: str) -> None:
    assert script(source).globals["x"] == DIFFERENT[source]


def test_functions_are_not_handed_over(script: Any) -> None:
    ran = script("def f(): pass\ng = lambda: 0\nxs = [f]\ny = 1\np = print")
    assert ran.globals == {"y": 1}
    assert ran.record["dropped"] == ["xs"]


def test_the_set() -> None:
    items = OrderedSet(["b", "a"])
    assert repr(type(items).__name__) == "'set'"
    assert "a" in items and list(items) == ["b", "a"] and len(items) == 2
    assert items != {"a", "b"} and items.__lt__(1) is NotImplemented
