"""What an executor keeps of its runs, and the folder for temporary files that each may have."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from extsession.execute import ExecuteRequest, LocalSubProcessExecute, SessionExecute


def python(source: str, *arguments: str, **options: object) -> ExecuteRequest:
    return ExecuteRequest([sys.executable, "-c", source, *arguments], **options)  # type: ignore[arg-type]


def test_a_log_of_each_run(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "logs"
    executor = LocalSubProcessExecute(log_dir=folder)
    request = python("import sys; print('é'); print('oops', file=sys.stderr); sys.exit(3)", "--token=abc", run_id="one")
    status = executor(request)
    executor.run(ExecuteRequest(["no-such-program"], env={"PATH": "/nowhere", "SECRET": "xyz"}))
    executor.run(python("import time; time.sleep(60)", timeout=0.3))
    names = sorted(path.name for path in folder.iterdir())
    program = os.path.basename(sys.executable)
    assert names == [f"0001-{program}.log", "0002-no-such-program.log", f"0003-{program}.log"]
    first, second, third = ((folder / name).read_text("utf-8") for name in names)
    assert status.metadata["log"] == str(folder / names[0])
    assert "exit code: 3\n" in first
    assert "run_id: one\n" in first
    assert first.endswith("\n=== out: 3 bytes\né\n\n=== err: 5 bytes\noops\n")
    assert "abc" not in first
    assert "--token=***" in first
    assert "environment: PATH SECRET\n" in second
    assert "xyz" not in second
    assert "was not found" in second
    assert "steps: interrupt\n" in third
    assert (folder / names[0]).stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_is_no_error_of_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    status = LocalSubProcessExecute(log_dir=tmp_path / "file")(python("print(1)"))
    assert (status.out, "log" in status.metadata) == ("1\n", False)
    assert "cannot be written" in caplog.text


def test_threads_do_not_share_a_file(tmp_path: Path) -> None:
    executor = LocalSubProcessExecute(log_dir=tmp_path)
    threads = [threading.Thread(target=executor, args=(ExecuteRequest(["echo", str(n)]),)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [path.read_text().splitlines()[-3] for path in tmp_path.iterdir()]
    assert sorted(texts, key=int) == [str(n) for n in range(10)]


@pytest.mark.parametrize("kind", [LocalSubProcessExecute, SessionExecute])
@pytest.mark.parametrize("env", [None, {"PATH": os.defpath, "ONLY": "1"}])
def test_a_folder_of_its_own(kind: type[LocalSubProcessExecute], env: dict[str, str] | None) -> None:
    source = "import tempfile; f, name = tempfile.mkstemp(); print(name, flush=True)"
    executor = kind(own_tmp=True)
    one, other = (Path(executor(python(source, env=env)).out.strip()) for _ in range(2))
    assert one.parent.name.startswith("extsession-run-")
    assert one.parent != other.parent
    assert not one.parent.exists()
    with executor.call(python(f"{source}; import time; time.sleep(60)", env=env)) as status:
        while not status.out.strip():
            status.wait(0.01)
        path = Path(status.out.strip())
        assert path.exists()
    assert not path.parent.exists()
    executor.run(ExecuteRequest(["no-such-program"]))
