"""Rows keep their provenance and their checksum; tables say what the rows say."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from alibench.benchmarks.config import loading
from alibench.evaluation import files, pictures
from alibench.evaluation.measurement import Measurement
from alibench.models import REGISTRY
from alibench.results import figures, formats, layouts, papers, pixels, rows, tables, values
from tests.conftest import origin
from tests.results.conftest import store


def table(out: Path, name: str = "quality") -> formats.Sheet:
    """Return a table of the runs."""
    return tables.tables(rows.read(out))[f"digits-{name}"]


def test_numbers_without_provenance_cannot_be_stored(tmp_path: Path) -> None:
    run = rows.Run("a", "s", "ali", "ALI", "digits", 0, 10, "ema")
    for missing in rows.PROVENANCE:
        partial: dict[str, Any] = {key: "" for key in rows.PROVENANCE if key != missing}
        with pytest.raises(ValueError, match=missing):
            rows.write(tmp_path, run, [], partial)
    assert not list(tmp_path.iterdir())


def test_rows_come_back_to_the_last_digit(tmp_path: Path) -> None:
    number = 0.1 + 0.2 + 1e-17
    measured = [Measurement("fid", number, n=355, extractor="x"), Measurement("kid", None, reason="why")]
    store(tmp_path, "ali", 0, measured)
    frame = rows.derive(tmp_path)
    assert tuple(frame.columns) == rows.COLUMNS
    assert frame.value[0] == number
    assert float(pd.read_csv(tmp_path / "rows.csv", dtype=str).value[0]) == number
    assert np.isnan(frame.value[1])
    assert frame.reason[1] == "why"


def test_a_changed_digit_is_noticed(tmp_path: Path) -> None:
    folder = store(tmp_path, "ali", 0, [Measurement("fid", 1.25)])
    text = (folder / "rows.json").read_text()
    (folder / "rows.json").write_text(text.replace("1.25", "1.15"))
    with pytest.raises(rows.Damaged, match=r"rows\.json is damaged"):
        rows.read(tmp_path)
    (folder / "rows.json").write_text(text[:-20])
    with pytest.raises(rows.Damaged):
        rows.read(tmp_path)


def test_a_half_written_file_never_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store(tmp_path, "ali", 0, [Measurement("fid", 1.0)])
    before = (folder / "rows.json").read_text()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        files.replace(folder / "rows.json", "new")
    assert (folder / "rows.json").read_text() == before
    assert not list(folder.glob(".*"))


def svm(accuracies: dict[int, float], **options: Any) -> list[Measurement]:
    return [Measurement("svm_accuracy", v, "%", protocol="C by validation", labels=100, draw=d, **options)
            for d, v in accuracies.items()]  # fmt: skip


def test_tables_show_mean_and_deviation_over_seeds_with_arrows(tmp_path: Path) -> None:
    for seed, fid in enumerate((1.0, 2.0, 3.0)):
        store(tmp_path, "ali", seed, [Measurement("fid", fid, n=355, split="test", protocol="n")])
    assert "tested" not in table(tmp_path).caption  # there is nothing to compare with
    store(tmp_path, "vae", 0, [Measurement("fid", 4.0, n=355, split="test", protocol="n")])
    caption, frame, *_ = table(tmp_path)
    assert frame.to_dict("index") == {
        "ALI": {"seeds": "3", "FID ↓": "2.00 ± 1.00"},
        "VAE": {"seeds": "1", "FID ↓": "4.00"},
    }
    assert "n = 355" in caption
    assert "not tested (fewer than 5 seeds)" in caption


def test_label_draws_are_averaged_within_a_seed_and_differences_are_paired(tmp_path: Path) -> None:
    # by hand: seeds average 82 and 86; raw pixels 78 on draw 0 and 82 on draw 1, so differences are +2 and +6
    store(tmp_path, "ali", 0, svm({0: 80.0, 1: 84.0}))
    store(tmp_path, "ali", 1, svm({0: 84.0, 1: 88.0}))
    store(tmp_path, "references", None, svm({0: 78.0, 1: 82.0}, reference="raw pixels"))
    frame = table(tmp_path, "svm").frame
    row = frame.loc["ALI"]
    assert row["accuracy, C by validation, % ↑"] == f"84.00 ± {8**0.5:.2f}"
    assert row["error, C by validation, % ↓"] == f"16.00 ± {8**0.5:.2f}"
    assert row["− raw pixels ↑"] == f"+4.00 ± {8**0.5:.2f}"
    assert row["std over label draws"] == f"{8**0.5:.2f} ± 0.00"
    assert frame.loc["raw pixels", "− raw pixels ↑"] == ""


def test_spread_of_seeds_samples_and_labels_stand_apart(tmp_path: Path) -> None:
    # by hand: seeds' means 2 and 4, deviation sqrt 2; within a seed draws are 1 apart, deviation 1 / sqrt 2
    for seed, mean in enumerate((2.0, 4.0)):
        fids = [Measurement("fid", mean + d - 0.5, n=9, protocol="n", draw=d) for d in (0, 1)]
        store(tmp_path, "ali", seed, [*fids, *svm({0: 80.0 + mean, 1: 84.0 + mean})])
    frame = table(tmp_path, "statistics").frame
    shown = ["mean", "std, training seeds", "std, draws of samples", "std, draws of labels"]
    row = frame.loc["FID"]
    assert row[["seeds", *shown]].tolist() == ["2", "3.00", "1.41", "0.71", ""]
    assert row["95 % interval"] == "-9.71 to 15.71"  # 3 ± 12.706 · sqrt 2 / sqrt 2
    row = frame.loc["SVM accuracy, %, C by validation"]
    assert row[shown].tolist() == ["85.00", "1.41", "", f"{8**0.5:.2f}"]


def test_a_diverged_seed_is_counted_and_a_wholly_diverged_model_says_so(tmp_path: Path) -> None:
    store(tmp_path, "ali", 0, [Measurement("fid", 1.0, protocol="n")])
    store(tmp_path, "ali", 1, [Measurement("fid", None, status="diverged", reason="not finite")])
    store(tmp_path, "vae", 0, [Measurement("fid", None, status="diverged", reason="not finite")])
    frame = table(tmp_path).frame
    assert frame.loc["ALI"].tolist() == ["1 (1 diverged)", "1.00"]
    assert frame.loc["VAE"].tolist() == ["– (1 diverged)", "diverged"]


def test_models_stand_in_the_suites_order_and_references_below(tmp_path: Path) -> None:
    store(tmp_path, "vae", 0, [Measurement("fid", 3.0), Measurement("fid", 4.0, reference="VAE, noisy")])
    store(tmp_path, "references", None, [Measurement("fid", 0.1, reference="held-out data")])
    store(tmp_path, "ali", 0, [Measurement("fid", 2.0)])
    assert table(tmp_path).frame.index.tolist() == ["ALI", "VAE", "VAE, noisy", "held-out data"]


def test_features_of_a_trained_d_take_part_and_what_nobody_trained_does_not(tmp_path: Path) -> None:
    for seed in range(5):
        accuracy = 80.0 + 0.1 * seed
        store(tmp_path, "ali", seed, svm({0: accuracy}))
        of_d = svm({0: accuracy + 5}, reference="a GAN, features of D")
        store(tmp_path, "vae", seed, [*svm({0: accuracy - 5}), *of_d])
    store(tmp_path, "references", None, svm({0: 99.0}, reference="raw pixels"))
    frame = rows.read(tmp_path)
    sheet = tables.tables(frame)["digits-svm"]
    bold = sheet.best["accuracy, C by validation, % ↑"]
    assert bold.to_dict() == {"ALI": False, "VAE": False, "a GAN, features of D": True, "raw pixels": False}
    # twice a one-sided test: two others take part
    measures = {measure for table in layouts.TABLES for measure in table.measures}
    (measure,) = {each for each in measures if each.title == "accuracy, C by validation, %"}
    p = values.against_best(frame, measure)
    assert p["a GAN, features of D"] == 1.0
    seeds = 80 + np.arange(5) / 10
    assert p["ali"] == pytest.approx(stats.ttest_ind(seeds, seeds + 5, equal_var=False).pvalue)
    assert set(table(tmp_path, "statistics").frame.model) == {"ALI", "VAE", "a GAN, features of D"}


def test_a_table_says_what_a_negative_kid_means(tmp_path: Path) -> None:
    store(tmp_path, "ali", 0, [Measurement("kid", 1.0)])
    assert "below 0" not in table(tmp_path).caption
    store(tmp_path, "ali", 1, [Measurement("kid", -1.0)])
    assert "a value below 0 means a distance near 0" in table(tmp_path).caption


def test_the_two_rules_of_counting_modes_never_share_a_table() -> None:
    for table in layouts.TABLES:
        assert not {"modes_paper", "modes_3sigma"} <= {measure.metric for measure in table.measures}


def test_a_suite_is_summed_up_by_the_columns_of_readme() -> None:
    summed_up = tables.summaries(rows.read(papers.REFERENCE / "quick"))
    columns = {name: [title[:-2] for title in sheet.frame.columns[1:]] for name, sheet in summed_up.items()}
    assert columns == {
        "digits-overview": [
            *("reconstruction", "KID × 1000", "FID", "classifier score", "SVM accuracy, %"),
        ],
        "grid25_easy-overview": [
            *("modes, ≥ 20 of 10,000 within 3σ", "samples within 3σ, %", "reconstruction"),
        ],
    }
    # what is left out is not in the notes either
    assert not any("speed" in sheet.caption for sheet in summed_up.values())


def test_a_suite_without_an_overview_is_summed_up_by_all_its_tables(tmp_path: Path) -> None:
    store(tmp_path, "ali", 0, [Measurement("nn_accuracy", 70.0)], suite="digits-near")
    store(tmp_path, "ali", 0, [Measurement("fid", 1.0), Measurement("nn_accuracy", 70.0)])
    store(tmp_path, "ali", 0, [Measurement("anomaly_auroc", 90.0)], suite="kdd")
    summed_up = tables.summaries(rows.read(tmp_path))
    assert summed_up.keys() == {"digits-overview", "digits-near-neighbours", "kdd-overview"}


def test_every_run_with_drawn_settings_has_a_line(tmp_path: Path) -> None:
    def drawn(lr: float) -> list[Measurement]:
        values = {"lr": lr, "beta1": 0.5, "std": 0.02}
        return [Measurement(f"drawn_{key}", value, kind="budget") for key, value in values.items()]

    store(tmp_path, "ali", 0, [*drawn(1e-4), Measurement("modes_paper", 13.0, protocol="nearest centre")])
    store(tmp_path, "ali", 1, [*drawn(2e-4), Measurement("modes_paper", None, status="diverged")])
    store(tmp_path, "vae", 0, [*drawn(1e-4), Measurement("modes_paper", 25.0, protocol="nearest centre")])
    frame = table(tmp_path, "runs").frame
    assert frame.index.tolist() == ["ALI", "ALI", "VAE"]
    assert frame.seed.tolist() == ["0", "1", "0"]
    assert frame["learning rate"].tolist() == ["0.000100", "0.000200", "0.000100"]
    (counts,) = (frame[column].tolist() for column in frame if "paper's rule" in column)
    assert counts == ["13.0", "diverged", "25.0"]
    stored = rows.read(tmp_path)
    assert "digits-runs" not in tables.tables(stored[~stored.metric.str.startswith("drawn")])


def test_tables_are_written_as_markdown_csv_and_latex(tmp_path: Path) -> None:
    store(tmp_path, "ali", 0, [Measurement("high_quality", 50.0, n=10)])
    made = tables.write(tmp_path, rows.derive(tmp_path))
    assert set(made) == {"digits-overview", "digits-quality"}
    folder = tmp_path / "tables"
    assert "| ALI" in (folder / "digits-quality.md").read_text()
    assert pd.read_csv(folder / "digits-quality.csv", index_col=0).shape == (1, 2)
    latex = (folder / "digits-quality.tex").read_text()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"3$\sigma$", r"\%", r"$\uparrow$"):
        assert rule in latex
    assert latex.isascii()


def test_markdown_keeps_every_digit_and_sign() -> None:
    frame = pd.DataFrame({"a ↑": ["+1.50", "0.0000"], "b": ["100.0", ""]}, index=["x", "y"])
    lines = formats.table(frame).splitlines()[2:]
    body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert body == [["x", "+1.50", "100.0"], ["y", "0.0000", ""]]


def test_words_begin_at_the_left_and_numbers_end_at_the_right() -> None:
    frame = pd.DataFrame(
        {"state": ["empty", "10 % of it", "all"], "error": ["0.1", "diverged", ""]}, list("abc")
    )
    marks = formats.table(frame).splitlines()[1].strip("|").split("|")
    assert [mark.endswith(":") for mark in marks] == [False, False, True]


def test_titles_make_columns_and_files_that_markdown_and_latex_can_hold() -> None:
    own = [entry for name in loading.builtin() for entry in loading.read(name)[1].get("model", {}).values()]
    titles = [column.title for column in (*layouts.CATALOGUE.values(), *layouts.DRAWN_SETTINGS)]
    titles += [model.title for model in REGISTRY.values()]
    titles += [entry["title"] for entry in own if "title" in entry]
    for title in titles:
        assert "|" not in title
        frame = pd.DataFrame({title: ["1"]}, index=pd.Index(["m"], name="model"))
        assert formats.latex(formats.plain("", frame)).isascii()


def test_a_references_note_stands_in_its_title(tmp_path: Path) -> None:
    about = {"protocol": "mean code", "reference": "PCA", "note": "8 components"}
    store(tmp_path, "references", None, [Measurement("reconstruction_error", 0.1, **about)])
    assert table(tmp_path).frame.index.tolist() == ["PCA (8 components)"]


def test_tiles_show_every_image_once_in_reading_order() -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    canvas = pixels.tile(images, 3)[..., 0]
    assert canvas.shape == (7, 10)
    assert [int(canvas[1 + 3 * (i // 3), 1 + 3 * (i % 3)]) for i in range(6)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("samples", [True, False])  # not every model has some
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (2,)])
def test_pictures_are_drawn_of_images_and_points(
    tmp_path: Path, shape: tuple[int, ...], samples: bool
) -> None:
    x = torch.ones((50, *shape), dtype=torch.uint8 if len(shape) == 3 else torch.float32)
    arrays = {"x": x, "y": torch.arange(50), "codes": torch.zeros(50, 2), "reconstructions": x}
    pictures.write(tmp_path, arrays | ({"samples": x} if samples else {}))
    figures.draw(tmp_path, "title", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "picture.png").stat().st_size > 3000


def test_the_run_file_is_json_that_says_where_numbers_come_from(tmp_path: Path) -> None:
    folder = store(tmp_path, "ali", 0, [Measurement("fid", 1.0)])
    stored = json.loads((folder / "run.json").read_text())
    assert set(rows.PROVENANCE) <= set(stored["run"])
    assert rows.read_origin(folder) == stored["run"]
    changed = (folder / "run.json").read_text().replace('"title": "ALI"', '"title": "ALICE"')
    (folder / "run.json").write_text(changed)
    with pytest.raises(rows.Damaged, match=r"run\.json is damaged: run this run again"):
        rows.read_origin(folder)


def test_a_number_is_stored_once(tmp_path: Path) -> None:
    folder = store(tmp_path, "ali", 0, [Measurement("fid", 1.0), Measurement("kid", 2.0)])
    run = rows.Run(folder.name, "digits", "ali", "ALI", "digits", 0, 10, "ema")
    about = origin("digits", ["ali", "vae"])
    with pytest.raises(ValueError, match="hold a number twice"):
        rows.write(folder, run, map(asdict, [Measurement("fid", 1.0), Measurement("fid", 3.0)]), about)
    assert rows.read(tmp_path).value.tolist() == [1.0, 2.0]  # those it had are still there
    rows.write(folder, run, map(asdict, [Measurement("fid", 3.0)]), about)
    assert rows.read(tmp_path).value.tolist() == [3.0]


def test_results_of_runs_are_ignored_by_git() -> None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    command = ["git", "-C", str(root), "check-ignore", "results/runs/x"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
