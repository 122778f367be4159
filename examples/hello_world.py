"""An answer to the only comment under the announcement of 2006.

It asked for a hello world, executed in another process and read back in the main process.
"""

import os

from extsession import ExtSession

with ExtSession() as session:
    results = session.execute("import os; print('Hello world, from process', os.getpid())")
    results.wait()
    print("process", os.getpid(), "has read:", results.read(), end="")
