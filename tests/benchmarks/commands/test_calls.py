"""The suite from Python: the same runs, rows and refusals as by the command line."""

import sys
import traceback
import types
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import alibench
from alibench import BadInput
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import classes, loading
from alibench.benchmarks.training.recipe import Recipe
from alibench.models import REGISTRY
from alibench.models.ali import ALI
from alibench.models.vae import VAE
from alibench.results import rows, stored
from tests.conftest import in_this_process

WORDS = ["run", "digits", "--models", "ali", "vae", "--seeds", "1", "--device", "cpu"]
SETTINGS = {"evaluation.draws": 1, "evaluation.samples": 300}
METRICS = ["reconstruction", "fidelity"]


class Mine(ALI):
    """ALI under another name."""

    name, title, source = "mine", "mine", "a test"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> alibench.Result:
    """Return what a call left: two models of the suite and one of this file, one seed."""
    out = tmp_path_factory.mktemp("call") / "out"
    models = ["ali", VAE, Mine]
    return alibench.run("digits", models, 1, 6, out=out, metrics=METRICS, settings=SETTINGS, device="cpu")


def numbers(frame: pd.DataFrame, models: tuple[str, ...] = ("ali", "vae")) -> pd.DataFrame:
    """Return the rows that another run of the same must have, in order."""
    kept = frame[(frame.kind != "timing") & frame.model.isin(models)]
    return kept.drop(columns=["commit", "command"], errors="ignore").reset_index(drop=True)


def test_a_call_and_the_command_have_equal_rows(result: alibench.Result, tmp_path: Path) -> None:
    words = [*WORDS, "--set", "steps=6", "--set", 'metrics=["reconstruction","fidelity"]']
    words += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    with in_this_process():
        assert main([*words, "--out", str(tmp_path / "out")]) == 0
    ours, theirs = numbers(result.rows), numbers(rows.read(tmp_path / "out"))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert len(ours) > 20


def test_a_result_has_outcomes_rows_tables_report_and_models(result: alibench.Result) -> None:
    assert result.outcomes["digits-mine-seed0"] == "ok"
    assert list(result.tables["digits-reconstruction"].index)[:2] == ["ALI", "VAE"]
    assert result.report.read_text().count("mine") > 1
    assert "<table" in result._repr_html_()

    # the class of this file is known while its run is loaded, and not afterwards
    model = result.load("mine", seed=0)
    assert type(model) is Mine
    assert model.sample(3, torch.Generator().manual_seed(0)).shape == (3, 1, 8, 8)
    assert "mine" not in REGISTRY
    again = alibench.load_run(result.out / "runs" / "digits-mine-seed0", models=[Mine])
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert "mine" not in REGISTRY
    with pytest.raises(BadInput, match=r"no run of mine, seed 1 is in .*, which has ali, seed 0"):
        result.load("mine", seed=1)


def test_a_class_that_acts_like_alis_has_its_numbers(result: alibench.Result) -> None:
    measured = result.rows[(result.rows.kind == "quality") & (result.rows.status == "ok")]
    ours, theirs = (measured[measured.model == name].value.to_numpy() for name in ("mine", "ali"))
    np.testing.assert_array_equal(ours, theirs)


def test_the_command_that_is_kept_says_the_call(result: alibench.Result) -> None:
    command = stored.read_plan(result.out)["command"]
    assert command[:6] == ["alibench", "run", "digits", "--models", "ali", "vae"]
    assert "recipe.steps=6" in command


def test_a_call_resumes_with_the_same_class_alone(
    result: alibench.Result, capsys: pytest.CaptureFixture[str]
) -> None:
    def again(kind: type[ALI]) -> alibench.Result:
        more: dict[str, Any] = {"metrics": METRICS, "settings": SETTINGS, "device": "cpu", "resume": True}
        return alibench.run("digits", ["ali", "vae", kind], 1, 6, out=result.out, **more)

    before = result.rows
    pd.testing.assert_frame_equal(again(Mine).rows, before)
    assert "4 of them finished already" in capsys.readouterr().out
    changed = type("Mine", (Mine,), {"name": "mine", "conclude": lambda self, batches, rng: None})
    with pytest.raises(BadInput, match="class of mine"):
        again(changed)


def test_a_training_has_the_weights_of_a_run(result: alibench.Result) -> None:
    for name in ("vae", Mine):
        model = alibench.train(name, "digits", {"steps": 6}, seed=0, device="cpu")
        run = result.load("mine" if name is Mine else "vae").state_dict()
        assert all(torch.equal(tensor, run[key]) for key, tensor in model.state_dict().items())
        assert not model.training


