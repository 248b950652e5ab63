"""Published numbers stand beside our own and never in one column; every format is as it was looked at."""

import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alibench import results
from alibench.benchmarks.commands.cli import main
from alibench.evaluation.errors import BadInput
from alibench.evaluation.measurement import Measurement
from alibench.results import formats, paper_tables, papers, published
from tests.results.conftest import store as stored

GOLDEN = Path(__file__).parent / "golden"


def store(
    out: Path, suite: str, model: str, seed: int, measured: list[Measurement], dataset: str = "cifar10"
) -> None:
    stored(out, model, seed, measured, suite, dataset, steps=29_138, models=[model])


def accuracy(value: float, labels: int = 1000, split: str = "test") -> Measurement:
    return Measurement("class_accuracy", value, "%", 10_000, split, protocol="K+1 classes", labels=labels)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Five runs of ALI's second table with made-up numbers: errors of 20 ± 1."""
    for seed, error in enumerate((19.0, 19.0, 20.0, 21.0, 21.0)):
        store(tmp_path, "cifar10_semisup", "ssali", seed, [accuracy(100 - error)])
    return tmp_path


def sheet(name: str, *given: Path) -> formats.Sheet:
    made = papers.makers(papers.read(papers.folders(given)))[name]()
    assert made is not None
    return made


def test_every_published_number_has_its_source_and_its_bars_meaning() -> None:
    numbers = published.published()
    assert len(numbers) == 676
    assert not numbers.duplicated(
        ["source", "table", "dataset", "metric", "model", "labels", "found_in"]
    ).any()
    for column in ("source", "table", "dataset", "metric", "model", "found_in"):
        assert numbers[column].notna().all(), column
    assert np.isfinite(numbers.value).all()
    assert numbers[numbers.bar_in_std.notna()].bar.notna().all()
    tripled = numbers[numbers.bar_in_std == 3]
    assert set(tripled.table) == {"Table 2 (CIFAR-10 semi-supervised)"}
    assert sorted(tripled.bar) == [0.44, 0.89, 1.49, 1.62]
    assert tripled.note.str.contains("3 x std").all()


def test_bars_of_three_deviations_are_shown_as_one_with_a_footnote(runs: Path) -> None:
    table = sheet("ali-table-2", runs)
    # the draft before printed the deviation itself: 0.30, 0.15, 0.54, 0.50
    shown = table.frame.loc["ALI (no feature matching)"].filter(like="published").tolist()
    assert shown == ["19.98 ± 0.30†", "19.09 ± 0.15†", "17.99 ± 0.54†", "17.05 ± 0.50†"]
    assert "† printed with 3 standard deviations, shown here with one." in table.notes


def test_a_standard_error_is_shown_as_the_deviation_it_comes_from() -> None:
    # ALI on the ring: 6.6 ± .3, the standard error of ten runs
    table = sheet("modes-ring")
    assert table.frame.loc["ALI", "modes, published (PacGAN)"] == "6.6 ± 0.95†"
    note = "† printed as the standard error of 10 runs, shown here as a standard deviation."
    assert note in table.notes


def test_two_papers_rows_of_one_model_stand_side_by_side() -> None:
    grid = sheet("modes-grid").frame.loc["ALI"]
    assert (grid["modes, published (VEEGAN)"], grid["modes, published (PacGAN)"]) == ("15.8", "24.1 ± 1.26†")
    shares = [grid[f"within 3σ, %, published ({paper})"] for paper in ("VEEGAN", "PacGAN")]
    assert shares == ["1.6", "95.7 ± 1.90†"]


def test_ours_stands_in_a_column_of_its_own_with_how_far_it_was_trained(runs: Path) -> None:
    table = sheet("ali-table-2", runs)
    assert table.frame.loc["ALI (no feature matching)", "1,000 labels, here"] == "20.00 ± 1.00"
    assert (table.frame.filter(like="here") != "").to_numpy().sum() == 1
    schedule = "Here: SSALI 5 seeds, 29,138 updates. The published schedule: 2,913,750 updates"
    assert any(note.startswith(schedule) for note in table.notes)


