"""The papers' tables, published numbers beside this suite's own, made from stored rows without training.

A table is data: which published rows it has, and which runs of which suite measure the same. Published
numbers and own ones have columns of their own. A number measured on other data, by another protocol or with
another number of labels does not come into a column that says otherwise; how far the runs were trained stands
below. Cells never run stay empty.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pandas as pd

from alibench.evaluation import protocols
from alibench.evaluation.errors import BadInput, check_name
from alibench.results import formats, rows, stored, tables
from alibench.results.formats import Sheet
from alibench.results.layouts import CATALOGUE, OVERVIEW, Cell

PUBLISHED = Path(__file__).parent / "published.csv"
REFERENCE = Path(__file__).parent / "reference"


@dataclass(frozen=True)
class Theirs:
    """A column of published numbers."""

    title: str
    metric: str  # in published.csv
    labels: str = ""  # number of labels, where a table has several
    beside: tuple[str, ...] = ()  # metrics whose values stand behind the number, in brackets


@dataclass(frozen=True)
class Ours:
    """A column of this suite's numbers."""

    title: str
    cell: Cell
    labels: int | None = None
    extremes: bool = False  # whether smallest and largest stand behind, in brackets


@dataclass(frozen=True)
class Line:
    """A line of a table: the published name, and the runs that measure the same, where there are any."""

    model: str
    suite: str = ""
    entry: str = ""  # row of the suite's tables
    cell: Cell | None = None  # where it is measured otherwise than the column says


@dataclass(frozen=True)
class Paper:
    """A published table."""

    name: str
    caption: str
    source: str  # in published.csv, as the next three
    table: str
    dataset: str
    columns: tuple[Theirs | Ours, ...]
    lines: tuple[Line, ...]  # published models without a line of their own follow
    data: str  # this suite's name of the data set
    schedule: str = ""  # published
    notes: tuple[str, ...] = ()


ALI = "ALI (Dumoulin et al., ICLR 2017)"
ALICE = "ALICE (Li et al., NeurIPS 2017) notebook"
CLASSES = Cell("class_accuracy", derived="error")
SVM = Cell("svm_accuracy", protocols.C_BY_VALIDATION, derived="error")
SUM = (
    "Here an error is the squared distance summed over the two coordinates, published is very likely their "
    "mean; a score is "
    "here that of the mixture's exact posterior, published that of a fitted classifier.",
)


def _sweep(dataset: str, score: str, data: str = "") -> Paper:
    return Paper(
        f"alice-{data or dataset.lower().replace('-', '')}",
        f"ALICE's sweep over λ, the weight of the cycle's error, on {dataset}",
        ALICE,
        "CE weight sweep",
        dataset,
        (Theirs("score, published", score), Theirs("MSE, published", "reconstruction MSE")),
        (),
        data or dataset.lower(),
        notes=("No suite here trains ALICE on this data set yet.",),
    )


