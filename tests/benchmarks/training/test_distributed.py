"""Processes that share every batch do what one does. A pair is started once and goes through all cases.

Most is compared in double precision, where hundreds of updates leave rounding invisible, and nothing else.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from filelock import FileLock
from torch import Tensor, nn
from torch.autograd import grad

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading, plugins
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import measuring
from alibench.benchmarks.running import torchrun as running_torchrun
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK, Outcome
from alibench.benchmarks.running.torchrun import Together, follow
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train_together
from alibench.benchmarks.training.outcomes import Diverged, Member, Record, Trained
from alibench.benchmarks.training.peers import Lost, Peers
from alibench.benchmarks.training.processes import ALONE, Alone
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.sharded import Sharded, refusal, synchronised
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.evaluation.data import Split
from alibench.evaluation.errors import BadInput
from alibench.models import REGISTRY
from alibench.models.base import Batch, Model, Terms
from alibench.models.noise import Draw
from alibench.results import rows
from tests.conftest import MODELS, TINY, build, networks

CPU, PROCESSES, SHARED = torch.device("cpu"), 2, Sharded()
SHARED_MODELS = [name for name in MODELS if not REGISTRY[name].pairwise]
FEW = Recipe(steps=3, batch=20, ema=0.5, statistics=2)
TRACED = Recipe(steps=7, batch=20)  # as many steps as it has ticks
LONG = Recipe(steps=200)
STOP = 4  # the step after which a traced training is stopped

Left = tuple[dict[str, Tensor], list[Record]]  # weights and statistics, curves
ALIBENCH = Path(sys.executable).parent / "alibench"


# -------------------- what one or two processes do


@contextmanager
def in_double() -> Iterator[None]:
    """Draw and compute in double precision meanwhile."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def doubled(model: Model) -> Model:
    """Return a model in double precision, which takes data that are not."""
    kind = type(model)

    class Double(kind):
        def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
            labelled = (batch.labelled[0].double(), batch.labelled[1]) if batch.labelled else None
            return super().forward(replace(batch, x=batch.x.double(), labelled=labelled), learners)

        def conclude(self, batches: Iterable[Tensor], rng: torch.Generator) -> None:
            super().conclude((x.double() for x in batches), rng)

    model.__class__ = Double
    if model.conditional:  # it makes floats of labels
        model.embedding.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    return model.double()


def trained(
    name: str,
    recipe: Recipe,
    double: bool = True,
    kept: Checkpoints | None = None,
    log: Callable[[Mapping[str, float | str]], None] = lambda record: None,
    moved: float = 0.0,  # share of themselves by which the first weights are moved, either way at random
    device: torch.device = CPU,
    processes: Alone = ALONE,
) -> Left:
    """Train a model from its first weights, or from a checkpoint."""
    with in_double() if double else nullcontext():
        model = doubled(build(name)) if double else build(name)
        with torch.no_grad():
            rng = torch.Generator().manual_seed(0)
            for p in model.parameters():
                p *= 1 + moved * torch.randint(-1, 2, p.shape, generator=rng)
        train = datasets.load("digits").train
        members = [Member(model, 0, Split(train.x[:100], train.y[:100]), log)]
        (outcome,) = train_together(members, train, recipe, device, checkpoints=kept, processes=processes)
    assert isinstance(outcome, Trained)
    return model.cpu().state_dict(), outcome.curves


def stopped(name: str, folder: Path, asked: bool = True, processes: Alone = ALONE) -> int:
    """Train until it ends on request; return how many steps were made."""
    request, steps = Request(), [0]

    def log(record: Mapping[str, float | str]) -> None:
        steps.append(int(record["step"]))
        if asked and record["step"] == STOP:
            request.take(signal.SIGTERM, None)

    with pytest.raises(Stopped):
        trained(name, TRACED, kept=checkpoints(folder, request), log=log, processes=processes)
    return steps[-1]


def checkpoints(folder: Path, request: Request | None = None) -> Checkpoints:
    return Checkpoints(folder, {"run": "a"}, every=1e9, request=request)


def numbers(left: Left) -> Tensor:
    return torch.cat([value.double().flatten() for value in left[0].values()])


def apart(a: Left, b: Left) -> float:
    """Return by which share of themselves the weights and statistics of two trainings differ."""
    return float((numbers(a) - numbers(b)).norm() / numbers(b).norm())


