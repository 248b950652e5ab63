"""The one way to start an interpreter: it imports nothing from the folder that it is started in.

That folder may be a stranger's, or hold a `struct.py` of the user's; Python puts it first on the path of `python -c`, which
multiprocessing starts workers by, and of `python -m`.
"""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SAFE = {"PYTHONSAFEPATH": "1"}  # as python -P; what these interpreters start has it too


@contextmanager
def inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """Give interpreters that start meanwhile SAFE and an environment, and no ear for Ctrl-C.

    It reaches the whole group of processes, and the command itself ends its workers.
    """
    before, main = dict(os.environ), threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update({**environment, **SAFE})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        if main:
            signal.signal(signal.SIGINT, handler)
