"""`alibench regression`: train fresh seeds of a suite, compare them with its baseline, print what moved."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from alibench import results
from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands import options, verdict
from alibench.benchmarks.commands.carrying import Outcomes, Task, carry_out, failed
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.commands.declaring import grouped, option
from alibench.benchmarks.commands.options import Effort, Location
from alibench.benchmarks.commands.publishing import REPORT, line
from alibench.benchmarks.config import devices, loading, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running import outputs, provenance, space
from alibench.benchmarks.running.answers import Answer, as_json
from alibench.benchmarks.running.jobs import Workplace
from alibench.benchmarks.running.outcomes import as_text
from alibench.benchmarks.running.outputs import Destination, Output
from alibench.benchmarks.training import peers
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import METRICS
from alibench.results import baseline, formats, gate, rows
from alibench.results.baseline import Baseline

BASELINES = Path(results.__file__).resolve().parent / "baselines"
FRESH = 10**6, 10**9  # seeds of a gate; those of baselines and tables lie below
ABOUT = "SUITE is a suite with [[gate]] tables, built-in or a TOML file; default: gate."
EXAMPLES = (
    "alibench regression --dry-run",
    "alibench regression --seeds 5 --out gate",
    "alibench regression mine.toml --update-baseline",
)


@dataclass(frozen=True)
class Judged:
    """What is compared with what: seeds of a suite, or runs that are there, with its baseline."""

    suite: str
    seeds: int | None
    first_seed: int | None
    baseline: Path | None
    source: Path | None  # of runs; none: they are trained
    update_baseline: bool
    overrides: tuple[str, ...]

    @property
    def place(self) -> Path:
        """Where the baseline is."""
        return self.baseline or place(self.suite)

    @property
    def first(self) -> int:
        """The first seed."""
        if self.first_seed is not None:
            return self.first_seed
        return 0 if self.update_baseline else fresh_seed()


@click.command("regression", cls=Command, about=ABOUT, examples=EXAMPLES)
@grouped(
    "judged",
    Judged,
    click.argument("suite", default="gate", shell_complete=options.suites),
    option("--seeds N", "fresh seeds of each model; default: the suite's number"),
    option("--first-seed N", "the first of them; default: drawn from the commit"),
    option("--baseline FILE", "default: results/baselines/SUITE.json, or next to the TOML file"),
    option("--from DIR", "judge the runs in DIR; nothing is trained", "source"),
    option("--update-baseline", f"write a new baseline instead ({baseline.SEEDS} seeds)"),
    options.overrides,
)
@options.destination
@options.machine()
@options.effort
@options.plugins
def command(
    console: Console, judged: Judged, destination: Destination, machine: Location, effort: Effort
) -> Answer:
    """Carry out the command: exit code 1 if something got worse. Raises BadInput."""
    if destination.dry_run and judged.source:
        problem = "--dry-run shows what would be trained, and --from trains nothing"
        raise BadInput(f"{problem}: leave one of them out")
    suite = _suite(judged)
    name = f"regression-{Path(judged.suite).stem}"
    stored = _replaced(judged.place) if judged.update_baseline else baseline.read(judged.place)

    # Runs that are there.
    if judged.source:
        seeds = range(judged.seeds) if judged.update_baseline and judged.seeds else None
        current = baseline.collect(judged.source, suite.name, suite.gate, suite.models, seeds)
        return _decide(judged, stored, current, lambda: outputs.fresh(destination.out, name), console)

    # Seeds that are trained.
    if stored and not judged.update_baseline:
        loaded = suite.load()
        planned = baseline.planned(suite.name, loaded.name, loaded.sha256, asdict(suite), suite.gate)
        baseline.check(stored, planned, judged.place)
    engine = machine.engine([suite])
    (suite,) = devices.resolved([suite], engine.device, alone=peers.world() == 1)
    checkup.rehearse([suite])

    def finish(out: Output, outcomes: Outcomes) -> Answer:
        rows.derive(out.path)
        known = Answer(int(bool(failed(outcomes))), {"out": out.path, "runs": as_text(outcomes)})
        # Nothing to judge is a failed run, not a regression.
        if {job.run_id for job in Workplace(out.path, "cpu").trainings(suite)} <= failed(outcomes):
            line(console, "every run failed")
            return known
        current = baseline.collect(out.path, suite.name, suite.gate, suite.models)
        return _decide(judged, stored, current, lambda: out.path, console, known)

    # The seeds are printed first, so that a failure can be repeated whatever happens.
    first, last = suite.first_seed, suite.training_seeds[-1]
    task = Task(
        name,
        outputs.plan([suite], engine.device, plugins=plugins.contents()),
        # No references: none is gated.
        lambda place: [*place.trainings(suite), *place.timings([suite])],
        space.disk([suite], engine.size),
        begins=f"seeds {first} to {last}; --first-seed {first} asks the same again",
    )
    return carry_out(task, engine, destination, effort, console, finish)


def _suite(judged: Judged) -> Suite:
    """Return the suite, checked, with the seeds that are asked for. Raises BadInput."""
    training_baseline = judged.update_baseline and judged.source is None
    seeds = baseline.SEEDS if judged.seeds is None and training_baseline else judged.seeds
    suites = loading.load(judged.suite, [*judged.overrides, f"first_seed={judged.first}"], seeds=seeds)
    if len(suites) > 1:
        names = ", ".join(suite.name for suite in suites)
        raise BadInput(f"'{judged.suite}' is a collection: name one of {names}")

    # Precision is the baseline's, whatever device this is.
    (suite,) = suites
    if suite.recipe.precision == "auto":
        suite = replace(suite, recipe=replace(suite.recipe, precision="fp32"))

    # What is gated must be there, and measured.
    suite.check_trains()
    if not suite.gate:
        problem = f"suite '{suite.name}' has no [[gate]] tables"
        raise BadInput(f"{problem}: they list what is gated (docs/regression.md)")
    measured = [column.metric for metric in suite.metrics for column in METRICS[metric].COLUMNS]
    for gated in suite.gate:
        check_name(gated.metric, measured, f"suite '{suite.name}', gate: its metrics do not measure")
    return suite


def _decide(
    judged: Judged,
    stored: Baseline | None,
    current: Baseline,
    folder: Callable[[], Path],
    console: Console,
    known: Answer | None = None,
) -> Answer:
    """Replace the baseline, or judge by it and write the verdict; return that with what is `known`."""
    known = known or Answer(0, {"out": None, "runs": {}})
    if judged.update_baseline:
        baseline.write(judged.place, current)
        changes = formats.table(baseline.changes(stored, current))
        line(console, f"{changes}\n\n{judged.place}: {len(current.seeds)} seeds")
        written = {"baseline": judged.place, "seeds": list(current.seeds)}
        return Answer(known.code, {**known.facts, **written})

    # The folder is made only once both are known to be comparable.
    assert stored is not None
    baseline.check(stored, current, judged.place)
    findings = gate.judge(stored.cells, current.cells)
    out = folder()
    page = verdict.page(findings, stored, current, verdict.speeds(judged.source or out))
    facts = verdict.facts(findings, stored, current)
    files.replace(out / "gate.md", page)
    files.replace(out / "gate.json", as_json(facts) + "\n")

    # A report only of runs that were trained here: those of --from have one.
    listed = "gate.md, gate.json"
    if not judged.source:
        from alibench.results import report  # matplotlib takes a moment to import

        for problem in report.write(out):
            say(str(problem))
        listed += f", {REPORT}"
    line(console, page)
    line(console, f"Everything is in {out}: {listed}")
    code = int(known.code or not facts["passed"])
    return Answer(code, {**known.facts, "out": out, "page": out / "gate.md", **facts})


def _replaced(path: Path) -> Baseline | None:
    """Return the baseline that will be replaced, none if none can be read. Raises BadInput."""
    outputs.check_place(path.parent, "--baseline")
    with suppress(FileNotFoundError):
        path.stat()  # an OSError where no file can have the name
    if path.is_dir():
        raise BadInput(f"--baseline {path} is a folder: name a file")
    with suppress(BadInput):
        return baseline.read(path)
    return None


def fresh_seed() -> int:
    """Return a first seed that no table has: drawn from the commit, without a checkout at random."""
    commit, (low, high) = provenance.commit(), FRESH
    drawn = int(commit[:15], 16) if not commit.startswith("no checkout") else secrets.randbelow(high)
    return low + drawn % (high - low)


def place(suite: str) -> Path:
    """Return where a suite's baseline is if none is named."""
    path = Path(suite)
    return path.with_suffix(".baseline.json") if path.suffix == ".toml" else BASELINES / f"{suite}.json"