def curves_apart(a: Left, b: Left) -> float:
    """Return the largest difference of two trainings' curves."""
    names = [name for name in a[1][0] if name not in ("phase", "step")]
    pairs = [(x[n], y[n]) for x, y in zip(a[1], b[1], strict=True) for n in names if n in x]
    return max(abs(float(x) - float(y)) for x, y in pairs)


Norm = tuple[tuple[int, ...], bool, float | None]  # shape of h, affine, momentum
NORMS: list[Norm] = list(product(((8, 5), (8, 5, 3, 2)), (True, False), (0.1, None)))


def normalised(variant: Norm, share: slice, peers: Peers | None) -> dict[str, Tensor]:
    """Return batch norm of two batches, or of a share of each, with first and second derivatives."""
    shape, affine, momentum = variant
    rng = torch.Generator().manual_seed(0)
    norm = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(5, 1e-4, momentum, affine).double()
    for p in norm.parameters():
        nn.init.normal_(p, generator=rng)
    for _ in range(2):
        h, first, second = (3 + torch.randn(3, *shape, generator=rng, dtype=torch.float64)).unbind()
        h = h[share].requires_grad_()
        with synchronised([norm], peers) if peers else nullcontext():
            out = norm(h)
        (slope,) = grad((out.tanh() * first[share]).sum(), h, create_graph=True)
        twice = (slope.square() * second[share]).sum()
        bend, *own = grad(twice, [h, *norm.parameters()], allow_unused=True)
    found = {"out": out, "slope": slope, "bend": bend, **dict(norm.named_buffers())}
    found |= {f"own {i}": bent for i, bent in enumerate(own) if bent is not None}
    return {key: value.detach() for key, value in found.items()}


# -------------------- what the pair does


def norms(folder: Path) -> Any:
    half = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
    return [normalised(variant, half, Peers(CPU)) for variant in NORMS]


def rounded(folder: Path) -> Any:
    """Batch norm of bf16, as autocast hands it on."""
    norm, rng = nn.BatchNorm1d(5), torch.Generator().manual_seed(0)
    h = torch.randn(64, 5, generator=rng).bfloat16()
    with synchronised([norm], Peers(CPU)), torch.autocast("cpu", torch.bfloat16):
        return norm(h[32 * dist.get_rank() :][:32]), dict(norm.named_buffers())


def models(folder: Path) -> Any:
    return {name: trained(name, FEW, processes=SHARED) for name in SHARED_MODELS}


def recipes(folder: Path) -> Any:
    return [trained("ali", recipe, processes=SHARED) for recipe in RECIPES]


def local(folder: Path) -> Any:
    recipe = replace(FEW, batch_norm="local", statistics=0)  # or they would be settled anew, by all alike
    return trained("ali", recipe, processes=SHARED), trained("vae", recipe, processes=SHARED)


def stop(folder: Path) -> Any:
    """The second is asked to end, the first is not."""
    return stopped("ali", folder / "pair's", asked=dist.get_rank() == 1, processes=SHARED)


def go_on(folder: Path) -> Any:
    """The second may be on a machine that does not see the checkpoints."""
    seen = folder if dist.get_rank() == 0 else folder / "elsewhere"
    if dist.get_rank() == 0:
        shutil.copytree(folder / "pair's", folder / "for one")
    undisturbed = trained("ali", TRACED, processes=SHARED)
    own = trained("ali", TRACED, kept=checkpoints(seen / "pair's"), processes=SHARED)
    ones = trained("ali", TRACED, kept=checkpoints(seen / "one's"), processes=SHARED)
    return undisturbed, own, ones


def diverge(folder: Path) -> Any:
    split, recipe = datasets.load("digits").train, replace(TRACED, lr=1e30)
    (outcome,) = train_together([Member(build("ali"), 0)], split, recipe, CPU, processes=SHARED)
    assert isinstance(outcome, Diverged)
    return str(outcome)


def refused(model: Model, recipe: Recipe) -> str:
    split = datasets.load("digits").train
    with pytest.raises(BadInput) as problem:
        train_together([Member(model, 0)], split, recipe, CPU, processes=SHARED)
    return str(problem.value)


def uneven(folder: Path) -> Any:
    model = build("ali")
    model.noise = lambda n: {"mixed": Draw("normal", (n + 1, 3))}
    return refused(build("ali"), replace(TRACED, batch=25)), refused(
        model, replace(TRACED, update="separate")
    )


PLUGIN = """
from alibench.models.ali import ALI
class Mine(ALI):
    name, title, source = "mine", "mine", "here"
"""


