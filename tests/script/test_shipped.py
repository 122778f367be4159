"""The engine comes to a child as all shipped code does: from memory, and only where it is asked for."""

from __future__ import annotations

import marshal
import subprocess
import sys

from extsession._launch import payload

NAMES = {name for name in payload.sources() if name.startswith("_worker.script")}

#: as `boot` does it, in a bare interpreter without anything of ours on its path
LOADS = """
import marshal, sys
codes = marshal.loads(sys.stdin.buffer.read())
scope = {"__name__": "boot"}
exec(marshal.loads(codes["_worker.boot"]), scope)
engine = scope["Loader"](codes).load("_worker.script.engine")
program = engine.prepare("x = sum([i for i in range(n)])")
print(engine.run(program, {"n": 5}, {}, {"cycles": 1000}, None, None)["globals"])
print([name for name in sys.modules if "script" in name or "extsession" in name])
"""


def test_it_is_sent_where_it_is_asked_for() -> None:
    assert {"_worker.script", "_worker.script.engine", "_worker.script.compiler"} <= NAMES
    modules = payload.compiled()
    for config in ({}, {"isolation": True}):
        assert b"_worker.script.engine" not in payload.first_bytes(modules, config)
    for config in ({"script": True}, {"template": {"script": True}}):
        sent = payload.first_bytes(modules, config)
        assert all(name.encode() in sent for name in NAMES)
        assert b"_worker.confine.libc" not in sent


def test_it_is_loaded_from_memory() -> None:
    codes = {name: marshal.dumps(compile(source, name, "exec", dont_inherit=True)) for name, source in payload.sources().items()}
    done = subprocess.run([sys.executable, "-I", "-S", "-c", LOADS], input=marshal.dumps(codes), capture_output=True, check=False)
    assert done.stdout.decode() == "{'n': 5, 'x': 10}\n[]\n", done.stderr.decode()[-2000:]
