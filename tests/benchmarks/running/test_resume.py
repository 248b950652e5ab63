"""A training that stops and goes on ends as if it had not stopped; a folder is gone on in only with what
began it.
"""

import itertools
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
import torch
from torch import Tensor

from alibench import load_run
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import outputs, provenance
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK
from alibench.benchmarks.training import checkpoints
from alibench.benchmarks.training.batches import Batches
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train_together
from alibench.benchmarks.training.outcomes import Failed, Member, Trained
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.stopping import Request, Stopped
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation import files
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.seeds import generator
from alibench.models.ali import ALI
from alibench.results import rows, stored
from tests.conftest import MODELS, TINY, build, in_this_process

pytestmark = pytest.mark.usefixtures("here")
CPU = torch.device("cpu")
BEGUN: dict[str, Any] = {"phase": 0, "seconds": 0.0, "judges": [], "outcomes": [], "lost": {}}
RECIPE = Recipe(steps=7, batch=32, statistics=2)


def trained(
    names: Sequence[str], seeds: Sequence[int], recipe: Recipe, digits: Data, kept: Checkpoints | None = None
) -> tuple[list[dict[str, Tensor]], list[Trained]]:
    """Train a model for each seed; return their weights, and what else is left."""
    models = [build(name, seed) for name, seed in zip(names, seeds, strict=True)]
    labelled = Split(digits.validation.x[:100], digits.validation.y[:100])
    members = [Member(model, seed, labelled) for model, seed in zip(models, seeds, strict=True)]
    outcomes = train_together(members, digits.train, recipe, CPU, checkpoints=kept)
    found = [outcome for outcome in outcomes if isinstance(outcome, Trained)]
    assert len(found) == len(models)
    return [model.state_dict() for model in models], found


class Stopping(Checkpoints):
    """Checkpoints of a training that stops after the n-th round of its life, however often it has gone on
    before.
    """

    def __init__(self, folder: Path, stop: int) -> None:
        super().__init__(folder, {}, every=1e9)
        self.stop, self.rounds = stop, 0

    def due(self) -> bool:
        self.rounds += 1
        self.request.made = self.rounds == self.stop
        return super().due()


def in_pieces(
    names: Sequence[str], seeds: Sequence[int], recipe: Recipe, digits: Data, folder: Path, piece: int
) -> tuple[list[dict[str, Tensor]], list[Trained], int]:
    """Train and stop after every `piece` rounds, each time in fresh models, trainers and generators."""
    for stops in itertools.count():
        try:
            return *trained(names, seeds, recipe, digits, Stopping(folder, piece)), stops
        except Stopped:
            continue
    raise AssertionError


