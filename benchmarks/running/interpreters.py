"""The one way to start an interpreter: it imports nothing from the folder that it is started in.

That folder may be a stranger's, or hold a `struct.py` of the user's; Python puts it first on the path of
`python -c`, which multiprocessing starts workers by, and of `python -m`.
"""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SAFE = {"PYTHONSAFEPATH": "1"}  # as python -P; the interpreters hand it on to those that they start


@contextmanager
def inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """Give interpreters that start meanwhile SAFE and an environment."""
    given = {**environment, **SAFE}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def deaf() -> Iterator[None]:
    """Let processes that start meanwhile ignore Ctrl-C: it reaches the whole group, and the command ends its
    workers.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
