"""A forked session is as new as a spawned one: whatever code can see of its process is the same.

What may differ is listed one by one, with the reason. docs/sessions.md tells it, too.
"""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from extsession import ExtSession
from extsession._launch.interpreter import Interpreter

HERE = Path(__file__)
SOURCE = HERE.with_name("facts.py").read_text("utf-8")

#: differs between any two processes, and is a mistake if it does not
OWN = ["random"]
#: differs between any two spawned sessions
CHANCE = {
    "hash of a string": "each interpreter draws a hash seed, unless PYTHONHASHSEED is set",
    "limit 10": "RLIMIT_LOCKS, without any effect since Linux 2.4.25, is the mark by which a session's processes are found",
}
#: name of a fact -> why a forked session may differ from a spawned one
ALLOWED = {
    "gc frozen": "the template freezes what it has loaded, so that collections do not copy shared pages",
    "descriptors from 187 on": "one of the session's own more, by which it came",
    "command line": "the kernel tells the template's command line for all its sessions",
    "proc comm": "likewise the name",
    "sys.path_importer_cache": "finders that the template has made are there before they are needed",
    "peak memory below 64 MiB": "a template with preloads shares its memory with its sessions",
    **CHANCE,
}

#: what the page calls them
IN_DOCS = {
    "gc frozen": "`gc.get_freeze_count()`",
    "descriptors from 187 on": "| descriptors |",
    "command line": "`/proc/self/cmdline`",
    "proc comm": "`comm`",
    "sys.path_importer_cache": "`sys.path_importer_cache`",
    "peak memory below 64 MiB": "peak memory",
    "hash of a string": "hash seed",
    "limit 10": "`RLIMIT_LOCKS`",
}


def facts_of(**options: Any) -> dict[str, Any]:
    with ExtSession(**options) as session:
        session.execute(SOURCE).wait()
        found = session.eval("facts()")
    assert isinstance(found, dict)
    return found


def differing(one: dict[str, Any], two: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    assert set(one) == set(two) and len(one) > 80
    return {name: (one[name], two[name]) for name in one if one[name] != two[name]}


def needs_warm() -> None:
    if "warm" not in inspect.signature(ExtSession).parameters:
        pytest.skip("ExtSession has no parameter warm: there are no forked sessions in this version")


def test_the_page_tells_what_differs() -> None:
    page = (HERE.parents[2] / "docs" / "sessions.md").read_text("utf-8")
    section = page.partition("## What differs in a cloned session\n")[2].partition("\n## ")[0]
    assert set(IN_DOCS) == set(ALLOWED)
    for name, words in IN_DOCS.items():
        assert words in section, name


def test_two_spawned_sessions_are_alike(each_python: Interpreter) -> None:
    # this holds the program itself to be right
    options: dict[str, Any] = {"python": each_python.path}
    if "warm" in inspect.signature(ExtSession).parameters:
        options["warm"] = False
    one, two = facts_of(**options), facts_of(**options)
    different = differing(one, two)
    assert set(OWN) <= set(different) <= {*OWN, *CHANCE}, different
    for mine, theirs in zip(one["random"], two["random"], strict=True):
        assert mine != theirs
    assert one["started just now"] and one["cpu near zero"] and one["leads its group and session"]
    assert one["cwd"] == os.getcwd() and one["has children"] is False


def test_a_forked_session_is_as_new_as_a_spawned_one(each_python: Interpreter) -> None:
    needs_warm()
    options: dict[str, Any] = {"python": each_python.path}
    facts_of(**options, warm=True)  # the template is there now
    spawned, forked = facts_of(**options, warm=False), facts_of(**options, warm=True)
    different = differing(spawned, forked)
    assert set(OWN) <= set(different) <= {*OWN, *ALLOWED}, {k: v for k, v in different.items() if k not in ALLOWED}
    again = facts_of(**options, warm=True)
    for mine, theirs in zip(forked["random"], again["random"], strict=True):
        assert mine != theirs


def test_two_forked_sessions_share_the_hash_seed() -> None:
    needs_warm()
    one, two = facts_of(warm=True), facts_of(warm=True)
    assert set(differing(one, two)) <= {*OWN, *CHANCE} - {"hash of a string"}


#: run in a process of its own between the first forked session and those that are compared: (name, code)
CHANGES = {
    "cwd": "os.chdir(folder)",
    "umask": "os.umask(0o137)",
    "environment": "os.environ.update(NEW='1', TZ='ABC-3', TMPDIR=folder); os.environ.pop('GONE')",
    "key": "os.environ['HOME'] = folder",
    "limits": "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "nice": "os.setpriority(os.PRIO_PROCESS, 0, min(os.nice(0) + 3, 19))",
    "cpus": "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})",
    "policy": "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
    "ignored": "signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGUSR1, signal.SIG_DFL)",
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])",
    "oom": "open('/proc/self/oom_score_adj', 'w').write('500')",
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_controller_changed_since(name: str, tmp_path: Path) -> None:
    needs_warm()
    program = f"""
import importlib.util, os, resource, signal, sys
spec = importlib.util.spec_from_file_location("forked_facts", {str(HERE)!r})
test = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test)
folder = sys.argv[1]
before = test.facts_of(warm=True)
{CHANGES[name]}
spawned, forked = test.facts_of(warm=False), test.facts_of(warm=True)
different = test.differing(spawned, forked)
assert set(different) <= {{*test.OWN, *test.ALLOWED}}, different
assert set(test.differing(before, forked)) - {{*test.OWN, *test.ALLOWED}}, "nothing has changed"
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "GONE": "1", "TMPDIR": tempfile.gettempdir()},
        cwd=HERE.parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN) and None,
    )
    output = child.communicate(timeout=60)[0]
    assert (child.returncode, output) == (0, "")


