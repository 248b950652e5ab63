"""Objects of other libraries are measured as models are, arrays and tensors alike, and by the code alone."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from alibench import evaluate
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.settings import Settings
from alibench.results import tables
from tests.conftest import build

FEW = Settings(labels=50, draws=2)


def test_numbers_on_the_code_alone_say_so_in_their_row_and_below_their_table(digits: Data) -> None:
    metrics = ["svm", "neighbours", "probe"]
    own = SimpleNamespace(encode=lambda x: x.flatten(1)[:, 20:28])
    few = Settings(labels=50, draws=1)
    alone = evaluate(own, digits, metrics, few)
    accuracies = alone[alone.metric.str.endswith("_accuracy")]
    assert set(accuracies.protocol) == {
        *("C by validation, code alone", "C by labels, code alone"),
        *("k = 1, code alone", "k = 5, code alone", "penalty by validation, code alone"),
    }
    standardised = evaluate(own, digits, ["svm"], replace(few, standardise=True))
    assert "C by validation, code alone, standardised" in set(standardised.protocol)
    others = evaluate(build("vae").eval(), digits, ["neighbours"], few)
    assert not others.protocol.str.contains("alone").any()
    # hidden layers that it shows are no longer the code alone
    shown = SimpleNamespace(
        encode=own.encode, features=lambda x: {"first": x.flatten(1), "code": own.encode(x)}
    )
    assert not evaluate(shown, digits, ["neighbours"], few).protocol.str.contains("alone").any()

    frames = []
    for name, frame in (("mine", alone), ("vae", others)):
        more = {
            "suite": "digits",
            "model": name,
            "title": f"The {name}",
            "dataset": "digits",
            "weights": "raw",
        }
        frames.append(frame.assign(run_id=f"digits-{name}-seed0", seed=0, **more))
    made = tables.tables(pd.concat(frames))
    for table in ("digits-svm", "digits-neighbours"):
        assert "The mine: the code alone, without hidden layers" in made[table].caption
        assert "The vae" not in made[table].caption


def test_arrays_of_an_object_are_as_good_as_tensors(digits: Data) -> None:
    def noise(n: int, rng: torch.Generator) -> Tensor:
        return torch.rand(n, 1, 8, 8, generator=rng)

    ours = SimpleNamespace(
        sample=noise,
        encode=lambda x: x.flatten(1)[:, :8],
        decode=lambda z: z.repeat(1, 8).view(-1, 1, 8, 8),
        features=lambda x: {"first": x.flatten(1), "code": x.flatten(1)[:, :8]},
    )
    theirs = SimpleNamespace(
        sample=lambda n, rng: noise(n, rng).numpy().astype(np.float64),
        encode=lambda x: x.flatten(1).numpy()[:, :8],
        decode=lambda z: np.asfortranarray(ours.decode(z).numpy()),
        features=lambda x: {name: h.numpy() for name, h in ours.features(x).items()},
    )
    metrics = ["fidelity", "reconstruction", "neighbours"]
    frames = [evaluate(own, digits, metrics, FEW) for own in (ours, theirs)]
    assert frames[0].value.notna().any()
    assert frames[0].value.tolist() == pytest.approx(frames[1].value.tolist(), nan_ok=True)


@pytest.mark.parametrize("method", ["sample", "decode"])
@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_images_of_0_to_255_are_refused_with_the_remedy(method: str, make: Any, digits: Data) -> None:
    def whole(n: int | Tensor) -> Any:
        return make(
            (n if isinstance(n, int) else len(n), 1, 8, 8),
            dtype=np.uint8 if make is np.zeros else torch.uint8,
        )

    own = SimpleNamespace(encode=lambda x: x.flatten(1), **{method: whole})
    with pytest.raises(
        BadInput, match=rf"{method} returned uint8: images are floats in \[0, 1\], divide them by 255"
    ):
        evaluate(own, digits, ["fidelity" if method == "sample" else "reconstruction"], FEW)


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 1), (8, 8)])
def test_images_of_another_shape_than_the_datas_are_refused(shape: tuple[int, ...], digits: Data) -> None:
    own = SimpleNamespace(
        sample=lambda n: np.zeros((n, *shape)),
        encode=lambda x: x.flatten(1),
        decode=lambda z: np.zeros((len(z), *shape)),
    )
    for metric, what in (("fidelity", "sample"), ("reconstruction", "decode of 355 codes")):
        with pytest.raises(BadInput) as refused:
            evaluate(own, digits, [metric], FEW)
        assert str(refused.value).startswith(what)
        assert str(refused.value).endswith("x of shape (1, 8, 8), as the data have it, are needed")