@pytest.mark.parametrize(
    ("dataset", "measured"),
    [
        ("cifar10-jpeg", accuracy(80.0)),  # other data
        ("cifar10", accuracy(80.0, labels=500)),  # another number of labels
        ("cifar10", accuracy(80.0, split="validation")),
        (
            "cifar10",
            Measurement("svm_accuracy", 80.0, "%", split="test", protocol="C by validation", labels=1000),
        ),
        ("cifar10", Measurement("class_accuracy", None, status="diverged", labels=1000)),
    ],
)
def test_a_number_measured_otherwise_does_not_enter_a_published_table(
    tmp_path: Path, dataset: str, measured: Measurement
) -> None:
    store(tmp_path, "cifar10_semisup", "ssali", 0, [measured], dataset)
    table = sheet("ali-table-2", tmp_path)
    assert (table.frame.filter(like="here") == "").all().all()
    assert any(note.startswith("None of it has been run here yet.") for note in table.notes)


def neighbours(value: float) -> Measurement:
    return Measurement("nn_accuracy", value, "%", 10_000, "test", protocol="k = 1", labels=50_000)


def test_a_difference_is_ours_less_the_published(tmp_path: Path) -> None:
    for seed, value in enumerate((97.0, 97.2)):
        store(tmp_path, "mnist_bigan", "bigan", seed, [neighbours(value)], "mnist")
    table = sheet("bigan-table-1", tmp_path).frame
    assert table.loc["BiGAN"].tolist() == ["97.39", "97.10 ± 0.14", "-0.29"]
    assert table.loc["Autoencoder l2"].tolist() == ["97.58", "", ""]


def test_each_digit_left_out_has_its_own_column(tmp_path: Path) -> None:
    for digit, value in ((1, 0.5), (4, 0.25)):
        measured = [Measurement("anomaly_ap", value, n=10_000, split="test")]
        store(tmp_path / str(digit), "mnist_anomaly", "vae", 0, measured, f"mnist-without-{digit}")
    row = sheet("anomalies-mnist", *(tmp_path / str(digit) for digit in (1, 4))).frame.loc["VAE"]
    assert [row[f"{digit}, here"] for digit in (1, 4, 5, 7, 9)] == ["0.500", "0.250", "", "", ""]
    assert row["1, published"] == "0.063"


def test_the_state_of_each_published_table_comes_from_rows(tmp_path: Path) -> None:
    def states(*given: Path) -> list[str]:
        frame = sheet("published", *given).frame
        assert len(frame) == len(paper_tables.PAPERS)
        return [state for state in frame["its state"] if state != "empty"]

    (tmp_path / "runs").mkdir()
    assert states(tmp_path) == []
    store(tmp_path, "cifar10_semisup", "ssali", 0, [accuracy(80.0)])
    assert states(tmp_path) == ["1 % of the schedule, 1 of 2 lines, 1 seed"]  # 29,138 of 2,913,750
    store(tmp_path, "mnist_bigan", "bigan", 0, [neighbours(97.0)], "mnist")
    assert "19 % of the schedule, 1 of 6 lines, 1 seed" in states(tmp_path)
    # other data, or another split, fill no published table
    other = tmp_path / "other"
    store(other, "mnist_bigan", "bigan", 0, [neighbours(97.0)], "mnist-jpeg")
    assert states(other) == []


def test_how_far_a_run_of_two_phases_is_its_networks_say(tmp_path: Path) -> None:
    # GAN, then a short regression of its encoder; 29,138 steps in the row
    counts = {"encoder": 1457.0, "decoder": 14_569.0, "discriminator": 14_569.0}
    updates = [Measurement(f"updates_{network}", count, kind="budget") for network, count in counts.items()]
    store(tmp_path, "mnist_bigan", "gan", 0, [neighbours(97.0), *updates], "mnist")
    assert (
        "9.3 % of the schedule, 1 of 6 lines, 1 seed"
        in sheet("published", tmp_path).frame["its state"].tolist()
    )
    assert sheet("bigan-table-1", tmp_path).notes[0].startswith("Here: GAN 1 seed, 14,569 updates.")