def test_a_model_that_was_built_is_trained_in_place() -> None:
    torch_before = torch.get_num_threads()
    (suite,) = loading.load("digits")
    model = suite.build("vae", 0)
    records = list[Any]()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    trained = alibench.train(model, "digits", Recipe(steps=3), log=records.append, device="cpu")
    assert trained is model
    assert any(not torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert records[-1]["step"] == 3
    assert torch.get_num_threads() == torch_before


def test_arrays_become_a_suite_with_a_class_beside_the_suites_models(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    x, y = rng.randint(256, size=(120, 8, 8), dtype=np.uint8), np.arange(120) % 2
    result = alibench.run(
        data=(x, y), models=["vae", Mine], seeds=1, steps=3, out=tmp_path / "out", metrics=["reconstruction"]
    )
    table = next(frame for name, frame in result.tables.items() if name.endswith("-reconstruction"))
    assert {"VAE", "mine"} <= {*table.index}
    measured = alibench.evaluate(result.load("mine"), (x, y), ["reconstruction"])
    row = result.rows[(result.rows.model == "mine") & (result.rows.metric == "reconstruction_error")]
    assert row.value.iloc[0] == measured[measured.metric == "reconstruction_error"].value.iloc[0]


def test_an_object_and_an_array_are_measured_like_their_samples() -> None:
    made = np.random.RandomState(0).rand(355, 1, 8, 8).astype(np.float32)

    class Drawer:
        def sample(self, n: int) -> Tensor:
            return torch.from_numpy(made[:n])

    of_object, of_array = (alibench.evaluate(thing, "digits", ["fidelity"]) for thing in (Drawer(), made))
    fid = [float(frame[frame.metric == "fid"].value.iloc[0]) for frame in (of_object, of_array)]
    assert fid[0] == pytest.approx(fid[1], rel=1e-5)  # the same samples in another order
    assert min(fid) > 5


def test_a_fingerprint_changes_with_what_the_class_does_and_with_nothing_else() -> None:
    def written(text: str) -> type:
        module = types.ModuleType("written")
        exec(text, vars(module))
        return vars(module)["Model"]  # type: ignore[no-any-return]

    body = "def helper(x):\n    return x + {add}\n{gap}"
    body += "class Model:\n    def forward(self, x):\n        return helper(x)"
    first = classes.fingerprint(written(body.format(add=1, gap="")))
    assert classes.fingerprint(written(body.format(add=1, gap="\n\n\n"))) == first
    assert classes.fingerprint(written(body.format(add=2, gap=""))) != first

    # an adapter's networks are the user's, too; so are an object's weights
    def encoder(shape: tuple[int, ...], latent: int, hidden: int = 3) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(hidden, latent))

    def model(make: Any) -> type:
        return alibench.adversarial_model("m", encoder=make, decoder=encoder, discriminator=encoder)

    once = classes.fingerprint(model(encoder))
    assert classes.fingerprint(model(encoder)) == once
    assert classes.fingerprint(model(lambda shape, latent: encoder(shape, latent, 4))) != once
    assert classes.fingerprint(model(partial(encoder, hidden=4))) != once
    layer = torch.nn.Linear(2, 2)
    before = classes.fingerprint(layer)
    torch.nn.init.zeros_(layer.weight)
    assert classes.fingerprint(layer) != before


def test_a_fingerprint_ends_whatever_a_class_refers_to() -> None:
    endless: list[Any] = []
    endless.append(endless)

    class Holder:
        held = endless

        def first(self) -> Any:
            return later() if endless else None

    before = classes.fingerprint(Holder)  # `later` has no value yet

    def later() -> int:
        return 1

    assert classes.fingerprint(Holder) != before


def test_several_processes_take_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="torchrun takes the command"):
        alibench.run("digits")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name a suite"),
        ({"suite": "digit"}, "did you mean 'digits'"),
        ({"suite": "digits", "models": ["aly"]}, "did you mean"),
        ({"suite": "digits", "models": [3]}, "a int is not a model"),
        ({"suite": "digits", "models": [type("ali", (ALI,), {"name": "ali"})]}, "the name 'ali' is taken"),
        ({"suite": "digits", "seeds": 0}, "seeds"),
        ({"suite": "digits", "steps": -1}, "steps"),
        ({"suite": "digits", "setting": {}}, "no argument 'setting'; did you mean 'settings'"),
        ({"suite": "digits", "seed": 1}, "no argument 'seed'; did you mean 'seeds'"),
        ({"suite": "digits", "models": "aly"}, "did you mean 'ali'"),
        ({"suite": (np.zeros((9, 3)), np.zeros(9))}, "give data by data="),
        ({"suite": "digits", "resume": True, "fresh": True}, "exclude each other"),
        ({"suite": "digits", "settings": {"recipe.lr": object()}}, "a object is not a number, text or list"),
        ({"suite": "digits", "data": np.zeros((9, 3))}, "holds"),
        ({"data": "ring8"}, "no suite is made for 'ring8' alone"),
        ({"suite": "digits", "out": "a\0b"}, "zero byte"),
    ],
)
def test_a_call_that_cannot_be_carried_out_writes_nothing(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--with", "words of its own"])
    arguments.setdefault("out", tmp_path / "out")
    with pytest.raises(BadInput, match=message) as problem:
        alibench.run(**arguments)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "out").exists()
    assert len(traceback.extract_tb(problem.tb)) < 4  # no way through the project


def test_a_training_of_an_unknown_model_is_refused() -> None:
    with pytest.raises(BadInput, match="unknown model 'alli'; did you mean 'ali'"):
        alibench.train("alli", "digits")
