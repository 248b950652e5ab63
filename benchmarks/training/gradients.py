"""The gradients of one update: every player's, of its own loss by its own parameters, from one forward pass.

By the book each player takes one backward pass. Where the players differ only in their losses of D's logits,
one pass through D is enough for all of them. D's loss is sent back to D's weights and on to D's inputs, the
pairs. What arrives at a pair is dL_D/dl * dl/dpair, l the pair's logit; the generator needs dL_G/dl *
dl/dpair. So each sample's share is multiplied by (dL_G/dl) / (dL_D/dl), which follows from the game's own
losses (-exp(l) for encoder pairs of ALI), and goes on into encoder and decoder. D's second backward pass, the
largest part of the rest of an update, falls away.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.autograd import grad

from alibench.models.base import Batch, Model, Terms

Learners = Mapping[str, Sequence[Tensor]]  # player -> its trainable parameters
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm

# What is sent back for a sample is at least this steep: a logit of 28, where sigmoid has all but left fp32's
# numbers. Below, the ratio of slopes would overflow. D's own gradient is off by no more than this; the
# generator's not at all.
FLATTEST = 1e-12
DISTURBANCE = 0.05  # deviation of the noise on the weights that `judge_of` probes


def gradients(
    model: Model,
    batch: Batch,
    learners: Learners,
    judge: str | None = None,
    autocast: torch.autocast | None = None,
) -> dict[str, Tensor]:
    """Set each learner's gradients, from one forward pass.

    Returns each mean loss and the mean logit of each kind of pair, on the device. `judge` is the player whose
    backward pass serves all (`judge_of` finds it); without one each learner takes its own.
    """
    # Networks under autocast; losses in fp32.
    with autocast or nullcontext():
        terms = model(batch, tuple(learners))
    if judge:
        means = _shared(model, terms, batch.y, learners, judge)
    else:
        means = _separate(model, terms, batch.y, learners)

    losses = {f"loss {player}": mean.detach() for player, mean in means.items()}
    return losses | {f"logit {kind}": logits.detach().mean() for kind, logits in terms.logits.items()}


def set_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Set the gradients of parameters, in their memory format: fused optimisers walk both by address."""
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)


def _separate(model: Model, terms: Terms, y: Tensor | None, learners: Learners) -> dict[str, Tensor]:
    """Take one backward pass a learner; return the mean losses."""
    losses = model.losses(terms, y)
    means = {player: losses[player].mean() for player in learners}
    last = list(learners)[-1]  # after which the graph is not needed
    for player, own in learners.items():
        set_gradients(own, grad(means[player], own, retain_graph=player != last))
    return means


def _shared(
    model: Model, terms: Terms, y: Tensor | None, learners: Learners, judge: str
) -> dict[str, Tensor]:
    """Take one backward pass through D for all learners; return the mean losses."""
    # The game: each player's slope by each logit, dL/dl.
    logits = {kind: value.detach().requires_grad_() for kind, value in terms.logits.items()}
    means = {player: loss.mean() for player, loss in model.game(logits, y).items()}
    slopes = {
        player: dict(zip(logits, grad(mean, list(logits.values()), allow_unused=True), strict=True))
        for player, mean in means.items()
        if player in learners
    }

    # D's pass: to its weights, and on to the pairs.
    sent = {kind: _steep(slopes[judge][kind], value) for kind, value in logits.items()}
    inputs = [(kind, part) for kind in logits for part in terms.pairs[kind] if part.requires_grad]
    own = learners[judge]
    found = grad(list(terms.logits.values()), [*own, *(part for _, part in inputs)], list(sent.values()))
    set_gradients(own, found[: len(own)])
    arrived = found[len(own) :]

    for player, direct in terms.losses.items():
        means[player] = means[player] + direct.mean() if player in means else direct.mean()

    # The others' passes, from the pairs by the ratio of slopes, and from their direct losses.
    others = [player for player in learners if player != judge]
    for player in others:
        ends: list[Tensor] = []
        weights: list[Tensor | None] = []
        for (kind, part), slope_by_part in zip(inputs, arrived, strict=True):
            slope = slopes[player][kind] if player in slopes else None
            if slope is not None:
                ends.append(part)
                weights.append(slope_by_part * (slope / sent[kind]).view(-1, *[1] * (part.dim() - 1)))
        if player in terms.losses:
            ends.append(terms.losses[player].mean())
            weights.append(None)
        set_gradients(
            learners[player], grad(ends, learners[player], weights, retain_graph=player != others[-1])
        )
    return {player: means[player] for player in learners}