def test_no_column_holds_both_published_and_own_numbers() -> None:
    for paper in paper_tables.PAPERS:
        titles = [column.title for column in paper.columns]
        assert len(set(titles)) == len(titles)
        for column in paper.columns:
            assert ("here" in column.title) == isinstance(column, published.Ours)
            assert ("published" in column.title) == isinstance(column, published.Theirs)


def test_the_committed_results_make_every_table_that_was_promised() -> None:
    made = papers.sheets(papers.read(papers.folders()))
    assert {"ali-table-1", "ali-table-2", "ali-25-gaussians", "bigan-table-1"} <= made.keys()
    assert {"alice-alice_toy", "alice-mnist", "alice-cifar10"} <= made.keys()
    assert {"overview-digits", "overview-grid25_easy"} <= made.keys()
    grid = made["ali-25-gaussians"].frame
    assert grid.loc["ALI", "modes, published"] == "13.4 ± 5.8 (8 to 25)"
    assert grid.loc["ALI", "modes, here"] == "24.2 ± 0.8 (23 to 25)"
    toy = made["alice-alice_toy"].frame.loc["ALICE (λ = 1)"]
    assert toy["score, published"] == "4.5983 ± 0.5763"
    assert toy["mixture score, here"] == "4.98 ± 0.01"
    assert made["ali-table-1"].frame.loc["ALI (L2-SVM)"].tolist() == ["19.14 ± 0.5", ""]
    detectors = made["anomalies-kdd99"]
    assert detectors.frame.loc["nearest neighbour", "F1, here"]
    assert "nearest neighbour" not in detectors.notes[0]  # what is not trained has no updates


def test_of_a_suite_in_several_folders_the_one_with_most_seeds_is_shown(tmp_path: Path) -> None:
    for name, seeds in (("few", 2), ("many", 4)):
        for seed in range(seeds):
            measured = [Measurement("fid", float(seeds), n=9, protocol="n")]
            store(tmp_path / name, "mine", "ali", seed, measured, "digits")
    table = sheet("overview-mine-digits", tmp_path / "few", tmp_path / "many")
    assert table.frame.loc["ALI"].tolist() == ["4", "4.00 ± 0.00"]
    assert table.notes == ("From many.",)


def test_a_table_is_a_data_frame_away(runs: Path) -> None:
    frame = results.table("ali-table-2", runs)
    assert isinstance(frame, pd.DataFrame)
    assert frame.loc["ALI (no feature matching)", "1,000 labels, here"] == "20.00 ± 1.00"
    assert results.table("cifar10_semisup-semi-supervised", runs).index.tolist() == ["SSALI"]
    with pytest.raises(BadInput, match="unknown table 'ali-table-3'; did you mean 'ali-table-2'"):
        results.table("ali-table-3", runs)


# -------------------- formats