PAPERS = (
    Paper(
        "ali-table-1",
        "ALI, table 1: SVHN, test error with 1,000 labels, %",
        ALI,
        "Table 1 (SVHN semi-supervised)",
        "SVHN",
        (Theirs("published", "test error %"), Ours("here", CLASSES, 1000)),
        (
            Line("VAE (M1+M2)"),
            Line("SWWAE with dropout"),
            Line("DCGAN + L2-SVM", "svhn", "GAN + regression, features of D", SVM),
            Line("SDGM"),
            Line("GAN (feature matching)", "svhn_semisup", "ssgan"),
            Line("ALI (L2-SVM)", "svhn", "ali", SVM),
            Line("ALI (no feature matching)", "svhn_semisup", "ssali"),
        ),
        "svhn",
        schedule="531,200 updates (ALI, table 4; none is published for K+1 training)",
        notes=(
            "The labels here are drawn from SVHN's train, as in the paper; C is chosen on its last 10,000 "
            "images.",
        ),
    ),
    Paper(
        "ali-table-2",
        "ALI, table 2: CIFAR-10, test error by the number of labels, %",
        ALI,
        "Table 2 (CIFAR-10 semi-supervised)",
        "CIFAR-10",
        tuple(
            column
            for labels in (1000, 2000, 4000, 8000)
            for column in (
                Theirs(f"{labels:,} labels, published", "test error %", str(labels)),
                Ours(f"{labels:,} labels, here", CLASSES, labels),
            )
        ),
        (
            Line("Ladder network"),
            Line("CatGAN"),
            Line("GAN (feature matching)", "cifar10_semisup", "ssgan"),
            Line("ALI (no feature matching)", "cifar10_semisup", "ssali"),
        ),
        "cifar10",
        schedule="2,913,750 updates (ALI, table 3; none is published for K+1 training)",
    ),
    Paper(
        "ali-25-gaussians",
        "ALI, section 4.5: modes of 25 Gaussians with at least one sample nearest to them, ten runs with "
        "settings drawn at "
        "random; smallest and largest in brackets",
        ALI,
        "Section 4.5 toy 25-Gaussian grid (10 runs)",
        "25-Gaussian grid",
        (
            Theirs(
                "modes, published",
                "modes covered (of 25) mean",
                beside=("modes covered (of 25) min", "modes covered (of 25) max"),
            ),
            Ours("modes, here", Cell("modes_paper", protocols.NEAREST_CENTRE), extremes=True),
            Ours("modes by the 3σ rule, here", Cell("modes_3sigma", protocols.THREE_SIGMA), extremes=True),
        ),
        (Line("ALI", "grid25_paper", "ali"), Line("GAN", "grid25_paper", "gan")),
        "grid25",
        schedule="200,000 updates (the released script)",
        notes=(
            "The paper's ranges of settings are not published, those here are this suite's own: not the "
            "same experiment. "
            "Uniform noise has 25 modes by the paper's rule and none by the 3σ rule.",
        ),
    ),
    Paper(
        "bigan-table-1",
        "BiGAN, table 1: permutation-invariant MNIST, 1-NN accuracy on the last hidden layer, %",
        "BiGAN (Donahue et al., ICLR 2017)",
        "Table 1",
        "MNIST (permutation invariant)",
        (Theirs("published", "1-NN test accuracy %"), Ours("here", Cell("nn_accuracy"))),
        (
            Line("BiGAN", "mnist_bigan", "bigan"),
            Line("Discriminator (D)", "mnist_bigan", "GAN + regression, features of D"),
            Line("Latent regressor (LR)", "mnist_bigan", "gan"),
            Line("Joint latent regressor (JLR)", "mnist_bigan", "gan-jlr"),
            Line("Autoencoder l2", "mnist_bigan", "ae"),
            Line("Autoencoder l1", "mnist_bigan", "ae-l1"),
        ),
        "mnist",
        schedule="156,000 updates (400 epochs)",
    ),
    replace(
        _sweep("5-GMM toy", "inception score (5-way classifier)", "alice_toy"),
        caption="ALICE's sweep over λ on five Gaussians, 576 runs; beside them ours at one setting",
        table="576-run hyper-parameter grid",
        columns=(
            Theirs("score, published", "inception score (5-way classifier)"),
            Ours("mixture score, here", Cell("mixture_score")),
            Theirs("MSE, published", "reconstruction MSE"),
            Ours("squared error, here", Cell("reconstruction_error", protocols.DRAWN_CODE)),
            Ours("modes, 3σ rule, of 5, here", Cell("modes_3sigma")),
        ),
        lines=(
            Line("ALI (lambda=0)", "alice_toy", "ali"),
            Line("ALICE (lambda=0.01)"),
            Line("ALICE (lambda=0.1)"),
            Line("ALICE (lambda=1)", "alice_toy", "alice"),
            Line("ALICE (lambda=10)"),
            Line("ALICE, adversarial cycle (lambda=0.1)", "alice_toy", "alice-adversarial"),
        ),
        schedule="1,600 rounds",
        notes=SUM,
    ),
    _sweep("MNIST", "inception score (MNIST classifier)", "mnist"),
    _sweep("CIFAR-10", "inception score", "cifar10"),
)


@cache
def published() -> pd.DataFrame:
    """Return the published numbers, a line each with its source; `bar` is as printed, and `bar_in_std` what
    it is.
    """
    return pd.read_csv(
        PUBLISHED, dtype={"labels": "string", "bar_in_std": "float64"}, keep_default_na=False, na_values=[""]
    )


def _number(value: float) -> str:
    return f"{value:.10g}"


def _theirs(own: pd.DataFrame, model: str, column: Theirs) -> tuple[str, str]:
    """Return a published cell, and the footnote that it needs."""
    found = own[(own.model == model) & (own.metric == column.metric)]
    if column.labels:
        found = found[found.labels == column.labels]
    if found.empty:
        return "", ""
    row = found.iloc[0]
    text, note = _number(row.value), ""
    if not pd.isna(row.bar):
        multiple = 1.0 if pd.isna(row.bar_in_std) else row.bar_in_std
        text += f" ± {_number(row.bar)}" if multiple == 1 else f" ± {row.bar / multiple:.2f}†"
        if multiple != 1:
            note = f"† printed with {_number(multiple)} standard deviations, shown here with one."
        elif pd.isna(row.bar_in_std):
            text, note = f"{text}‡", "‡ what the bar is was not published."
    if column.beside:
        others = [own[(own.model == model) & (own.metric == metric)].value for metric in column.beside]
        text += f" ({' to '.join(_number(value.iloc[0]) for value in others if len(value))})"
    return text, note


