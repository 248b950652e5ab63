"""Stored samples stand next to models in tables; a folder that cannot be used is refused by name."""

from pathlib import Path

import pytest
import torch

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading, plugins
from alibench.benchmarks.data import datasets
from alibench.benchmarks.data.samples import StoredSamples
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK
from alibench.evaluation.seeds import generator
from alibench.results import rows
from tests.benchmarks.config.test_plugins import TINY, pictures, written


def test_a_folders_images_are_drawn_once_each_by_the_generator(tmp_path: Path) -> None:
    folder = StoredSamples(pictures(tmp_path / "made", 30, mode="RGB"), (1, 8, 8))
    rng = generator(0, "test")
    parts = [folder.sample(10, rng) for _ in range(3)]
    seen = {part.numpy().tobytes() for part in torch.cat(parts)}
    expected = {(x / 255).numpy().tobytes() for x in datasets.load("digits").train.x[:30]}  # grey again
    assert seen == expected
    assert torch.equal(folder.sample(10, generator(0, "test")), parts[0])
    assert not torch.equal(folder.sample(10, generator(1, "test")), parts[0])


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (
            "made=few",
            "holds 3 images, suite 'digits' measures 40: add some, or measure fewer of all models by --set "
            "evalu",
        ),
        ("made=large", "large: it holds samples of shape (1, 8, 16), the data have (1, 8, 8)"),
        (
            "made=broken",
            "x.png cannot be read as an image (not PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM): mend, convert or ",
        ),
        ("made=empty", "is empty"),
        ("made=nowhere", "cannot read the folder"),
        ("bigan=few", "the name 'bigan' is taken"),
        ("few", "'few' is not NAME=FOLDER"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_by_name(
    samples: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "few", 3)
    pictures(tmp_path / "large", 3, size=16)
    written(tmp_path / "broken", "no image", "x.png")
    (tmp_path / "empty").mkdir()
    assert main(["run", "digits", "--samples", samples, "--models", "made", *TINY, "--out", "out"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message
    assert not (tmp_path / "out").exists()


def test_stored_samples_have_no_speed(tmp_path: Path) -> None:
    plugins.load_samples("made", pictures(tmp_path / "made", 3))
    (suite,) = loading.load("digits", ['metrics=["throughput"]'], only=["made"])
    job = Job("throughput", suite, "made", 0, tmp_path, "cpu", ("test",))
    assert execute([job], lambda run, steps: None) == {job.run_id: OK}
    found = rows.read_run(job.folder)
    assert {row["metric"] for row in found} == {"train_rate", "sample_rate", "encode_rate"}
    assert {row["status"] for row in found} == {"not applicable"}


def test_samples_that_no_row_is_asked_of_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "made", 20)
    assert (
        main(["run", "digits", "--models", "vae", "--samples", f"made={tmp_path / 'made'}", "--dry-run"]) == 2
    )
    assert "--samples made=...: name 'made' in --models too, or leave --models out" in capsys.readouterr().err
