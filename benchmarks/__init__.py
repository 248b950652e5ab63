"""How models are compared: data, the training loop, suites, the runner, the command line."""

if __name__ == "benchmarks":
    raise ImportError(
        "import it as alibench.benchmarks; an installation of before 0.2 is renewed by: pip install -e ."
    )
