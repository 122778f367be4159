"""Sessions that begin with NumPy and pandas loaded. The first start loads them; the others are clones."""

import subprocess
import sys
import time
from importlib.util import find_spec

from extsession import ExtSession, templates

if find_spec("pandas") is None:
    print("This example is about pandas, which is not installed: pip install pandas")
    sys.exit()


def show(what: str, start: float) -> None:
    print(f"{what:<34}{(time.perf_counter() - start) * 1000:8.1f} ms")


start = time.perf_counter()
subprocess.run([sys.executable, "-c", "import numpy, pandas"], check=True)
show('python -c "import numpy, pandas"', start)

for number in range(1, 5):
    start = time.perf_counter()
    with ExtSession(preload=["numpy", "pandas"]) as session:
        show(f"session {number}", start)

        # The modules are loaded; the names are the code's matter, as ever.
        start = time.perf_counter()
        results = session.execute("import pandas; print(pandas.Series([1, 2, 6]).mean())").wait()
        show("  its first call, with the import", start)
        assert results.stdout == "3.0\n"

(template,) = templates()
print(f"a template with {' and '.join(template.preload)}, {template.sessions} sessions")