def work(out: Path, name: str, *settings: str) -> list[Job]:
    (suite,) = loading.load("digits", ["steps=4", "metrics=['reconstruction']", *settings], [name], seeds=1)
    return [Job(kind, suite, name, 0, out, "cpu", ("test",)) for kind in ("run", "references")]


def do(engine: Together, job: Job, reached: list[tuple[str, int]]) -> dict[str, Outcome]:
    engine.begin([job])
    (outcome,) = engine.wait(SimpleNamespace(reach=lambda *told: reached.append(told)))  # and nothing is said
    return outcome


def command(folder: Path) -> Any:
    """The first does the jobs of a command, the second follows until it is dismissed."""
    if dist.get_rank() == 1:
        before = set(folder.rglob("*"))
        follow()
        assert not any(path.owner() is None for path in before)
        return "mine" in plugins.names(elsewhere=False)
    (folder / "mine.py").write_text(PLUGIN)
    plugins.load(folder / "mine.py")
    engine, reached, out = Together(CPU), list[tuple[str, int]](), folder / "out"

    def cannot_be_measured(*_: object) -> None:
        raise BadInput("it cannot be measured")

    # A failure after a training is this run's alone: the others go on waiting for the next one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "trained_model", cannot_be_measured)
        unmeasured = do(engine, work(folder / "unmeasured", "vae")[0], [])
    outcomes = [do(engine, job, reached) for job in (*work(out, "vae"), *work(out, "mine")[:1])]
    again = do(engine, work(out, "vae")[0], [])  # is trained already
    running_torchrun.dismiss()
    return outcomes, reached, again, unmeasured


def lost(folder: Path) -> Any:
    """A training that cannot be shared, and that nobody has checked."""
    _meet(folder, "second")
    (job,) = work(folder / "lost", "vae", "batch=25")[:1]
    if dist.get_rank() == 1:
        with pytest.raises(Lost) as problem:
            follow()
        return str(problem.value)
    engine = Together(CPU)
    with pytest.raises(BadInput) as refused:
        engine.check([job], {})
    with pytest.raises(Lost) as ended:
        do(engine, job, [])
    running_torchrun.dismiss()  # waits for nobody
    return str(refused.value), str(ended.value)


CASES = (norms, rounded, models, recipes, local, stop, go_on, diverge, uneven, command, lost)
RECIPES = [replace(FEW, update="alternating"), replace(FEW, update="separate", weight_decay=0.01, ema=0.0)]


def on_gpus(folder: Path) -> Any:
    device = torch.device("cuda", dist.get_rank())
    return {name: trained(name, FEW, device=device, processes=SHARED) for name in SHARED_MODELS}


def long(folder: Path) -> Any:
    cases = product(("ali", "vae"), (False, True))
    return {(name, double): trained(name, LONG, double=double, processes=SHARED) for name, double in cases}


def _meet(folder: Path, name: str) -> None:
    here = {"rank": int(os.environ["RANK"]), "world_size": PROCESSES, "timeout": timedelta(seconds=100)}
    dist.init_process_group("gloo", init_method=f"file://{folder / name}", **here)


def _process(rank: int, folder: Path, cases: tuple[Callable[[Path], Any], ...]) -> None:
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    _meet(folder, "first")
    for case in cases:
        torch.save(case(folder), folder / f"{case.__name__}.{rank}")


Case = Callable[[Path], Any]
Found = Callable[[Case], list[Any]]


def _paired(folder: Path, *cases: Case) -> Found:
    """Have two processes go through cases; return what gives what each found in one."""
    if not (folder / "done").exists():
        torch.multiprocessing.spawn(_process, (folder, cases), PROCESSES)
        (folder / "done").touch()

    def found(case: Case) -> list[Any]:
        paths = [folder / f"{case.__name__}.{rank}" for rank in range(PROCESSES)]
        return [torch.load(path, weights_only=False) for path in paths]

    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the pair's folder, with a checkpoint of one process in it."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    made = shared / "pair"
    with FileLock(shared / "pair.lock"):
        if not made.exists():
            made.mkdir()
            stopped("ali", made / "one's")
    return made


@pytest.fixture(scope="module")
def pair(folder: Path) -> Found:
    with FileLock(folder.with_suffix(".lock")):
        return _paired(folder, *CASES)


# -------------------- what they find