@pytest.mark.parametrize("ending", ["md", "tex", "csv", "html"])
def test_every_format_is_as_it_was_looked_at(runs: Path, ending: str) -> None:
    """`GOLDEN=1 pytest` writes the files anew: look at the difference before it is committed."""
    made = sheet("ali-table-2", runs)
    best = made.best.copy()
    best.iloc[3, 1] = True
    made = made._replace(best=best)
    write = {
        "md": formats.markdown,
        "tex": formats.latex,
        "csv": lambda sheet: sheet.frame.to_csv(),
        "html": lambda sheet: formats.html({"ali-table-2": sheet}, "Tables"),
    }
    path = GOLDEN / f"ali-table-2.{ending}"
    text = re.sub(r"<style>.*</style>\n", "", write[ending](made), flags=re.DOTALL)
    if os.environ.get("GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


class Cells(HTMLParser):
    """The table's rows, and that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_html_holds_every_cell_and_escapes_what_it_must() -> None:
    frame = pd.DataFrame({"a<b": ["1 & 2", "<script>"]}, pd.Index(["x", "y"], name="model"))
    page = Cells()
    text = formats.html({"t": formats.plain("caption", frame)}, "Tables")
    page.feed(text)
    assert page.open == []
    assert page.rows == [["model", "a<b"], ["x", "1 & 2"], ["y", "<script>"]]
    assert "<script>" not in text
    assert not re.search(r"https?:|src=|href=", text)  # it needs nothing else


def test_the_best_is_bold_in_every_format() -> None:
    frame = pd.DataFrame({"FID ↓": ["1.0", "2.0"]}, pd.Index(["a_1", "b"], name="model"))
    made = formats.Sheet("", frame, frame == "1.0")
    assert "**1.0**" in formats.markdown(made)
    assert "**2.0**" not in formats.markdown(made)
    assert r"\textbf{1.0}" in formats.latex(made)
    assert "<b>1.0</b>" in formats.html({"t": made}, "")


def test_latex_compiles(tmp_path: Path) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("no TeX on this machine (pdflatex)")
    made = papers.sheets(papers.read(papers.folders()))
    body = "\n".join(formats.latex(table) + r"\clearpage" for table in made.values())
    packages = r"\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
    page = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "all.tex").write_text(page)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert b"Overfull" not in done.stdout
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


# -------------------- the command


def test_the_command_writes_all_tables_in_all_formats(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    assert main(["tables", "--from", str(runs), "--out", str(out)]) == 0
    written = {path.name for path in (out / "tables").iterdir()}
    names = {name.partition(".")[0] for name in written}
    assert {"ali-table-1", "overview-cifar10_semisup"} <= names
    assert written == {f"{name}{ending}" for name in names for ending in (".md", ".csv", ".tex")}
    assert (out / "tables.html").read_text().count("<section") == len(names)
    assert "20.00 ± 1.00" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["nothing there", "damaged rows", "damaged origin"])
def test_folders_that_hold_no_results_are_refused(
    runs: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if damage == "nothing there":
        runs = tmp_path / "nowhere"
    else:
        path = next((runs / "runs").iterdir()) / ("rows.json" if "rows" in damage else "run.json")
        path.write_text(path.read_text()[:-30])
    assert main(["tables", "--from", str(runs), "--out", str(tmp_path / "made")]) == 2
    error = capsys.readouterr().err.strip()
    assert str(runs) in error
    assert "\n" not in error
    assert not (tmp_path / "made").exists()


def test_references_and_models_with_few_seeds_are_never_bold(tmp_path: Path) -> None:
    """By hand: b is far from a; c has the best mean but four seeds; noise is better than all."""
    spread = np.array([0.0, 0.1, -0.1, 0.0, 0.0])
    values: dict[str, Any] = {"a": 1 + spread, "b": 3 + spread, "c": (0.1, 0.1, 0.1, 0.2)}
    for model, of_seeds in values.items():
        for seed, value in enumerate(of_seeds):
            noise = [Measurement("fid", 0.0, reference="noise", protocol="n")] if model == "a" else []
            measured = [Measurement("fid", value, n=9, protocol="n"), *noise]
            store(tmp_path, "mine", model, seed, measured, "digits")
    table = sheet("overview-mine-digits", tmp_path)
    assert table.best["FID ↓"].to_dict() == {"A": True, "noise": False, "B": False, "C": False}
    assert "with 95 % confidence (Welch's t against every other model, Bonferroni)" in table.caption
    frame = results.table("mine-statistics", tmp_path)
    assert frame["p against the best"].tolist() == ["1", "< 0.0001", "not tested"]
    assert frame["seeds"].tolist() == ["5", "5", "4"]
    low, high = map(float, frame["95 % interval"].tolist()[0].split(" to "))
    assert math.isclose((low + high) / 2, 1.0, abs_tol=0.01)
