"""Is a user's model what the contract asks for? `alibench check FILE` prints a line a check.

The checks that a run depends on are made before every run, too, on a few samples: a model that fails them is
refused before anything is trained or written.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alibench.benchmarks.checkup import update, use
from alibench.benchmarks.checkup.case import Case, Missing
from alibench.benchmarks.config import blame, checks, definitions, loading, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import samples
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.evaluation.representation import one_core_a_thread


@dataclass(frozen=True)
class CheckResult:
    """What a check says: ok, with a fact or nothing; or what is wrong, with the remedy."""

    model: str
    check: str
    ok: bool
    what: str


@dataclass(frozen=True)
class Check:
    """A property of a model: `look` returns a fact, or None where the check does not apply, or raises."""

    name: str
    look: Callable[[Case], str | None]
    methods: tuple[str, ...] = ()  # where in the model's code a failure is looked for
    needs: tuple[str, ...] = ()  # checks without which this one says nothing new
    thorough: bool = False  # made by `alibench check` alone, not before every run


# of models that are trained here
UPDATE = (
    Check("players", update.players, ("__init__",)),
    Check("parameters", update.parameters, ("__init__",), thorough=True),
    Check("owners", update.owners, ("__init__",)),
    Check("losses", update.losses, ("game", "forward")),
    Check("rounds", update.rounds, ("forward",), ("losses",)),
    Check("gradients", update.gradients, ("forward",), ("losses",), thorough=True),
    Check("noise", update.noise, ("forward",), ("losses",), thorough=True),
    Check("training", update.trains, (), ("losses", "rounds"), thorough=True),
    Check("stop and resume", update.resumes, ("forward",), ("losses", "rounds", "noise"), thorough=True),
)
USE = (
    Check("samples", use.samples, ("sample", "generate", "prior", "decode")),
    Check("codes", use.codes, ("encode", "infer", "posterior")),
    Check("reconstructions", use.reconstructions, ("decode",), ("codes",)),
    Check("metrics", use.measures, ("features",), ("losses", "samples", "codes", "reconstructions")),
)
BUILDS = Check("builds", update.builds, ("__init__",))
WEIGHTS = Check("weights", use.weights, ("__init__",), ("samples", "codes"), thorough=True)
BASIC = ("builds", "players", "owners")  # after one of these fails, no other check says anything


def examine(suite: Suite, name: str, steps: int) -> Iterator[CheckResult]:
    """Yield the result of each check of a model, which is trained for `steps`."""
    kind = suite.kind(name)
    if lacking := definitions.undeclared(kind):
        yield CheckResult(name, "declares", False, f"{blame.PLACES[kind]}: {lacking}")
        return
    yield CheckResult(name, "declares", True, kind.title)
    yield from _results(Case(suite, name, steps))


def _results(case: Case) -> Iterator[CheckResult]:
    """Yield the results of all checks but of those that need what another found missing."""
    wrong = dict[str, str]()
    for check in (BUILDS, *USE) if case.kind.elsewhere else (BUILDS, *UPDATE, *USE, WEIGHTS):
        if (check.thorough and not case.is_thorough) or wrong.keys() & set(check.needs):
            continue
        if not (result := _result(case, check)):
            continue

        # one mistake may stop several checks: it is said once
        if result.what not in wrong.values():
            yield result
        if not result.ok:
            wrong[check.name] = result.what
            if check.name in BASIC:
                return


def _result(case: Case, check: Check) -> CheckResult | None:
    """Make a check; None if it does not apply."""
    try:
        fact = check.look(case)
        return None if fact is None else CheckResult(case.name, check.name, True, fact)
    except Missing as missing:
        what = f"{blame.place(case.kind, *(missing.methods or check.methods))}: {missing}"
    except blame.ENDS:
        raise
    # also SystemExit: a model does not end the command
    except BaseException as error:
        what = blame.in_model(error, case.kind)
    return CheckResult(case.name, check.name, False, what)


def examine_file(
    file: Path, suite: str, steps: int, chosen: Sequence[str], show: Callable[[str], Any]
) -> list[CheckResult]:
    """Check all models of a file, or the `chosen`, in a suite, and `show` a line each. Raises BadInput."""
    if steps < 1:
        raise BadInput(f"--steps {steps}: at least one step is needed")

    # What is checked, and in which suite.
    names = [kind.name for kind in plugins.load(file, complete=False)]
    for name in chosen:
        check_name(name, names, f"{file} defines no model")
    suites = loading.load(suite)
    if len(suites) > 1:
        raise BadInput(f"'{suite}' is a collection: name one of {', '.join(part.name for part in suites)}")
    (loaded,) = suites
    names = list(chosen) or names
    for name in names:
        if reason := checks.unfit(loaded, name):
            raise BadInput(f"model '{name}' {reason}: name another --suite than '{suite}'")

    # With one thread, as a run has it: small networks are quickest so.
    results: list[CheckResult] = []
    with one_core_a_thread():
        for name in names:
            show(f"{name}, in suite '{loaded.name}'")
            for result in examine(replace(loaded, models=[name]), name, steps):
                results.append(result)
                verdict = "ok" if result.ok else "missing"
                show(f"  {verdict:<8} {result.check:<16} {result.what}".rstrip())

    wrong = ", ".join(f"{result.check} of {result.model}" for result in results if not result.ok)
    show(f"missing: {wrong}" if wrong else f"{len(results)} checks, all ok")
    return results


# -------------------- before a run


def rehearse(suites: Iterable[Suite]) -> None:
    """Raise BadInput for a user's model that a run would fail with, naming file and line."""
    for suite in suites:
        for name in suite.models:
            if suite.kind(name) in blame.PLACES and (problem := _problem(suite, name)):
                raise BadInput(f"{problem} (suite '{suite.name}'; nothing was trained)")


def beside(suites: Sequence[Suite], names: Iterable[str]) -> list[Suite]:
    """Return suites with models that were trained elsewhere added to each that has their data.

    Says which suites a model is left out of. Raises BadInput for a model that no suite can have.
    """
    extended = list(suites)
    for name in names:
        problems = [_problem(suite, name) for suite in suites]
        if all(problems):
            raise BadInput(f"{problems[0]} (suite '{suites[0].name}'; nothing was trained)")
        for i, problem in enumerate(problems):
            if problem:
                say(f"suite '{suites[i].name}': model '{name}' is left out: {problem}")
            else:
                extended[i] = checks.with_models(extended[i], [name])
    return extended


def remark(suites: Iterable[Suite]) -> None:
    """Say what readers of their numbers must know of stored samples."""
    for suite in suites:
        for name in suite.models:
            kind = suite.kind(name)
            for note in plugins.notes(kind, suite.dataset):
                say(f"{blame.PLACES[kind]}: the samples are {note} (suite '{suite.name}')")


def _problem(suite: Suite, name: str) -> str:
    """Return what would fail of a user's model in a run; empty if nothing would."""
    # Enough of stored samples.
    case = Case(suite, name)
    if plugins.is_folder(case.kind) and case.data.images:
        stored = samples.count(plugins.samples_of(case.kind))
        if stored < case.samples:
            return (
                f"{blame.PLACES[case.kind]} holds {stored} images, suite '{suite.name}' measures "
                f"{case.samples}: add some, or measure fewer of all models by --set "
                f"evaluation.samples={stored}"
            )
    return next((result.what for result in _results(case) if not result.ok), "")
