"""`alibench export`: weights that load bit for bit, programs that compute the same, code that runs."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from alibench import load_run
from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading, plugins
from alibench.benchmarks.running import exporting, programs, trained
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.models.base import Model
from alibench.models.layers import Row, Stack, Style
from alibench.results import model_cards, stored
from tests.benchmarks.running.test_sampling import untrained
from tests.conftest import MODELS, build

ROOT = Path(__file__).parents[3]
# an encoder whose way depends on its input, an encoder that gives another code each time
PLUGIN = """
import torch
from torch import nn
from alibench.models.bigan import BiGAN
from alibench.models.networks import Networks

class Wrapped(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

class Branching(Wrapped):
    def forward(self, x):
        return self.encoder(x) if x.mean() > 0.3 else -self.encoder(x)

class Drawing(Wrapped):
    def forward(self, x):
        return self.encoder(x) + torch.randn(len(x), 1)

class BranchingBiGAN(BiGAN):
    name, title, source, wrapped = "branching", "BiGAN, two ways", "me 2026", Branching
    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.encoder = self.wrapped(self.encoder)

class DrawingBiGAN(BranchingBiGAN):
    name, title, source, wrapped = "drawing", "BiGAN, drawing", "me 2026", Drawing
"""


@pytest.fixture(scope="module")
def runs(quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs: trained ALI on digits and on points, and models with first weights."""
    place = tmp_path_factory.mktemp("made") / "runs"
    for name in ("digits-ali-seed0", "grid25_easy-ali-seed0"):
        shutil.copytree(quick / "runs" / name, place / name)
    for name in ("cali", "ssgan", "vae", "ae"):
        untrained(place / "digits-ali-seed0", name, place / f"digits-{name}-seed0")
    return place


@pytest.fixture
def users(runs: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a folder with a plug-in, and a run of each of its models."""
    with plugins.meanwhile():
        (tmp_path / "mine.py").write_text(PLUGIN)
        plugins.load(tmp_path / "mine.py")
        for name in ("branching", "drawing"):
            untrained(runs / "digits-ali-seed0", name, tmp_path / name)
        yield tmp_path


def blocks(folder: Path) -> list[str]:
    """Return the code of an export's README."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def same(a: Model, b: Model) -> bool:
    """Whether two models hold equal values by the same names."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def card_of(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / "card.json").read_text())
    return card


def used(folder: Path, monkeypatch: pytest.MonkeyPatch, block: int = 0, **names: Any) -> dict[str, Any]:
    """Return what names stand for after a block of the README ran in its folder."""
    monkeypatch.chdir(folder)
    exec(blocks(folder)[block], names)
    return names


# -------------------- weights


def test_weights_fill_fresh_networks_bit_for_bit(runs: Path, tmp_path: Path) -> None:
    model = load_run(runs / "digits-ali-seed0")
    assert model.export(tmp_path / "made") == tmp_path / "made"
    origin = trained.only(runs / "digits-ali-seed0").origin
    fresh = loading.of_run(origin).build("ali", 7).eval()
    x = torch.rand(9, 1, 8, 8)
    assert not torch.equal(fresh.encode(x), model.encode(x))

    for name in ("encoder", "decoder", "discriminator"):
        getattr(fresh, name).load_state_dict(load_file(tmp_path / "made" / f"{name}.safetensors"))
    z = fresh.encode(x)
    assert torch.equal(z, model.encode(x))
    assert torch.equal(fresh.decode(z), model.decode(z))
    judged = [m.discriminator(x, z) for m in (fresh, model)]  # type: ignore[operator]
    assert torch.equal(*judged)


@pytest.mark.parametrize("name", MODELS)
def test_every_models_weights_are_in_one_network_each(name: str) -> None:
    model, fresh = build(name, 0), build(name, 1)
    states = exporting.by_network(model)
    owned = {network for networks in model.players.values() for network in networks}
    assert owned <= states.keys() <= owned | {model_cards.OTHERS}
    assert sum(map(len, states.values())) == len(model.state_dict())

    fresh.load_state_dict(states.pop(model_cards.OTHERS, {}), strict=False)
    for network, state in states.items():
        getattr(fresh, network).load_state_dict(state)
    assert same(fresh, model)


def test_an_export_is_of_the_run_whatever_became_of_the_model(runs: Path, tmp_path: Path) -> None:
    model = load_run(runs / "digits-vae-seed0")
    with torch.no_grad():
        model.decoder.stack.layers[0].op.weight.zero_()
    model.export(tmp_path / "made")
    kept = trained.weights(runs / "digits-vae-seed0" / trained.WEIGHTS)
    assert torch.equal(
        load_file(tmp_path / "made" / "other-values.safetensors")["variance"], kept["variance"]
    )
    decoder = load_file(tmp_path / "made" / "decoder.safetensors")
    assert torch.equal(decoder["stack.layers.0.op.weight"], kept["decoder.stack.layers.0.op.weight"])


# -------------------- the card


@pytest.mark.parametrize("name", ["ali", "cali", "ssgan", "vae", "ae"])
def test_the_cards_code_loads_the_model(
    name: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs / f"digits-{name}-seed0"
    model = load_run(run)
    names = used(model.export(tmp_path / "made"), monkeypatch)
    assert same(names["model"], model)
    x, y = names["x"], names.get("y")
    assert (x.shape, y is None) == ((16, 1, 8, 8), name != "cali")
    if name != "ssgan":
        assert torch.equal(names["z"], model.encode(x, y=y))
    assert torch.equal(names["again"], model.decode(names["z"], y=y))


def test_the_cards_code_names_a_users_file(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_run(users / "drawing", plugins=[users / "mine.py"]).export(users / "made")
    card = card_of(users / "made")
    assert (card["model"]["file"], card["model"]["is_users"]) == ("mine.py", True)
    assert card["model"]["file_sha256"] == files.sha256(users / "mine.py")
    assert "it is its user's, in mine.py" in (users / "made" / "README.md").read_text()
    (users / "made" / "mine.py").symlink_to(users / "mine.py")
    assert used(users / "made", monkeypatch)["z"].shape == (16, 8)


def test_the_card_has_metrics_hashes_and_where_it_comes_from(runs: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    shutil.copytree(runs / "digits-ali-seed0", renamed)
    load_run(renamed).export(tmp_path / "made")
    card, made = card_of(tmp_path / "made"), tmp_path / "made"
    hashed = (path for path in made.iterdir() if path.name not in ("README.md", "card.json"))
    assert card["files"] == {path.name: files.sha256(path) for path in hashed}

    # numbers by their draws, from the rows themselves
    rows = stored.read_run(runs / "digits-ali-seed0")
    accuracy = [number for number in card["metrics"] if number["metric"] == "svm_accuracy"]
    assert accuracy
    for number in accuracy:
        alike = [row for row in rows if row["model"] == "ali" and row["status"] == "ok"]
        alike = [row for row in alike if all(row[name] == number[name] for name in model_cards.WAY)]
        assert number["value"] == pytest.approx(np.mean([row["value"] for row in alike]))
        assert number["draws"] == len(alike)

    origin = stored.read_origin(runs / "digits-ali-seed0")
    kept = {name: value for name, value in card["run"].items() if name != "command"}
    assert kept == {name: value for name, value in origin.items() if name != "command"}
    assert "--out" not in card["run"]["command"]
    page = (made / "README.md").read_text()
    assert page.startswith("---\n# license: yours to choose\nlibrary_name: alibench\n")
    assert origin["data_sha256"] in page
    assert all(sha256 in page for sha256 in card["files"].values())


def test_a_layer_table_of_the_card_builds_the_network(runs: Path, tmp_path: Path) -> None:
    model = load_run(runs / "digits-ali-seed0")
    model.export(tmp_path / "made")
    decoder = card_of(tmp_path / "made")["networks"]["decoder"]
    table = decoder["tables"]["stack"]
    rows, style = [Row(**row) for row in table["rows"]], Style(**table["style"])
    stack = Stack("decoder", rows, tuple(table["input"]), style).eval()
    state = load_file(tmp_path / "made" / "decoder.safetensors")
    stack.load_state_dict({key.removeprefix("stack."): value for key, value in state.items()})
    z = torch.randn(6, 8)
    x = torch.sigmoid(stack(z).view(6, *decoder["settings"]["shape"]))
    assert torch.equal(x, model.decode(z))
    assert decoder["parameters"] == sum(parameter.numel() for parameter in model.decoder.parameters())


def test_pictures_show_samples_of_images_alone_and_points(runs: Path, tmp_path: Path) -> None:
    for name in ("digits-ali-seed0", "grid25_easy-ali-seed0", "digits-ae-seed0"):
        load_run(runs / name).export(tmp_path / name)
    picture = np.asarray(Image.open(tmp_path / "digits-ali-seed0" / "samples.png"))
    kept = load_file(runs / "digits-ali-seed0" / "arrays.safetensors")["samples"]
    assert np.array_equal(picture[1:33, 34:66], np.kron(kept[1, 0], np.ones((4, 4), np.uint8)))
    assert Image.open(tmp_path / "grid25_easy-ali-seed0" / "samples.png").width > 500
    assert not (tmp_path / "digits-ae-seed0" / "samples.png").exists()


# -------------------- programs


@pytest.fixture(scope="module")
def exported(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a conditional ALI with programs of torch's."""
    return load_run(runs / "digits-cali-seed0").export(
        tmp_path_factory.mktemp("programs") / "made", torch_export=True
    )


def test_torchs_programs_compute_what_the_model_does_on_any_batch(
    exported: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_run(runs / "digits-cali-seed0")
    names = used(exported, monkeypatch)
    x, y, z = names["x"], names["y"], names["z"]
    names = used(exported, monkeypatch, 1, **{"x": x, "y": y, "z": z})
    torch.testing.assert_close(names["z_by_torch"], z)
    torch.testing.assert_close(names["x_by_torch"], model.decode(z, y=y))
    assert not torch.allclose(names["decoder"](z, y.roll(1)), names["x_by_torch"])
    # one sample, too
    torch.testing.assert_close(names["encoder"](x[:1], y[:1]), z[:1], rtol=1e-4, atol=1e-5)


def test_programs_hold_no_other_network_and_no_path_of_this_machine(exported: Path) -> None:
    program = torch.export.load(exported / "decoder.pt2")
    assert {name.split(".")[1] for name in program.state_dict} == {"decoder", "embedding"}
    for side in programs.SIDES:
        assert str(ROOT).encode() not in (exported / f"{side}.pt2").read_bytes()
        differences = card_of(exported)["programs"][side]["differences"]
        assert 0 <= differences[f"{side}.pt2"] < programs.TOLERANCE


@pytest.mark.commands
def test_onnx_computes_what_the_model_does(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in programs.PACKAGES:
        pytest.importorskip(package, reason="the extra 'onnx' is not installed")
    made = load_run(runs / "digits-cali-seed0").export(tmp_path / "made", onnx=True)
    names = used(made, monkeypatch)
    names = used(made, monkeypatch, 1, **{name: names[name] for name in "xyz"})
    np.testing.assert_allclose(names["z_by_onnx"], names["z"], atol=1e-5)
    again = load_run(runs / "digits-cali-seed0").decode(names["z"], y=names["y"])
    np.testing.assert_allclose(names["x_by_onnx"], again, atol=1e-5)
    assert str(ROOT).encode() not in (made / "decoder.onnx").read_bytes()


def test_a_model_without_an_encoder_says_so(runs: Path, tmp_path: Path) -> None:
    made = load_run(runs / "digits-ssgan-seed0").export(tmp_path / "made")
    assert card_of(made)["programs"]["encoder"] == {"absent": "ssgan has no encoder"}
    assert "There is no program of the encoder: ssgan has no encoder." in (made / "README.md").read_text()


def test_a_difference_is_a_share_of_the_greatest_number_or_of_1() -> None:
    ones = torch.ones(3)
    assert programs.difference(ones + 0.5, ones) == 0.5
    assert programs.difference(200 * ones, 100 * ones) == 1
    assert programs.difference(0.25 * ones, 0.5 * ones) == 0.25
    assert not programs.difference(ones, ones * torch.nan) <= programs.TOLERANCE


# -------------------- what is refused


@pytest.mark.parametrize(
    ("name", "told"),
    [("branching", "its encoder cannot be exported ("), ("drawing", "encoder.pt2 differs")],
)
def test_what_is_not_the_model_is_one_line_and_leaves_nothing(
    name: str, told: str, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in users.iterdir())
    words = ["--plugin", str(users / "mine.py"), "--out", str(users / "made")]
    assert main(["export", str(users / name), *words, "--torch-export"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"alibench: {name}: ")
    assert told in message
    assert message.endswith(f": {programs.REMEDY}\n")
    assert message.count("\n") == 1
    assert sorted(path.name for path in users.iterdir()) == before


REFUSED = {
    "no place": ([], "missing option '--out'"),
    "a folder that holds something": (["--out", "held"], "--out held is there already: name a new place"),
    "a file": (["--out", "held/mine"], "--out held/mine is there already: name a new place"),
    "no such folder": (["--out", "not/there"], "there is no folder not: make it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_place_that_cannot_be_is_one_line(
    case: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("held").mkdir()
    Path("held/mine").write_text("mine")
    words, told = REFUSED[case]
    assert main(["export", str(runs / "digits-ali-seed0"), *words]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["held", "mine"]


def test_without_its_packages_onnx_names_the_extra(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in programs.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        BadInput, match=r"onnxruntime: pip install onnx onnxscript onnxruntime \(extra 'onnx'\)"
    ):
        load_run(runs / "digits-ali-seed0").export(tmp_path / "made", onnx=True)
    assert not list(tmp_path.iterdir())


def test_a_model_that_was_trained_elsewhere_is_named(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = trained.only(runs / "digits-ali-seed0").origin
    theirs = {"title": "PCA, trained elsewhere", "weights": trained.AS_GIVEN, "weights_sha256": None}
    (tmp_path / "theirs").mkdir()
    stored.write(tmp_path / "theirs", stored.ORIGIN, origin | theirs)
    assert main(["export", str(tmp_path / "theirs"), "--out", str(tmp_path / "made")]) == 2
    assert "no weights are kept of PCA, trained elsewhere: name a run that" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_damaged_rows_and_a_full_disk_leave_nothing(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "digits-ali-seed0", run)
    (run / stored.ROWS).write_text("{}")
    assert main(["export", str(run), "--out", str(tmp_path / "made")]) == 2
    assert "rows.json is damaged: run this run again" in capsys.readouterr().err

    count = iter(range(100))

    def full(descriptor: int) -> None:
        if next(count) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["export", str(runs / "digits-ali-seed0"), "--out", str(tmp_path / "made")]) == 2
    assert "nothing more can be written (No space left on device)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_page_is_plain_text_whatever_a_run_is_called(runs: Path) -> None:
    run = trained.only(runs / "digits-ali-seed0")
    model: Model = trained.model_of(run)
    origin = {**run.origin, "title": "<script>x</script>", "command": "alibench run '```\n# mine' --out a"}
    card = exporting._card(trained.TrainedRun(origin, run.weights), model)
    page = model_cards.markdown({**card, "metrics": [], "programs": {}, "files": {}})
    assert "# \\<script>x\\</script> on digits" in page
    assert "\n    alibench run '``` # mine'\n" in page
    assert "This run was not evaluated." in page


def test_a_run_of_an_earlier_version_lacks_some_of_it(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = dict(trained.only(runs / "digits-ali-seed0").origin)
    for name in ("plugins", "data_splits"):
        del origin[name]
    origin["config"] = {k: v for k, v in origin["config"].items() if k not in ("model", "entry_recipe")}
    (tmp_path / "run").mkdir()
    shutil.copy(runs / "digits-ali-seed0" / trained.WEIGHTS, tmp_path / "run")
    stored.write(tmp_path / "run", stored.ORIGIN, origin)
    made = load_run(tmp_path / "run").export(tmp_path / "made")
    assert card_of(made)["model"]["recipe"]["steps"] == origin["config"]["recipe"]["steps"]
    assert "This run was not evaluated." in (made / "README.md").read_text()
    assert used(made, monkeypatch)["x"].shape == (16, 1, 8, 8)


def test_json_names_the_files(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["export", str(runs / "digits-ae-seed0"), "--out", str(tmp_path / "empty"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    names = ["README.md", "card.json", "decoder.safetensors", "encoder.safetensors"]
    assert facts["files"] == names == sorted(path.name for path in (tmp_path / "empty").iterdir())
