"""How models are compared: suites, data on the device, the one training loop, the runner, the command line."""

from benchmarks.trained import load_run

__all__ = ["load_run"]