def same(a: list[dict[str, Tensor]], b: list[dict[str, Tensor]]) -> bool:
    return all(torch.equal(one[key], other[key]) for one, other in zip(a, b, strict=True) for key in one)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_goes_on_to_the_very_weights_it_would_have_had(
    name: str, digits: Data, tmp_path: Path
) -> None:
    expected, left = trained([name], [3], RECIPE, digits)
    # 719 images give 22 batches of 32: with 7 and 14 rounds an epoch's order is gone on in the middle
    found, pieces, stops = in_pieces([name], [3], RECIPE, digits, tmp_path, piece=3)
    rounds = sum(round(phase.share * RECIPE.steps) for phase in build(name).phases)
    assert stops == (rounds - 1) // 3 if rounds % 3 else rounds // 3
    assert same(found, expected)
    assert pieces[0].curves == left[0].curves
    assert pieces[0].updates == left[0].updates
    assert len(pieces[0].resumed) == stops
    assert left[0].resumed == []


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(steps=50, batch=32),  # beyond an epoch
        Recipe(steps=7, batch=32, ema=0.0),
        Recipe(steps=7, batch=32, update="alternating"),
        Recipe(steps=7, batch=32, update="separate", weight_decay=0.01),
        Recipe(steps=7, batch=32, precision="bf16"),
    ],
    ids=str,
)
def test_every_recipe_goes_on(recipe: Recipe, digits: Data, tmp_path: Path) -> None:
    expected, _ = trained(["ali"], [0], recipe, digits)
    found, _, stops = in_pieces(["ali"], [0], recipe, digits, tmp_path, piece=max(3, recipe.steps // 3))
    assert stops >= 2
    assert same(found, expected)


@pytest.mark.parametrize("name", ["ali", "gan-posthoc"])
def test_stacked_seeds_go_on_together(name: str, digits: Data, tmp_path: Path) -> None:
    names, seeds = [name] * 3, [0, 1, 2]
    expected, left = trained(names, seeds, RECIPE, digits)
    found, pieces, stops = in_pieces(names, seeds, RECIPE, digits, tmp_path, piece=4)
    assert stops >= 1
    assert same(found, expected)
    assert [one.curves for one in pieces] == [one.curves for one in left]


@pytest.mark.gpu
@pytest.mark.parametrize("execution", ["eager", "graphs"])
def test_cuda_goes_on(execution: Literal["eager", "graphs"], digits: Data, tmp_path: Path) -> None:
    recipe = Recipe(steps=20, batch=32, execution=execution)

    def weights(kept: Checkpoints | None) -> dict[str, Tensor]:
        model = build("ali")
        train_together([Member(model, 0)], digits.train, recipe, torch.device("cuda"), checkpoints=kept)
        return {key: tensor.cpu() for key, tensor in model.state_dict().items()}

    with pytest.raises(Stopped):
        weights(Stopping(tmp_path, 11))
    assert same([weights(Stopping(tmp_path, 100))], [weights(None)])


def test_streamed_data_go_on_within_an_epoch(digits: Data) -> None:
    def batches(resident: bool) -> Batches:
        return Batches(digits.train, 10, generator(0, "test"), resident)

    whole, begun, other = batches(True), batches(False), batches(False)
    expected = [whole.load(*whole.pick())[0] for _ in range(150)]
    for _ in range(90):  # beyond an epoch of 107 batches, and a chunk of 64
        begun.load(*begun.pick())
    other.rng.set_state(begun.rng.get_state())
    other.resume(begun.order, begun.position)
    assert all(torch.equal(other.load(*other.pick())[0], x) for x in expected[90:])


def test_moments_are_laid_out_as_their_parameters(digits: Data) -> None:
    # a fused optimiser reads both by their place in memory
    first, second = (
        Trainer(model, model.phases[0], RECIPE, digits.train, generator(0, "test"))
        for model in (build("ali"), build("ali"))
    )
    first.round()
    second.restore(first.state())
    for group, optimiser in second.optimisers.items():
        for a, b in zip(
            optimiser.param_groups[0]["params"],
            first.optimisers[group].param_groups[0]["params"],
            strict=True,
        ):
            for key in ("exp_avg", "exp_avg_sq"):
                assert optimiser.state[a][key].stride() == first.optimisers[group].state[b][key].stride()
    first.round()
    second.round()
    assert same([first.model.state_dict()], [second.model.state_dict()])


# ---------------------------------------------------------------------------------------------- checkpoints


def written(folder: Path, rounds: int = 4, belongs: str = "a") -> Checkpoints:
    kept = Checkpoints(folder, {"run": belongs}, every=0.0)
    for number in range(1, rounds + 1):
        kept.write(number, {"x": torch.tensor(float(number))}, {**BEGUN, "step": number})
    return kept


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    newest = written(tmp_path).newest()
    assert newest is not None
    assert (newest[0]["x"], newest[1].step) == (4.0, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"round-{n:09d}.safetensors" for n in (3, 4)]


def test_a_damaged_one_is_named_and_the_one_before_it_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = written(tmp_path)
    path = tmp_path / "round-000000004.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    newest = kept.newest()
    assert newest is not None
    assert newest[1].step == 3
    assert capsys.readouterr().err == f"alibench: {path} is damaged: what was kept before it is used\n"
    (tmp_path / "round-000000003.safetensors").write_bytes(b"")
    assert kept.newest() is None


def test_anothers_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path)
    assert Checkpoints(tmp_path, {"run": "b"}).newest() is None
    assert "is of another training" in capsys.readouterr().err


def test_they_take_no_more_than_their_share_of_the_time(tmp_path: Path) -> None:
    kept, start = Checkpoints(tmp_path, {}, every=1e-6), time.monotonic()
    kept.write(1, {"x": torch.zeros(10**6)}, {})
    assert kept.next >= start + kept.seconds / checkpoints.SHARE > start


def test_a_job_ends_on_request_and_goes_on(tmp_path: Path) -> None:
    (suite,) = loading.load("digits", ["steps=200", "metrics=['reconstruction']"], ["vae"], seeds=1)
    job, request, steps = Job("run", suite, "vae", 0, tmp_path, "cpu", ("test",)), Request(), [0]

    def report(run_id: str, passed: int) -> None:
        steps[0] += passed
        if steps[0] == 40:
            request.take(15, None)

    with pytest.raises(Stopped):
        execute([job], report, request)
    assert steps == [40]
    assert [path.name for path in (job.folder / "checkpoints").iterdir()] == ["round-000000040.safetensors"]
    told: list[int] = []
    assert execute([job], lambda run_id, passed: told.append(passed)) == {job.run_id: OK}
    assert told[0] == 40
    assert sum(told) == 200
    assert rows.read_origin(job.folder)["resumed"] == [{"phase": "game", "step": 40}]


def test_a_request_ends_an_evaluation_at_once_and_a_training_after_its_step() -> None:
    request = Request()
    request.take(15, None)  # in a training nothing is raised
    assert request.made
    with pytest.raises(Stopped), request.at_once():
        raise AssertionError
    other = Request()
    with pytest.raises(Stopped), other.at_once():
        other.take(15, None)


# ---------------------------------------------------------------------------------------------- folders


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    out = tmp_path_factory.mktemp("begun") / "out"
    with in_this_process():
        assert main([*COMMAND, "--out", str(out), "--resume"]) == 0  # begins what was not begun
    return out


COMMAND = ["run", "digits", "--models", "gan", "--seeds", "1", *TINY, "--set", 'metrics=["reconstruction"]']


def untouched(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def refused(arguments: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    before = untouched(folder.parent)
    assert main(arguments) == 2
    assert untouched(folder.parent) == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--set", "lr=0.01"], "digits.recipe.lr (0.002, now 0.01)"),
        (
            ["--set", "model.gan.options.regression=0.3"],
            "digits.model.gan.options.regression (None, now 0.3);",
        ),
        (["--set", "model.gan.recipe.batch=50"], "digits.model.gan.recipe.batch (None, now 50);"),
        (["--set", "first_seed=3"], "digits.first_seed (0, now 3)"),
        (
            ["--models", "ae"],
            "digits.models (['gan'], now ['ae']), models/gan.py (its code), models/ae.py (its code);",
        ),
        (["--scale", "0.5"], "digits.recipe.steps (4, now 2)"),
    ],
)
def test_what_changes_the_result_is_refused_by_name(
    changed: list[str], said: str, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused([*COMMAND, *changed, "--out", str(begun), "--resume"], begun, capsys)
    assert f"was begun with something else: {said}" in error
    assert error.endswith("; start over with --fresh, or resume it all the same with --force\n")


def changed_plan(out: Path, **changes: dict[str, Any] | str) -> None:
    plan = outputs.read_plan(out)
    for key, value in changes.items():
        plan[key] = plan[key] | value if isinstance(value, dict) else value
    stored.write(out, stored.PLAN, plan)


def test_other_code_libraries_data_and_devices_are_refused_by_name_and_can_be_forced(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    changed_plan(
        out, code={"models/gan.py": "0"}, versions={"torch": "1.0"}, data={"digits": "0" * 64}, device="cuda"
    )
    again = [*COMMAND, "--out", str(out), "--resume"]
    error = refused(again, out, capsys)
    assert f"torch ('1.0', now '{torch.__version__}')" in error
    assert "models/gan.py (its code)" in error
    assert "the data of suite 'digits'" in error
    assert "the device ('cuda', now 'cpu')" in error
    assert main([*again, "--force"]) == 0
    assert main(again) == 0  # from now on it is this code's


def test_the_code_that_counts_is_that_of_the_models_asked_for_and_of_all_that_they_share() -> None:
    ali, gan = (provenance.code(loading.load("digits", only=[name])) for name in ("ali", "gan-posthoc"))
    assert {"models/ali.py", "models/base.py", "models/layers.py", "models/tables/small.py"} <= ali.keys()
    assert {
        "benchmarks/training/loop.py",
        "benchmarks/training/gradients.py",
        "evaluation/metrics/svm.py",
    } <= ali.keys()
    assert ali.keys() ^ gan.keys() == {"models/ali.py", "models/gan.py", "models/gan_posthoc.py"}


def test_a_finished_folder_is_skipped_and_its_tables_are_made_again(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    before = untouched(out / "runs")
    (out / "tables.md").unlink()
    assert main([*COMMAND, "--out", str(out), "--resume"]) == 0
    assert untouched(out / "runs") == before
    assert (out / "tables.md").exists()
    assert "2 runs on cpu, 1 single-threaded at a time, 2 of them finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "lost"),
    [
        ("gone", ("run.json", "rows.json")),
        ("damaged", ("rows.json",)),
        ("damaged", ("run.json",)),
        ("gone", ("training.json",)),
        ("damaged", ("model.safetensors",)),
    ],
)
def test_what_is_lost_or_damaged_is_made_again(
    lost: tuple[str, ...], how: str, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    expected, weights = rows.read(out), (out / "runs" / "digits-gan-seed0" / "model.safetensors").read_bytes()
    names = sorted(path.name for path in (out / "runs" / "digits-gan-seed0").iterdir())
    for name in lost:
        path = out / "runs" / "digits-gan-seed0" / name
        path.unlink() if how == "gone" else path.write_bytes(path.read_bytes()[:-9])
    assert main([*COMMAND, "--out", str(out), "--resume"]) == 0
    quality = [frame[frame.kind != "timing"].reset_index(drop=True) for frame in (rows.read(out), expected)]
    pd.testing.assert_frame_equal(*quality, check_exact=True)
    assert (out / "runs" / "digits-gan-seed0" / "model.safetensors").read_bytes() == weights
    assert sorted(path.name for path in (out / "runs" / "digits-gan-seed0").iterdir()) == names
    if how == "damaged":
        assert str(out / "runs" / "digits-gan-seed0" / lost[0]) in capsys.readouterr().err


def test_more_seeds_go_on_with_a_finished_folder_and_fewer_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that are there stay as they are; what stands for all seeds is made again: its rows, and tables."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    words = [*COMMAND, "--set", 'metrics=["fidelity"]', "--out"]
    with in_this_process():
        assert main([*words, str(out)]) == 0
        kept = untouched(out / "runs" / "digits-gan-seed0")
        assert main([*words, str(out), "--seeds", "3", "--resume"]) == 0
        assert main([*words, str(whole), "--seeds", "3"]) == 0
    assert untouched(out / "runs" / "digits-gan-seed0") == kept
    ours, theirs = rows.read(out), rows.read(whole)
    assert ours.run_id.tolist() == theirs.run_id.tolist()
    quality = [frame[frame.kind == "quality"].reset_index(drop=True) for frame in (ours, theirs)]
    pd.testing.assert_frame_equal(*quality, check_exact=True)
    assert set(ours[ours.title == "noise"].seed) == {0, 1, 2}
    assert outputs.read_plan(out)["suites"]["digits"]["seeds"] == 3
    capsys.readouterr()
    assert "digits.seeds (3, now 1)" in refused([*words, str(out), "--resume"], out, capsys)


def test_fresh_starts_over_beside(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = untouched(begun)
    (begun.with_name("out-2") / "runs").mkdir(parents=True)
    (begun.with_name("out-2") / "mine").touch()
    assert main([*COMMAND, "--out", str(begun), "--fresh"]) == 0
    beside = begun.with_name("out-3")
    assert f"was begun already: this is {beside}" in capsys.readouterr().err
    assert rows.read(beside).metric.tolist() == rows.read(begun).metric.tolist()
    assert untouched(begun) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resume"], "--resume needs --out DIR, the folder to resume"),
        (["--out", "{begun}", "--resume", "--fresh"], "--resume and --fresh exclude each other"),
        (["--out", "{begun}", "--force"], "--force goes with --resume"),
        (
            ["--out", "{begun}"],
            "already holds files of a run: resume it with --resume, or start over next to it with --fresh",
        ),
        (["--out", "{begun}/runs", "--resume"], "already holds files, of no run: name a new folder"),
        (
            ["--out", "{begun}", "--resume", "--retries", "-1"],
            "invalid value for '--retries': -1 is not in the range x>=0",
        ),
        (
            ["--out", "{begun}", "--resume", "--checkpoint-every", "nan"],
            "--checkpoint-every nan: seconds, 0 or more",
        ),
    ],
)
def test_bad_ways_to_go_on_are_one_line(
    options: list[str], said: str, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused([*COMMAND, *(option.format(begun=begun) for option in options)], begun, capsys)


def test_a_second_writer_is_refused(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with files.locked(begun / outputs.LOCK):
        error = refused([*COMMAND, "--out", str(begun), "--resume"], begun, capsys)
    assert "is being written to by another process: wait for it or name another folder" in error
    assert main([*COMMAND, "--out", str(begun), "--resume"]) == 0


def test_too_little_space_is_said_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # a terabyte: each of ten thousand runs with a hundred megabytes of weights
    large = ["--seeds", "10000", "--set", "latent=20000"]
    error = refused([*COMMAND, *large, "--out", str(tmp_path / "out")], tmp_path / "out", capsys)
    assert "GB are free: make room or name a folder on another disk" in error


def cuda_is_full(trainer: Trainer) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def cpu_is_full(trainer: Trainer) -> None:
    torch.empty(2**55)


@pytest.mark.parametrize("full", [cuda_is_full, cpu_is_full])
def test_no_memory_on_the_device_gives_a_batch_to_try(
    full: Callable[[Trainer], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (suite,) = loading.load("digits", ["steps=5"], ["ali"], seeds=1)
    monkeypatch.setattr(Trainer, "round", full)
    with pytest.raises(
        Failed, match=r"^no memory is left on cpu with batches of 100: try --set batch=50, in a new folder"
    ):
        execute([Job("run", suite, "ali", 0, tmp_path, "cpu", ("test",))], lambda run_id, steps: None)


def test_no_memory_to_measure_keeps_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (suite,) = loading.load("digits", ["steps=5"], ["ali"], seeds=1)
    job = Job("run", suite, "ali", 0, tmp_path, "cpu", ("test",))
    with monkeypatch.context() as patch:
        patch.setattr(ALI, "encode", lambda *args, **named: torch.empty(2**55))
        with pytest.raises(Failed, match=r"^no memory is left on cpu to measure: free some and resume; the"):
            execute([job], lambda run_id, steps: None)
    monkeypatch.setattr(Trainer, "round", cuda_is_full)  # nothing is trained again
    assert execute([job], lambda run_id, steps: None) == {job.run_id: OK}


def test_a_command_to_go_on_can_be_typed(tmp_path: Path) -> None:
    typed = "alibench run 'my suite.toml' --out old --fresh --models ali --force --out=older"
    words = tuple(shlex.split(typed))
    assert outputs.Output(Path("new folder"), words).resume == (
        "alibench run 'my suite.toml' --models ali --out 'new folder' --resume"
    )


# ---------------------------------------------------------------------------------------------- use


def test_a_run_is_loaded_and_used_without_its_data(
    begun: Path, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "DATASETS", {})  # the dataset is not there any more
    model, rng = load_run(begun), torch.Generator().manual_seed(0)
    x = model.sample(16, rng)
    assert x.shape == (16, 1, 8, 8)
    assert 0 <= x.min() <= x.max() <= 1
    assert model.encode(x).shape == (16, 8)
    assert model.reconstruct(x).shape == x.shape
    assert not x.requires_grad
    assert not model.training
    assert same([load_run(begun / "runs" / "digits-gan-seed0").state_dict()], [model.state_dict()])
    images = as_float(digits.test.x)
    error = float((model.reconstruct(images) - images).square().mean())
    frame = rows.read(begun)
    (expected,) = frame[(frame.metric == "reconstruction_error") & (frame.model == "gan")].value[:1]
    assert error == pytest.approx(expected, rel=1e-5)


def test_a_folder_that_is_no_run_is_named(begun: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    for seed in (0, 1):
        run = two / "runs" / f"digits-gan-seed{seed}"
        shutil.copytree(begun / "runs" / "digits-gan-seed0", run)
        stored.write(
            run, stored.ORIGIN, {**stored.read_origin(run, named=False), "run_id": run.name, "seed": seed}
        )
    with pytest.raises(
        BadInput, match=r"two holds 2 trained runs: name one of them by .*RUN; there are: digits-gan-seed0, "
    ):
        load_run(two)
    with pytest.raises(BadInput, match="holds no runs"):
        load_run(tmp_path / "nothing")
    weights = two / "runs" / "digits-gan-seed1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(BadInput, match=r"is damaged: its weights are not those that run\.json names"):
        load_run(weights.parent)


def test_a_folder_of_an_earlier_version_is_refused_in_one_clear_line(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    plan = outputs.read_plan(out)
    code = {name.replace("benchmarks/training/", "benchmarks/"): sha for name, sha in plan["code"].items()}
    stored.write(out, stored.PLAN, plan | {"code": code})
    again = [*COMMAND, "--out", str(out), "--resume"]
    before = "was begun by an earlier version of alibench (before 0.2): finish it with that version"
    error = refused(again, out, capsys)
    assert error == (
        f"alibench: --out {out} {before}, start over with --fresh, or resume it all the same with --force\n"
    )
    assert main([*again, "--force"]) == 0
    assert main(again) == 0