@pytest.mark.parametrize("variant", NORMS, ids=str)
def test_synchronised_batch_norm_is_that_of_the_whole_batch(variant: Norm, pair: Found) -> None:
    """Its outputs, first and second derivatives, and running statistics."""
    first, second = (found[NORMS.index(variant)] for found in pair(norms))
    for key, value in normalised(variant, slice(None), None).items():
        if key in ("out", "slope", "bend"):
            both = torch.cat([first[key], second[key]])
        else:
            both = first[key] + second[key] if key.startswith("own") else first[key]
            assert key.startswith("own") or torch.equal(first[key], second[key])
        torch.testing.assert_close(both, value, rtol=1e-9, atol=1e-12)


def test_batch_norm_of_bf16_keeps_its_statistics_in_fp32(pair: Found) -> None:
    (first, statistics), (second, _) = pair(rounded)
    norm, rng = nn.BatchNorm1d(5), torch.Generator().manual_seed(0)
    expected = norm(torch.randn(64, 5, generator=rng).bfloat16().float())
    assert first.dtype == second.dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat([first, second]).float(), expected, rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(statistics, dict(norm.named_buffers()), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", SHARED_MODELS)
def test_every_model_learns_what_it_learns_in_one_process(name: str, pair: Found) -> None:
    """All phases, statistics and averages included; where a gradient is nought, Adam's rounding grows."""
    first, second = (found[name] for found in pair(models))
    with in_double():
        start: Left = (build(name).state_dict(), [])
    expected = trained(name, FEW)
    assert torch.equal(numbers(first), numbers(second))
    assert first[1] == second[1]
    assert apart(first, expected) < 1e-10
    assert curves_apart(first, expected) < 1e-10
    assert apart(start, expected) > 1e-3


@pytest.mark.parametrize("i", range(len(RECIPES)))
def test_every_recipe_is_that_of_one_process(i: int, pair: Found) -> None:
    assert apart(pair(recipes)[0][i], trained("ali", RECIPES[i])) < 1e-10


def test_local_batch_norm_leaves_one_state_and_another_one(pair: Found) -> None:
    together = pair(models)[0]
    for name, first, second in zip(("ali", "vae"), *pair(local), strict=True):
        assert torch.equal(numbers(first), numbers(second))
        assert apart(first, together[name]) > 1e-4


def test_all_end_after_the_same_step_when_one_is_asked(pair: Found, folder: Path) -> None:
    assert pair(stop) == [STOP, STOP]
    assert [path.name for path in (folder / "for one").iterdir()] == [f"round-{STOP:09d}.safetensors"]


def test_a_checkpoint_moves_between_one_process_and_two(pair: Found, folder: Path) -> None:
    expected, ((undisturbed, own, ones), second) = trained("ali", TRACED), pair(go_on)
    assert torch.equal(numbers(own), numbers(undisturbed))
    assert own[1] == undisturbed[1]
    for a, b in zip((undisturbed, own, ones), second, strict=True):
        assert torch.equal(numbers(a), numbers(b))
    on_pairs = trained("ali", TRACED, kept=checkpoints(folder / "for one"))
    for found in (undisturbed, ones, on_pairs):
        assert apart(found, expected) < 1e-10
        assert curves_apart(found, expected) < 1e-10


def test_all_see_a_divergence_at_the_same_step(pair: Found) -> None:
    first, second = pair(diverge)
    assert first == second
    assert "not finite in phase 'game' at step" in first


def test_the_first_runs_a_command_and_the_others_follow(pair: Found, folder: Path, tmp_path: Path) -> None:
    (outcomes, reached, again, unmeasured), knows_the_plugin = pair(command)
    assert list(map(str, unmeasured.values())) == ["failed: it cannot be measured"]
    assert [list(outcome.values()) for outcome in outcomes] == [[OK]] * 3
    assert again == {"digits-vae-seed0": OK}
    assert reached[-1] == ("digits-mine-seed0", 4)
    assert knows_the_plugin
    execute(work(tmp_path, "vae")[:1], lambda run_id, steps: None)
    found, expected = (rows.read_run(out / "runs" / "digits-vae-seed0") for out in (folder / "out", tmp_path))
    assert [row["metric"] for row in found] == [row["metric"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        if one["kind"] == "quality" and one["value"] is not None:
            assert one["value"] == pytest.approx(other["value"], rel=1e-4)


def test_a_failure_in_step_ends_all(pair: Found) -> None:
    (refused, ended), second = pair(lost)
    assert "model 'vae': batch 25 has no 2 equal shares: use 1 process, or --set batch=26, which" in refused
    assert ended.startswith("digits-vae-seed0 failed, so all processes end: batch 25 has no 2 equal shares")
    assert second.startswith("process 1 ends: batch 25 has no 2 equal shares")


def test_shares_that_are_none_are_refused_by_all(pair: Found) -> None:
    first, second = pair(uneven)
    assert first == second
    assert first[0].startswith("batch 25 has no 2 equal shares")
    told = "model 'ali' cannot be shared by several processes: its noise 'mixed' has shape (21, 3), not some"
    assert told in first[1]


@pytest.mark.parametrize(
    ("recipe", "processes", "said"),
    [
        ({"batch": 100}, 4, ""),
        ({"batch": 100}, 8, "batch 100 has no 8 equal shares: use 5 processes, or --set batch=104, "),
        ({"batch": 3}, 4, "batch 3 has no 4 equal shares: use 3 processes, or --set batch=4, "),
        ({"execution": "graphs"}, 2, "execution 'graphs' has not been tried with several processes: use "),
    ],
)
def test_what_cannot_be_shared_is_refused_with_the_remedy(recipe: Any, processes: int, said: str) -> None:
    told = refusal(build("ali"), Recipe(steps=1, **recipe), processes)
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_losses_over_pairs_of_samples_are_not_shared() -> None:
    for model in (build("wae-mmd"), REGISTRY["ali"](networks(), packing=2)):
        assert "compares samples of a batch" in refusal(model, Recipe(steps=1), 2)


# ---------------------------------------------------------------------------------------------- longer


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < PROCESSES, reason="NCCL wants a GPU for each process")
def test_two_gpus_learn_what_one_learns(tmp_path: Path) -> None:
    first, second = _paired(tmp_path, on_gpus)(on_gpus)
    for name in SHARED_MODELS:
        assert torch.equal(numbers(first[name]), numbers(second[name]))
        assert apart(first[name], trained(name, FEW, device=torch.device("cuda"))) < 1e-8


@pytest.mark.slow
def test_two_hundred_steps_are_those_of_one_process(tmp_path: Path) -> None:
    """In double precision to 1e-8. In fp32 as far as rounding allows, which a game of two lets grow: weights
    to 2 %, losses and logits to 0.5. One process strays as far if its first weights are moved by a last bit.
    """
    first, second = _paired(tmp_path, long)(long)
    for name in ("ali", "vae"):
        found, expected = first[name, True], trained(name, LONG)
        assert torch.equal(numbers(found), numbers(second[name, True]))
        assert apart(found, expected) < 1e-8
        assert curves_apart(found, expected) < 1e-7
        found, expected = first[name, False], trained(name, LONG, double=False)
        moved = trained(name, LONG, double=False, moved=2**-23)

        assert apart(found, expected) < 0.02
        assert curves_apart(found, expected) < 0.5
        assert apart(found, expected) < 10 * apart(moved, expected)
        assert curves_apart(found, expected) < 10 * curves_apart(moved, expected)


@pytest.mark.commands
@pytest.mark.whole
@pytest.mark.usefixtures("here")
def test_torchrun_runs_a_command_and_either_goes_on_with_it(tmp_path: Path) -> None:
    shared, moved, alone = (tmp_path / name for name in ("shared", "moved", "alone"))
    words = ["run", "digits", "--models", "vae", "--seeds", "1", *TINY, "--set", "steps=300"]
    options = ["--standalone", "--nproc_per_node", str(PROCESSES), "--no-python", str(ALIBENCH)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *options, *words, "--out", str(shared)]
    begun = subprocess.Popen([*torchrun, "--checkpoint-every", "0"], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list(shared.glob("runs/*/checkpoints/*")) and time.monotonic() < end:
        time.sleep(0.1)
    begun.send_signal(signal.SIGINT)  # which torchrun hands on to all
    assert "to resume: " in begun.communicate()[1]
    assert not list(shared.glob("runs/*/training.json"))
    shutil.copytree(shared, moved)
    ended = subprocess.run([*torchrun, "--resume"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert main([*words, "--out", str(moved), "--resume"]) == 0
    assert main([*words, "--out", str(alone)]) == 0
    expected = rows.read(alone)
    for found in (rows.read(shared), rows.read(moved)):
        assert found.metric.tolist() == expected.metric.tolist()
        for name in ("reconstruction_error", "psnr", "ssim"):
            own = expected.metric == name
            assert found[own].value.to_numpy() == pytest.approx(expected[own].value.to_numpy(), rel=0.01)
    unshared = [*torchrun, "--set", "batch=25", "--fresh"]
    refused = subprocess.run(unshared, capture_output=True, text=True, check=False)
    assert refused.returncode == 1  # torchrun's own
    assert "alibench: suite 'digits', model 'vae': batch 25 has no 2 equal shares" in refused.stderr
