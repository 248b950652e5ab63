"""The command line as a user meets it: from any folder, repeatable, evaluated again."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import compute, devices, loading
from alibench.benchmarks.training import counting
from alibench.evaluation.metrics import METRICS
from alibench.evaluation.pictures import read as read_arrays
from alibench.models import REGISTRY
from alibench.results import rows, stored
from tests.benchmarks.data.folders import pictures
from tests.conftest import TINY, in_this_process, sets

ROOT = Path(__file__).parents[3]


# those whose data come with the project; `quick` includes two more
@pytest.mark.parametrize(
    "suite",
    [
        "quick",
        pytest.param("alice_toy", marks=pytest.mark.commands),
        pytest.param("grid25_paper", marks=[pytest.mark.commands, pytest.mark.whole]),
        pytest.param("grid25", marks=pytest.mark.slow),
    ],
)
def test_a_tiny_run_of_each_suite(
    suite: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if suite == "quick":
        out = request.getfixturevalue("quick")
        told = (out.parent / "done").read_text()
    else:
        out = tmp_path / "out"
        with in_this_process():
            assert main(["run", suite, "--seeds", "1", *TINY, "--out", str(out)]) == 0
        told = capsys.readouterr().out
    frame = pd.read_csv(out / "rows.csv")
    included = loading.load(suite)
    for part in included:
        own = frame[frame.suite == part.name]
        assert set(part.models) <= set(own.model)
        timed = {"train_rate", "sample_rate", "encode_rate"} if "throughput" in part.metrics else set()
        assert set(own[own.kind == "timing"].metric) >= timed
        for model in part.models:
            assert (out / "figures" / f"{part.name}-{model}.png").stat().st_size > 10_000
        for name in ("quality", "cost", *(["throughput"] if timed else [])):
            for kind in ("md", "csv", "tex"):
                assert (out / "tables" / f"{part.name}-{name}.{kind}").stat().st_size > 100
        titles = [part.entry(model).title for model in part.models]
        assert all(title in told for title in titles)
    assert set(frame[frame.status == "ok"].value.isna()) == {False}
    assert not list((ROOT / "results" / "runs").glob("out*"))


IMAGES = {
    "cifar10": (32, 3),
    "svhn": (32, 3),
    "celeba": (64, 3),
    "tiny_imagenet": (64, 3),
    "mnist_bigan": (28, 1),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "suite",
    [
        pytest.param(
            s, marks=[pytest.mark.commands, pytest.mark.whole] if s == "cifar10" else pytest.mark.slow
        )
        for s in IMAGES
    ],
)
def test_the_papers_networks_run_on_a_folder_of_pictures(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "data"))
    folder = pictures(tmp_path / "mine", *IMAGES[suite])
    settings = ["batch=6", "statistics=1", "evaluation.draws=1", "evaluation.labels=20"]
    settings += ["evaluation.seconds=0.01", *["model.cali.recipe.batch=6"] * (suite == "celeba")]
    settings += ["evaluation.extractor=classifier"]  # there is none for these pictures: no download is tried
    tiny = ["--seeds", "1", "--scale", "1e-9", *sets(*settings)]
    out = tmp_path / "out"
    words = ["run", suite, "--data", f"folder:{folder}", "--device", "cpu", *tiny, "--out", str(out)]
    assert main(words) == 0
    frame = rows.read(out)
    (part,) = loading.load(suite, dataset=f"folder:{folder}", overrides=settings)
    for model in part.models:
        own = frame[frame.model == model]
        assert set(own.dataset) == {"mine"}
        assert own[(own.metric == "updates_decoder")].value.tolist() == [1]
        for metric in part.metrics:
            first = METRICS[metric].COLUMNS[0].metric
            asked = own[own.metric == first]
            assert len(asked)
            assert (asked.value.notna() | (asked.status == "not applicable")).all()
    run = rows.read_origin(out / "runs" / f"{suite}-{part.models[0]}-seed0")
    assert run["data_sha256"] == part.load().sha256
    assert run["data_splits"] == part.load().splits


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished tiny run."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with in_this_process():
        assert (
            main(["run", "digits", "--models", "ali", "gan", "--seeds", "2", *TINY, "--out", str(out)]) == 0
        )
    return out


@pytest.mark.commands
@pytest.mark.usefixtures("here")
def test_a_trained_model_is_evaluated_again_without_training(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    out = tmp_path / "again"
    assert main(["evaluate", str(finished), "--device", "cpu", "--out", str(out)]) == 0
    first, second = rows.read(finished), rows.read(out)
    keys = ["run_id", "model", "metric", "protocol", "draw", "seed", "step", "weights"]
    quality = [
        frame[frame.kind == "quality"].sort_values(keys).reset_index(drop=True) for frame in (first, second)
    ]
    pd.testing.assert_frame_equal(*quality, check_exact=True)
    assert set(second[second.kind != "quality"].metric) == set()
    assert "digits-overview" in capsys.readouterr().out
    assert (out / "figures" / "digits-ali.png").stat().st_size > 10_000
    for run in ("digits-ali-seed0", "digits-gan-seed1"):
        told = [rows.read_origin(folder / "runs" / run) for folder in (finished, out)]
        assert told[0]["weights_sha256"] == told[1]["weights_sha256"] is not None
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}


@pytest.mark.commands
@pytest.mark.usefixtures("here")
def test_one_run_by_other_metrics_and_settings(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "one", tmp_path / "run"
    shutil.copytree(finished / "runs" / "digits-ali-seed1", run)
    origin = stored.read_origin(run, named=False)
    origin["config"]["evaluation"]["newton_steps"] = 50  # as an earlier version had it
    stored.write(run, stored.ORIGIN, origin)
    options = ["--metrics", "neighbours", "reconstruction"]
    options += sets("evaluation.labels=200", "evaluation.draws=3")
    assert main(["evaluate", str(run), *options, "--device", "cpu", "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert "settings of an earlier version are left out: newton_steps" in captured.err
    told = json.loads(captured.out)
    assert told["runs"] == {"digits-ali-seed1": "ok", "digits-references": "ok"}
    assert told["tables"]["digits-neighbours"][0]["model"] == "ALI"
    frame = rows.read(out)
    own = frame[(frame.model == "ali") & (frame.metric == "nn_accuracy")]
    assert own.draw.tolist() == [0, 1, 2]
    assert (set(own.labels), set(own.seed)) == ({200}, {1})
    assert set(frame.metric) & {"kid", "svm_accuracy"} == set()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{empty}"], "holds no runs: name a folder that 'alibench run --out' made"),
        (["{finished}", "--metrics", "fidelty"], "unknown metric 'fidelty'; did you mean 'fidelity'?"),
        (
            ["{finished}", "--metrics", "modes"],
            "metric 'modes' cannot be measured: dataset 'digits' is not a known mixture",
        ),
        (["{finished}", "--set", "recipe.lr=1"], "a trained model takes settings of its evaluation alone"),
        (
            ["{finished}", "--set", "evaluation.labels=7"],
            "evaluation.labels = 7: it must be between 50 (5 a class)",
        ),
        (["{finished}", "--set", "evaluation.extractor=resnet"], "unknown extractor 'resnet'"),
        (["{damaged}"], "is damaged: its weights are not those that run.json names; run this run again"),
    ],
)
def test_an_evaluation_that_cannot_be_is_one_line_and_nothing_written(
    arguments: list[str], told: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    damaged = tmp_path / "damaged"
    shutil.copytree(finished / "runs" / "digits-ali-seed0", damaged)
    raw = bytearray((damaged / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(raw)
    places = {"empty": tmp_path / "empty", "finished": finished, "damaged": damaged}
    out = tmp_path / "out"
    arguments = [argument.format(**places) for argument in arguments]
    assert main(["evaluate", *arguments, "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message
    assert not out.exists()


@pytest.mark.commands
def test_the_same_command_gives_the_same_rows_to_the_last_digit(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"  # by worker processes, and the first in the tests' own
    assert main(["run", "digits", "--models", "ali", "gan", "--seeds", "2", *TINY, "--out", str(again)]) == 0
    first, second = (rows.read(out) for out in (finished, again))
    assert len(first) > 100
    # rows that hold seconds or rates are marked as timing, and are all that may differ
    pd.testing.assert_frame_equal(
        first[first.kind != "timing"], second[second.kind != "timing"], check_exact=True
    )
    weights = [
        load_file(out / "runs" / "digits-ali-seed1" / "model.safetensors") for out in (finished, again)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.commands
@pytest.mark.whole
@pytest.mark.usefixtures("here")
def test_a_seed_gives_the_same_rows_whoever_runs_beside_it(finished: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    assert main(["run", "digits", "--models", "gan", "--seeds", "1", *TINY, "--out", str(alone)]) == 0
    keys = ["run_id", "metric", "protocol", "draw", "model"]
    own = [
        frame[(frame.run_id == "digits-gan-seed0") & (frame.kind != "timing")]
        for frame in map(rows.read, (alone, finished))
    ]
    one, two = (frame[[*keys, "value"]].reset_index(drop=True) for frame in own)
    assert len(one) > 10
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_every_run_says_where_its_numbers_come_from(finished: Path) -> None:
    folders = list((finished / "runs").iterdir())
    assert len(folders) == 4 + 1 + 2
    for folder in folders:
        run = rows.read_origin(folder)
        assert run["command"].startswith("alibench")
        assert run["versions"]["torch"] == torch.__version__
        assert len(run["data_sha256"]) == 64
        assert (
            run["config"]["recipe"] | {"steps": 4, "ema": 0.999, "batch": 100} == run["config"]["recipe"]
        )  # defaults too
        assert run["config"]["entry_recipe"]["steps"] >= 3
        if (folder / "model.safetensors").exists():
            assert len(run["weights_sha256"]) == 64


def test_table_makes_the_same_tables_again_without_training(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in (finished / "tables").iterdir()}
    csv = (finished / "rows.csv").read_bytes()
    for path in before:
        path.unlink()
    (finished / "rows.csv").unlink()
    assert main(["table", str(finished)]) == 0
    assert {path: path.read_bytes() for path in (finished / "tables").iterdir()} == before
    assert (finished / "rows.csv").read_bytes() == csv
    assert "GAN + regression" in capsys.readouterr().out


def test_gan_at_alis_compute_takes_as_many_operations(finished: Path) -> None:
    frame = rows.read(finished)
    flops = frame[frame.metric == "train_gflop"].groupby("model").value.first()
    assert flops["gan"] == pytest.approx(flops["ali"], rel=0.15)  # in whole steps, and here there are four
    suite = loading.load("digits")[0]
    assert compute.gflop(suite, "gan", compute.recipe_of(suite, "gan")) == pytest.approx(
        compute.gflop(suite, "ali", suite.recipe_of("ali")), rel=1e-3
    )


def test_flops_are_those_of_the_matrix_products() -> None:
    suite = loading.load("grid25_easy")[0]
    # VAE on the plane, batch 100, products of 2 m n k: forward, gradients of weights, gradients of inputs but
    # the first
    encoder, decoder = (
        [(2, 128), (128, 128), (128, 128), (128, 4)],
        [(2, 128), (128, 128), (128, 128), (128, 2)],
    )
    products = sum(a * b for a, b in encoder + decoder)
    expected = 2 * 100 * (3 * products - 2 * 128)
    assert counting.flops_a_round(suite.build("vae", 0), suite.recipe, suite.load().train) == [expected]


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_models_operations_can_be_counted(name: str) -> None:
    suite = loading.load("digits", ["batch=8"])[0]
    model = suite.build(name, 0)
    counts = counting.flops_a_round(model, suite.recipe, suite.load().train, suite.load().train)
    # every group of players passes its own networks forward and backward: at least two products of each
    # weight and sample
    for phase, counted in zip(model.phases, counts, strict=True):
        networks = [
            getattr(model, part)
            for group in phase.round
            for player in group
            for part in model.players[player]
        ]
        assert counted >= 2 * 2 * 8 * sum(
            p.numel() for part in networks for p in part.parameters() if p.dim() == 2
        )


@pytest.mark.commands
def test_python_m_benchmarks_is_the_same() -> None:
    command = [sys.executable, "-m", "alibench", "run", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("alibench: unknown suite 'nothing'")


@pytest.mark.commands
@pytest.mark.usefixtures("here")
def test_odd_sizes_and_one_class_run_with_the_metrics_that_they_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALIBENCH_DATA", str(tmp_path / "data"))
    x = np.random.RandomState(0).randint(256, size=(40, 7, 5), dtype=np.uint8)
    np.savez(tmp_path / "odd.npz", x=x, y=np.zeros(40, int))
    words = ["run", "digits", "--data", f"npz:{tmp_path / 'odd.npz'}", "--models", "ali", "ae"]
    words += ["--seeds", "1", *TINY, *sets("batch=8", 'metrics=["reconstruction","fidelity","svm"]')]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "metric 'fidelity' is left out: dataset 'odd' has no feature extractor" in said
    assert "metric 'svm' is left out: dataset 'odd' has no two classes" in said
    frame = rows.read(tmp_path / "out")
    assert set(frame.dataset) == {"odd"}
    assert frame[(frame.model == "ae") & (frame.metric == "reconstruction_error")].value.notna().any()
    ali, ae = (read_arrays(tmp_path / "out" / "runs" / f"digits-{name}-seed0") for name in ("ali", "ae"))
    assert ali["samples"].shape[1:] == (1, 7, 5)
    assert "samples" not in ae


@pytest.mark.commands
@pytest.mark.usefixtures("here")
def test_a_diverged_run_ends_alone_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["run", "digits", "--models", "ali", "vae", "--seeds", "1", *TINY]
    assert main([*words, *sets("model.ali.recipe.lr=1e30"), "--out", str(out)]) == 3
    frame = rows.read(out)
    ali, vae = (
        frame[(frame.model == name) & (frame.run_id == f"digits-{name}-seed0")] for name in ("ali", "vae")
    )
    assert set(ali.status) == {"diverged"}
    assert ali.value.isna().all()
    assert ali.reason.str.contains("not finite").all()
    assert {"fid", "svm_accuracy", "reconstruction_error"} <= set(ali.metric)
    assert "diverged" not in set(vae.status)
    output = capsys.readouterr().out
    assert "digits-ali-seed0 diverged: not finite" in output
    assert "(1 diverged)" in (out / "tables" / "digits-quality.md").read_text()
    assert main(["table", str(out)]) == 0


@pytest.mark.commands
@pytest.mark.usefixtures("here")
def test_tuning_gives_every_model_the_same_trials_on_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    space = sets("search.seeds=2", "search.lr=[1e-3]", "search.beta1=[0.5,0.9]")
    space += sets('search.judged_by=["reconstruction_error","high_quality"]')
    words = ["tune", "grid25_easy", "--models", "ali", "vae", *TINY, *space, "--out", str(out), "--json"]
    assert main(words) == 0
    trials = pd.read_csv(out / "grid25_easy.csv")
    told = json.loads(capsys.readouterr().out)
    assert [line["model"] for line in told["trials"]["grid25_easy"]] == trials.model.tolist()
    assert set(told["runs"].values()) == {"ok"}
    assert sorted(zip(trials.model, trials.lr, trials.beta1, strict=True)) == [
        (model, 1e-3, beta1) for model in ("ali", "vae") for beta1 in (0.5, 0.9)
    ]
    frame = rows.read(out)
    assert set(frame.split.dropna()) <= {"validation", ""}
    assert set(frame.seed) == {1000, 1001}


@pytest.mark.commands
@pytest.mark.skipif(not Path("/proc").exists(), reason="reads the process table in /proc")
def test_a_killed_command_leaves_no_worker_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "alibench", "run", "digits", "--models", "vae", "--seeds", "2", *TINY]
    command += [*sets("steps=10000000"), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT) as running:
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "out" / "runs").glob("*"))) < 1 and time.monotonic() < deadline:
            time.sleep(0.2)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        assert children
        running.kill()
        running.wait()
        while (alive := [c for c in children if is_running(c)]) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert not alive


def is_running(process: str) -> bool:
    """Whether a process is there and no zombie."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_imitated_bf16_is_said_aloud(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suites = loading.load("digits", ["recipe.precision=bf16"])
    for native, said in (
        (True, ""),
        (False, "alibench: 'cpu' imitates bf16, several times slower than fp32"),
    ):
        monkeypatch.setattr(devices, "bf16_is_native", lambda device, native=native: native)
        devices.resolved(suites, torch.device("cpu"))
        assert capsys.readouterr().err.startswith(said)
