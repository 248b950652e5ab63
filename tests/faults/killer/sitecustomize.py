"""Kills a command, or one process of it, at the n-th time that a file of a kind is opened for writing,
renamed or removed.

Python imports this before anything else where its folder is on PYTHONPATH. ALIBENCH_KILL is "WHOM PATTERN N
LOG": "all", the "process" that does it or "nobody"; what paths are meant; which time; and where all are
noted, so that processes count together.
"""

import os
import re
import signal
import sys

whom, rest = os.environ["ALIBENCH_KILL"].split(" ", 1)
pattern, number, log = rest.rsplit(" ", 2)
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def hook(event: str, arguments: tuple) -> None:  # type: ignore[type-arg]
    """Note the event, and kill if it is the one."""
    if event not in EVENTS or not isinstance(arguments[0], str | os.PathLike):
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        return
    path = os.fspath(arguments[0])
    if not isinstance(path, str) or path == log or not re.search(pattern, path):
        return
    file = os.open(log, os.O_CREAT | os.O_RDWR | os.O_APPEND)
    os.write(file, f"{event} {path}\n".encode())
    count = os.pread(file, 10**7, 0).count(b"\n")
    os.close(file)
    if count == int(number):
        if whom == "all":
            os.killpg(0, signal.SIGKILL)
        elif whom == "process":
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(hook)
