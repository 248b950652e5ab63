"""BiGAN's training next to its authors' log: each number by another way."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from alibench import load_run
from alibench.benchmarks.data import datasets
from alibench.benchmarks.studies import official_log
from alibench.benchmarks.studies.official_log import CODE, DISTANCE, HIDDEN, LOSS_OF_D, LOSS_OF_OTHERS
from alibench.evaluation.data import Data, as_float
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from tests.conftest import build


def test_losses_are_the_means_of_two_terms_at_the_end() -> None:
    step = np.arange(10, 210, 10)
    curves = pd.DataFrame({"step": step, "loss discriminator": 2.0 * step, "loss generator": 0.0 * step})
    curves.loc[18:, "loss generator"] = 8.0
    # a tenth of 200 updates: the ticks after 180
    assert official_log.losses(curves) == {LOSS_OF_D: 195.0, LOSS_OF_OTHERS: 4.0}


def test_accuracies_and_distance_are_those_of_plain_code() -> None:
    data, model = datasets.load("digits"), build("bigan")
    numbers = official_log.distances(Subject(model, data, Settings(labels="all"), 0, "validation"))
    train, held_out = as_float(data.train.x), as_float(data.validation.x)
    with torch.no_grad():
        for name, features in (
            (HIDDEN, lambda x: list(model.encoder.hidden(x).values())[-1]),
            (CODE, model.encoder.raw),
        ):
            one = KNeighborsClassifier(1, algorithm="brute").fit(features(train).flatten(1), data.train.y)
            expected = 100 * one.score(features(held_out).flatten(1), data.validation.y)
            assert numbers[name] == pytest.approx(expected)
        again = model.decoder(model.encoder(held_out))
    away = np.sqrt(((held_out - again).double().flatten(1).numpy() ** 2).sum(1)).mean()
    assert numbers[DISTANCE] == pytest.approx(away, rel=1e-5)


def test_each_number_of_the_log_stands_beside_ours() -> None:
    table = official_log.beside({1: {LOSS_OF_D: 0.4, CODE: 90.0}})
    assert len(table) == 20
    first = table[(table.epoch == 1) & (table.metric == LOSS_OF_D)].iloc[0]
    assert (first.published, first.here) == (0.4239, 0.4)
    last = table[(table.epoch == 400) & (table.metric == CODE)].iloc[0]
    assert last.published == 92.1
    assert table.here.notna().sum() == 2


def test_the_command_measures_the_trained_bigan_of_an_output(
    quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Data
) -> None:
    log = tmp_path / "new" / "log.csv"
    monkeypatch.setattr(official_log, "LOG", log)
    monkeypatch.setattr(official_log, "EPOCH", 4)  # as many updates as the runs have
    monkeypatch.setattr(sys, "argv", ["official_log", str(quick)])
    official_log.main()

    table = pd.read_csv(log).set_index(["epoch", "metric"])
    assert table.here.notna().groupby("epoch").all().to_dict() == {1: True, 25: False, 200: False, 400: False}
    model = load_run(quick / "runs" / "digits-bigan-seed0")
    x = as_float(digits.validation.x)
    away = (x - model.reconstruct(x)).flatten(1).norm(dim=1).mean()
    assert table.here[1, DISTANCE] == pytest.approx(float(away), rel=1e-5)
