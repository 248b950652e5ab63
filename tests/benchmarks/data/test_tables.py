"""Tables of points: read, split and scaled as said; what cannot be learnt from is named."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.data import datasets, tables
from alibench.benchmarks.data.sources import Options
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import sha256
from alibench.evaluation.store import home
from alibench.results import rows as stored_rows
from alibench.results import stored


def points(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.random.RandomState(seed).randn(n, 3) * (1, 10, 100) + 5, np.arange(n) % 3 // 2


def saved(path: Path, x: np.ndarray, y: np.ndarray) -> str:
    np.savez(path, x=x, y=y)
    return f"table:{path}"


def test_a_table_is_split_by_seed_and_standardised_by_train(tmp_path: Path) -> None:
    x, y = points()
    name = saved(tmp_path / "mine.npz", x, y)
    data = datasets.load(name, Options(seed=3, anomaly=1))
    order = np.random.RandomState(3).permutation(60)
    train = order[:27][y[order[:27]] == 0]
    mean, std = x[train].mean(0), x[train].std(0)
    for split, rows in ((data.train, train), (data.validation, order[27:30]), (data.test, order[30:])):
        np.testing.assert_allclose(split.x.numpy(), (x[rows] - mean) / std, rtol=1e-5, atol=1e-6)
        assert split.y.tolist() == y[rows].tolist()
    assert (data.name, data.classes, data.anomaly, data.shape) == ("mine", 2, 1, (3,))
    # without an anomaly all of the half is trained on
    assert len(datasets.load(name, Options(seed=3)).train) == 27


def test_a_csv_is_the_same_table(tmp_path: Path) -> None:
    x, y = points()
    lines = [
        "a,b,Label,c",
        *(f"{a!r},{b!r},{label},{c!r}" for (a, b, c), label in zip(x.tolist(), y, strict=True)),
    ]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    found = datasets.load(f"table:{tmp_path / 'mine.csv'}", Options(anomaly=1))
    expected = datasets.load(saved(tmp_path / "mine.npz", x, y), Options(anomaly=1))
    assert torch.equal(found.train.x, expected.train.x)
    assert torch.equal(found.test.y, expected.test.y)


X, Y = points()
WRONG = {
    "text": ("a,y\nred,0\nblue,1\n", "holds text in a: encode it in numbers"),
    "no labels": ("a,b\n1,0\n2,1\n", "has no column of labels: call one of them y or label"),
    "nothing": ("", "cannot be read (No columns to parse from file): save a table with a header"),
    "NaN": (
        (np.where(np.arange(60)[:, None] == 7, np.nan, X), Y),
        "1 rows hold NaN or infinity: fill or remove",
    ),
    "one class": ((X, 0 * Y), "its labels are 0: two classes or more are needed, from 0 without gaps"),
    "gaps": ((X, 2 * Y), "its labels are 0, 2: two classes or more"),
    "one axis": ((X[:, 0], Y), "holds x, y: save x (N, D) and y (N,) by numpy.savez"),
    "other rows": (
        (X[:30], Y),
        "holds x float64 (30, 3) and y int64 (60,): numbers (N, D) and (N,) are needed",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_learnt_from_is_named(case: str, tmp_path: Path) -> None:
    contents, said = WRONG[case]
    if isinstance(contents, str):
        (tmp_path / "mine.csv").write_text(contents)
        name = f"table:{tmp_path / 'mine.csv'}"
    else:
        name = saved(tmp_path / "mine.npz", *contents)
    with pytest.raises(BadInput) as caught:
        datasets.load(name, Options(anomaly=1))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_normal_rows_and_no_file_are_named(tmp_path: Path) -> None:
    # the one normal row is in the test half
    y = np.ones(60, int)
    y[np.random.RandomState(0).permutation(60)[-1]] = 0
    with pytest.raises(BadInput, match="no rows are left to train on, or to validate"):
        datasets.load(saved(tmp_path / "mine.npz", X, y), Options(anomaly=1))
    with pytest.raises(BadInput, match="there is no file"):
        datasets.load(f"table:{tmp_path / 'other.npz'}")
    with pytest.raises(BadInput, match="holds points: remove size and channels"):
        datasets.load(saved(tmp_path / "mine.npz", *points()), Options(size=8))


def test_constant_columns_are_said_and_not_divided_by_nothing(tmp_path: Path) -> None:
    x, y = points()
    x[:, 1] = 4.0
    data = datasets.load(saved(tmp_path / "mine.npz", x, y), Options(anomaly=1))
    assert data.splits.endswith("; 1 of 3 columns are constant in train, and not scaled")
    assert not bool(data.train.x[:, 1].any())


def test_published_tables_that_are_missing_or_changed_are_named_with_their_place() -> None:
    for name, table in tables.KNOWN.items():
        with pytest.raises(BadInput) as caught:
            datasets.load(name)
        assert f"put {table.file} there, from " in str(caught.value)
        file = home() / "raw" / table.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"something else")
        with pytest.raises(BadInput, match="is not as published"):
            datasets.load(name)
        file.unlink()


def test_kdds_columns_are_one_hot_and_attacks_are_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = (("tcp", "smurf."), ("udp", "smurf."), ("tcp", "normal."), ("icmp", "back.")) * 10
    rows = [["0", protocol, "http", "SF", *["7"] * 37, kind] for protocol, kind in kinds]
    file = home() / "raw" / tables.KDD99.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("\n".join(map(",".join, rows)).encode()))
    monkeypatch.setattr(tables.KDD99, "sha256", sha256(file))
    x, y = tables.KDD99().read()
    # 34 numbers, three protocols, one value each of six others
    assert x.shape == (40, 34 + 3 + 6)
    assert y.tolist() == [0, 0, 1, 0] * 10
    assert x[:, 34:37].tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]] * 10
    file.unlink()


@pytest.mark.usefixtures("here")
def test_each_seed_of_a_suite_deals_its_own_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = saved(tmp_path / "mine.npz", *points(200))
    suite = tmp_path / "mine.toml"
    suite.write_text(f"""
title = "Mine"
source = "me"
expect = "seconds"
dataset = "{name}"
networks = "arrhythmia"
latent = 2
models = ["bigan", "ae"]
metrics = ["anomaly"]
seeds = 3
[recipe]
steps = 4
batch = 8
[data]
anomaly = 1
seed = 5
resplit = true
""")
    out = tmp_path / "out"
    assert main(["run", str(suite), "--out", str(out), "--device", "cpu"]) == 0
    origins = {path.name: stored.read_origin(path) for path in stored.finished(out)}
    hashes = {
        seed: {o["data_sha256"] for o in origins.values() if o["seed"] == seed and o["step"]}
        for seed in range(3)
    }
    assert [len(found) for found in hashes.values()] == [1, 1, 1]
    assert len(set.union(*hashes.values())) == 3
    for seed in range(3):
        assert datasets.load(name, Options(seed=5 + seed, anomaly=1)).sha256 in hashes[seed]
    # on one of the splits the others' models know test samples
    assert main(["evaluate", str(out), "--out", str(tmp_path / "again"), "--device", "cpu"]) == 2
    assert "its runs have 3 different splits (data.resplit)" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()

    frame = stored_rows.read(out)
    trivial = frame[(frame.metric == "anomaly_auroc") & (frame.model == "nearest neighbour")]
    assert trivial.seed.tolist() == [0, 1, 2]
    assert trivial.value.nunique() > 1
    assert "nearest neighbour" in (out / "tables.md").read_text()
