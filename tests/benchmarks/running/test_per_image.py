"""`evaluate --per-image`: a line for each held-out sample, whose means are the rows' numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.benchmarks.running import space
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.evaluation import pictures
from alibench.evaluation.data import as_uint8
from alibench.results import report, stored
from tests.conftest import build

METRIC = {"error": "reconstruction_error"}  # of a column, where it has another name


def evaluated(out: Path, name: str, suite: str = "digits", metrics: str = "reconstruction") -> Path:
    """Evaluate a model with its first weights; return the folder."""
    (own,) = loading.load(suite, only=[name], overrides=[f"metrics=['{metrics}']"])
    job = Job("evaluation", own, name, 0, out, "cpu", ("test",), per_image=True)
    execute([job], lambda *_: None)
    return job.folder


@pytest.mark.parametrize(
    ("suite", "name", "columns"),
    [
        ("digits", "vae", ["index", "label", "error", "psnr", "ssim"]),
        ("grid25_easy", "bigan", ["index", "label", "error"]),
    ],
)
def test_a_columns_mean_is_the_rows_number(suite: str, name: str, columns: list[str], tmp_path: Path) -> None:
    folder = evaluated(tmp_path, name, suite)
    frame = stored.read_per_image(folder, stored.read_origin(folder))
    assert list(frame.columns) == columns
    (own,) = loading.load(suite)
    assert np.array_equal(frame.label, own.load().test.y)
    for column in columns[2:]:
        metric = METRIC.get(column, column)
        (row,) = (
            row
            for row in stored.read_run(folder)
            if (row["metric"], row["protocol"], row["model"]) == (metric, "mean code", name)
        )
        assert frame[column].mean() == pytest.approx(row["value"], rel=1e-12)
        assert row["n"] == len(frame)


def test_the_pictures_are_of_the_extreme_errors(tmp_path: Path) -> None:
    folder = evaluated(tmp_path, "bigan", metrics="health")  # it needs no metric
    frame, arrays = stored.read_per_image(folder, stored.read_origin(folder)), pictures.read(folder)
    (own,) = loading.load("digits")
    worst, best = frame.error.nlargest(8), frame.error.nsmallest(8)
    x = own.load().test.x[[*worst.index, *best.index]]
    assert np.array_equal(arrays["extremes"], x)
    with torch.no_grad():
        decoded = own.build("bigan", 0).eval().reconstruct(x.float() / 255)
    difference = arrays["extreme_reconstructions"].astype(int) - as_uint8(decoded).numpy()
    assert np.abs(difference).max() <= 1  # a grey level of rounding


def test_a_model_without_an_encoder_leaves_no_file_and_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("ssgan").inference == "none"
    left = tmp_path / "runs" / "digits_semisup-ssgan-seed0" / stored.PER_IMAGE
    left.parent.mkdir(parents=True)
    left.write_text("of another evaluation")
    folder = evaluated(tmp_path, "ssgan", "digits_semisup")
    told = "alibench: digits_semisup-ssgan-seed0: no per_image.csv is kept: it has no encoder\n"
    assert capsys.readouterr().err == told
    assert not left.exists()
    assert "per_image_sha256" not in stored.read_origin(folder)
    assert "extremes" not in pictures.read(folder)


@pytest.mark.commands
@pytest.mark.usefixtures("here")
def test_the_command_keeps_them_and_a_folder_has_them_from_the_beginning(
    quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "out", "digits-ali-seed0"
    asked = ["evaluate", str(quick / "runs" / run), "--metrics", "reconstruction", "--device", "cpu"]
    assert main([*asked, "--per-image", "--out", str(out)]) == 0
    assert stored.read_plan(out)["per_image"] is True
    assert len(stored.read_per_image(out / "runs" / run, stored.read_origin(out / "runs" / run))) == 355
    assert "The 8 worst and the 8 best of 355 held-out images" in (out / report.NAME).read_text()

    # what was begun with it is resumed with it
    capsys.readouterr()
    assert main([*asked, "--out", str(out), "--resume"]) == 2
    assert "was begun with something else: --per-image (True, now None)" in capsys.readouterr().err


def test_the_space_of_a_run_counts_every_line() -> None:
    (own,) = loading.load("digits")
    without, with_errors = (space.evaluation(own, per_image) for per_image in (False, True))
    assert with_errors - without == 355 * space.A_LINE + 32 * 64
