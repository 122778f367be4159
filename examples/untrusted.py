"""Isolation: code that nobody has read, without Docker and without root. What it tries does not get through.

`extsession doctor` says whether this machine allows it, and what would help where it does not.
"""

from extsession import ExtSession, Isolation, Limits

TRIES = {
    "read your files": "open('/etc/shadow').read()",
    "look around": "import os; os.listdir('/home')",
    "call home": "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)",
    "end other processes": "import os; os.kill(os.getppid(), 9); os.kill(1, 9)",
    "write where programs are": "open('/usr/bin/python3', 'w')",
    "break out": "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True)\n"
    "if libc.unshare(0x10000000): raise OSError(ctypes.get_errno(), 'no new namespaces')",
    "fill the disk": "open('large', 'wb').write(bytes(80_000_000))",
    "fill the memory": "hoard = b'x' * 10**10",
    "never stop": "while True: pass",
    "fork without end": "import os, time\nwhile True: os.fork() or time.sleep(60)",
}

with ExtSession(isolation=Isolation(), limits=Limits(wall=4.0), recover=True) as session:
    walls = session.walls
    print(f"walls: {walls.tier}, by {', '.join(walls.mechanisms)}")

    # It can do its work: it has a folder of its own, processes, values as plain data.
    session.files.put("numbers.csv", "3,4,5\n")
    work = """
import subprocess, sys
rows = [int(number) for number in open("numbers.csv").read().split(",")]
with open("sum.txt", "w") as file:
    subprocess.run([sys.executable, "-c", f"print(sum({rows}))"], stdout=file, check=True)
"""
    session.execute(work).wait().raise_for_error()
    print("its sum:", session.files.get("sum.txt").decode().strip(), "its rows:", session["rows"])

    for what, source in TRIES.items():
        call = session.execute(source).wait()
        print(f"{what}: {call.outcome.value} ({type(call.error).__name__})")
