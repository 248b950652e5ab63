"""The inception score's formula with a known mixture's exact posterior in place of a classifier's.

ALICE (Li et al. 2017) scores its toy by "ICP", the same formula with a classifier fitted to the five
components. The exact posterior needs no fitting; the score is at most the number of components, and like the
original it asks only that samples can be told apart and spread evenly: it does not see how far they are from
the data.
"""

from typing import Any

import torch
from torch import Tensor

from alibench.evaluation import protocols
from alibench.evaluation.data import Data, Mixture
from alibench.evaluation.measurement import Column, Measurement, not_sampled
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject

COLUMNS = (Column("mixture_score", "mixture score", "higher", 2),)


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Data need a known mixture, which has a posterior."""
    return "" if data.mixture else f"dataset '{data.name}' is not a known mixture"


def score(samples: Tensor, mixture: Mixture) -> float:
    """Return exp(E_x KL(p(k|x) || p(k))) over samples (N, D), p(k) the mean of p(k|x)."""
    squares = torch.cdist(samples.double(), mixture.centres.double()).square()
    posterior = torch.log_softmax(-squares / (2 * mixture.std**2), dim=1)
    # a component that no sample has would give log 0
    marginal = posterior.exp().mean(0).clamp(min=1e-300).log()
    return float((posterior.exp() * (posterior - marginal)).sum(1).mean().exp())


def _measured(samples: Tensor, mixture: Mixture | None, **fields: Any) -> list[Measurement]:
    assert mixture is not None
    value, unit = score(samples, mixture), f"at most {len(mixture.centres)}"
    fields["protocol"] = protocols.EXACT_POSTERIOR
    return [Measurement("mixture_score", value, unit, len(samples), **fields)]


def measure(subject: Subject) -> list[Measurement]:
    """Return the score of the model's samples."""
    if not subject.model.generative:
        return not_sampled(COLUMNS)
    return _measured(subject.samples, subject.data.mixture)


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the score of real held-out data."""
    real = source.held_out.x
    return _measured(real, source.data.mixture, reference="held-out data", split=source.split)