def _steep(slope: Tensor | None, logits: Tensor) -> Tensor:
    """Return the slopes (B,) of a mean loss, none of them flatter than FLATTEST a sample."""
    slope = torch.zeros_like(logits) if slope is None else slope
    return slope.abs().clamp_(min=FLATTEST / len(logits)).copysign_(slope)


# -------------------- is one pass exact?


def judge_of(model: Model, batch: Batch, learners: Learners) -> str | None:
    """Return the learner whose one backward pass gives all others' gradients exactly; None if there is none.

    All is read off one forward pass on a small batch. Batch statistics move in it, and so do all parameters
    before it: a slope that is zero at the first weights alone (BiGAN's last layer of D starts at zero) would
    prove nothing. So pass a copy of the model.
    """
    # It takes two learners, and one logit a pair.
    _disturb(model)
    terms = model(batch, tuple(learners))
    scalar = all(logits.dim() == 1 for logits in terms.logits.values())
    if len(learners) < 2 or not terms.logits or not scalar or not terms.logits.keys() <= terms.pairs.keys():
        return None

    # Between the pairs and the logits are one learner's parameters alone (a condition that the generator
    # learns enters D next to the pairs); the pairs are computed, each for itself.
    inputs = {kind: [part for part in terms.pairs[kind] if part.requires_grad] for kind in terms.logits}
    parts = [part for kind in inputs.values() for part in kind]
    owners = {id(p): player for player, own in learners.items() for p in own}
    judges = _owners(terms.logits.values(), parts, owners)
    distinct = len({part.grad_fn for part in parts}) == len(parts)
    if len(judges) != 1 or not distinct or any(part.is_leaf for part in parts):
        return None

    # Batch norm in D mixes pairs.
    (judge,) = judges
    if any(isinstance(module, BatchNorm) and module.training for module in _modules(model, judge)):
        return None

    # No loss but the game's uses D: not a gradient penalty, not feature matching.
    if judge in terms.losses or judge in _owners(terms.losses.values(), (), owners):
        return None

    # No pair depends on another, as a cycle's does.
    if any(other.grad_fn in _depends_on([part]) for part in parts for other in parts if other is not part):
        return None

    # Each logit depends on its own pair alone, as the first one of each kind shows.
    for kind, logits in terms.logits.items():
        slopes = grad(logits[0], parts, retain_graph=True, allow_unused=True)
        for part, slope in zip(parts, slopes, strict=True):
            own = any(part is mine for mine in inputs[kind])
            if slope is not None and (slope[1:] if own else slope).any():
                return None
    return judge


@torch.no_grad()
def _disturb(model: Model) -> None:
    """Move all parameters by noise, so that no slope is zero by construction."""
    rng = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.add_(DISTURBANCE * torch.randn(p.shape, generator=rng).to(p.device, p.dtype))


def _modules(model: Model, player: str) -> Iterator[nn.Module]:
    """Yield all modules of a player's networks."""
    for network in model.players[player]:
        yield from getattr(model, network).modules()


def _depends_on(ends: Iterable[Tensor], stops: Iterable[Tensor] = ()) -> set[object]:
    """Return the nodes of autograd's graph behind some tensors, not beyond others."""
    stopped = {stop.grad_fn for stop in stops}
    nodes: set[object] = set()
    queue = [end.grad_fn for end in ends if end.grad_fn is not None]
    while queue:
        node = queue.pop()
        if node not in nodes and node not in stopped:
            nodes.add(node)
            queue += [behind for behind, _ in node.next_functions if behind is not None]
    return nodes


def _owners(ends: Iterable[Tensor], stops: Iterable[Tensor], owners: Mapping[int, str]) -> set[str]:
    """Return the learners whose parameters lie behind some tensors, not beyond others."""
    leaves = (getattr(node, "variable", None) for node in _depends_on(ends, stops))
    return {owners[id(leaf)] for leaf in leaves if id(leaf) in owners}