def _ours(frame: pd.DataFrame, line: Line, column: Ours) -> tuple[str, str]:
    """Return a cell of this suite, and how it was trained."""
    cell = replace(line.cell or column.cell, title="")
    own = frame[(frame.suite == line.suite) & (frame.model == line.entry)]
    if column.labels is not None:
        own = own[own.labels == column.labels]
    values = tables.own_values(own, cell)
    if values.empty:
        return "", ""
    digits = CATALOGUE[cell.metric].digits
    text = f"{values.mean():.{digits}f}" + (f" ± {values.std():.{digits}f}" if len(values) > 1 else "")
    if column.extremes:
        text += f" ({_number(values.min())} to {_number(values.max())})"
    steps = sorted(own[own.metric == cell.metric].step.dropna().unique())
    runs = f"{len(values)} seed{'s' * (len(values) > 1)}"
    return text, f"{own.title.iloc[0]} {runs}, {' or '.join(f'{step:,}' for step in steps)} updates"


def sheet(paper: Paper, frame: pd.DataFrame) -> Sheet:
    """Return a published table with this suite's numbers from rows beside it."""
    own = published()
    own = own[(own.source == paper.source) & (own.table == paper.table) & (own.dataset == paper.dataset)]
    # what is drawn from the prior alone belongs to no split
    frame = frame[(frame.dataset == paper.data) & (frame.status == "ok") & frame.split.isin(["test", ""])]
    known = [line.model for line in paper.lines]
    lines = [*paper.lines, *(Line(model) for model in dict.fromkeys(own.model) if model not in known)]
    cells, footnotes, trained = [], [], []
    for line in lines:
        shown = {}
        for column in paper.columns:
            if isinstance(column, Theirs):
                shown[column.title], note = _theirs(own, line.model, column)
                footnotes.append(note)
            else:
                shown[column.title], how = _ours(frame, line, column) if line.suite else ("", "")
                trained.append(how)
        cells.append(shown)
    index = pd.Index([line.model.replace("lambda=", "λ = ") for line in lines], name="model")
    here = list(dict.fromkeys(how for how in trained if how))
    schedule = f" The published schedule: {paper.schedule}." if paper.schedule else ""
    ours = [f"Here: {'; '.join(here)}.{schedule}"] if here else [f"Nothing of it was run here yet.{schedule}"]
    if not any(isinstance(column, Ours) for column in paper.columns):
        ours = []
    first = own.found_in.iloc[0]
    notes = (
        *dict.fromkeys(note for note in footnotes if note),
        *ours,
        *paper.notes,
        f"Published numbers: {first}.",
    )
    return formats.plain(paper.caption + ".", pd.DataFrame(cells, index), notes)


def folders(given: Iterable[Path] = ()) -> list[Path]:
    """Return the folders of results that tables are made from; none given: the committed ones. Raises
    BadInput.
    """
    found = list(given) or sorted(path for path in REFERENCE.iterdir() if (path / "runs").is_dir())
    for folder in found:
        stored.run_folders(folder)
    return found


def read(given: Sequence[Path]) -> pd.DataFrame:
    """Return the rows of all folders. A suite that stands in several is taken from the one with the most
    seeds.

    Raises BadInput for damaged files.
    """
    try:
        frames = [rows.read(folder).assign(folder=folder.name) for folder in given]
    except rows.Damaged as damage:
        raise BadInput(str(damage)) from None
    frame = pd.concat(frames, ignore_index=True)
    kept = []
    for _, own in frame.groupby(["suite", "dataset"], sort=False):
        seeds = own[tables.own(own)].groupby("folder", sort=False).seed.nunique()
        kept.append(own[own.folder == (seeds.idxmax() if len(seeds) else own.folder.iloc[0])])
    return pd.concat(kept, ignore_index=True) if kept else frame


def sheets(frame: pd.DataFrame) -> dict[str, Sheet]:
    """Return the papers' tables and an overview of each suite's data set, by name."""
    made = {paper.name: sheet(paper, frame) for paper in PAPERS}
    for names, own in frame.groupby(["suite", "dataset"], sort=False):
        suite, dataset = map(str, names)
        overview = tables.sheet(own, OVERVIEW)
        if overview is not None:
            name = f"overview-{suite}" + (
                f"-{dataset}" if dataset not in suite and suite not in dataset else ""
            )
            made[name] = overview._replace(notes=(f"From {own.folder.iloc[0]}.",))
    return made


def table(name: str, *given: str | Path) -> pd.DataFrame:
    """Return one table by name, of a paper, an overview, or of a run ("digits-quality"); its cells are texts.

    `given` are folders that `alibench run --out` made; none: the committed results. Raises BadInput for
    another name.
    """
    frame = read(folders(map(Path, given)))
    made = sheets(frame)
    if name not in made:
        made |= tables.tables(frame)
    check_name(name, made, "unknown table")
    return made[name].frame
