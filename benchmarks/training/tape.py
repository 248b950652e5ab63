"""The gradients of an update on a CPU, as the list of torch's operations that autograd once made.

Small networks spend half of an update on bookkeeping: a graph is built, walked and thrown away, the same one
every time. Here it is walked once more while torch.fx writes down the operations; from then on the list is
run. The operations are the same, so the numbers are, to the last bit. The next update compares both ways
before the list is trusted.

A recording must depend on the batch and the parameters alone, as a model's contract has it (models/base.py).
A model that reads a number on the host, or has another state, is trained without, and a line says so.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from alibench.benchmarks.training.gradients import Learners
from alibench.evaluation.messages import say
from alibench.models.base import Batch

WARM = 20  # updates before one is recorded: a short training does not pay for it
SAME = (torch.ops.aten.alias.default, torch.ops.aten.detach.default)  # return the tensor itself
TRANSPOSE = torch.ops.aten.t.default

# Sets the gradients of the learners' parameters; returns mean losses and logits by name.
Backward = Callable[[Batch, Learners], dict[str, Tensor]]


class Tape:
    """Sets the gradients of a group of learners: by autograd, later from a recording.

    `buffers` are the model's, which an update moves too.
    """

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        self.buffers, self.updates = buffers, 0
        self.names: list[str] = []  # of what is monitored
        self.run: Callable[..., tuple[list[Tensor], list[Tensor]]] | None = None
        self.reason = ""  # why nothing is recorded after all

    def __call__(self, backward: Backward, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Do what `backward` does; return what it returns."""
        self.updates += 1
        if self.reason or self.updates <= WARM:
            return backward(batch, learners)
        if self.run is None:
            return self._record(backward, batch, learners)
        if self.updates == WARM + 2:
            return self._compare(backward, batch, learners)
        return self._replay(batch, learners)

    def _record(self, backward: Backward, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Learn by autograd, and record its operations."""
        monitored: dict[str, Tensor] = {}

        def update(*tensors: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
            monitored.update(backward(_filled(batch, tensors), learners))
            return list(monitored.values()), _gradients(learners)

        # Recording runs the update: what it moved is put back if it fails.
        before = self._copies()
        try:
            graph = make_fx(update)(*_tensors(batch))
        except Exception as error:  # whatever a model does that cannot be recorded
            self._put_back(before)
            self._give_up((str(error).splitlines() or [type(error).__name__])[0])
            return backward(batch, learners)
        self.run, self.names = _shortened(graph).forward, list(monitored)
        return monitored

    def _compare(self, backward: Backward, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Learn by autograd, and check that the recording gives the same."""
        # by the recording
        before = self._copies()
        replayed = self._replay(batch, learners)
        numbers = [*replayed.values(), *_gradients(learners), *self._copies()]

        # by autograd, from the same state
        self._put_back(before)
        monitored = backward(batch, learners)
        expected = [*monitored.values(), *_gradients(learners), *self._copies()]
        if not all(_same(a, b) for a, b in zip(numbers, expected, strict=True)):
            self._give_up("its numbers depend on more than batch and parameters")
        return monitored

    def _replay(self, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Run the recording."""
        assert self.run is not None
        with torch.no_grad():
            monitored, gradients = self.run(*_tensors(batch))
        for p, gradient in zip((p for own in learners.values() for p in own), gradients, strict=True):
            p.grad = gradient
        return dict(zip(self.names, monitored, strict=True))

    def _copies(self) -> list[Tensor]:
        """Return what else an update moves: buffers, and the generator that nn.Dropout draws from."""
        return [*(buffer.clone() for buffer in self.buffers), torch.get_rng_state()]

    def _put_back(self, copies: Sequence[Tensor]) -> None:
        *buffers, generator = copies
        for buffer, copy in zip(self.buffers, buffers, strict=True):
            buffer.copy_(copy)
        torch.set_rng_state(generator)

    def _give_up(self, reason: str) -> None:
        """Record nothing from now on, and report why."""
        self.reason, self.run = reason, None
        say(f"an update cannot be recorded: {reason}; it is trained without (execution=eager)")


def _gradients(learners: Learners) -> list[Tensor | None]:
    return [p.grad for own in learners.values() for p in own]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Return whether two tensors hold the same numbers; NaNs, of a training that diverges, are the same."""
    return a is b if a is None or b is None else torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _tensors(batch: Batch) -> list[Tensor]:
    """Return all tensors of a batch, in order."""
    return [batch.x, *batch.noise.values(), *(() if batch.y is None else (batch.y,)), *(batch.labelled or ())]


def _filled(like: Batch, tensors: Sequence[Tensor]) -> Batch:
    """Return the batch of which `_tensors` returned these tensors, made as another one."""
    rest = iter(tensors)
    x, noise = next(rest), {name: next(rest) for name in like.noise}
    y = None if like.y is None else next(rest)
    return Batch(x, noise, y, None if like.labelled is None else (next(rest), next(rest)))


def _shortened(module: fx.GraphModule) -> fx.GraphModule:
    """Return the list without operations that return the tensor itself, parameters transposed only once."""
    graph = module.graph

    def replace(node: fx.Node, by: fx.Node) -> None:
        node.replace_all_uses_with(by)
        graph.erase_node(node)

    # Bypass operations that change nothing; a parameter's transpose is a constant view of it.
    for node in list(graph.nodes):
        if node.target not in (*SAME, TRANSPOSE):
            continue
        source: fx.Node = node.args[0]
        if node.target in SAME:
            replace(node, source)
        elif source.target is TRANSPOSE:
            replace(node, source.args[0])  # type: ignore[arg-type]
        elif source.op == "get_attr":
            name = f"{source.target}_transposed"
            parameter = getattr(module, str(source.target))
            module.register_buffer(name, parameter.detach().t())  # a view: it follows the parameter
            with graph.inserting_before(node):
                replace(node, graph.get_attr(name))

    # Erase what nothing uses any more.
    for node in reversed(graph.nodes):
        if (node.target is TRANSPOSE or node.op == "get_attr") and not node.users:
            graph.erase_node(node)
    module.recompile()

    # attributes of the instance are found at once, where nn.Module looks in three places
    for node in graph.nodes:
        if node.op == "get_attr":
            vars(module)[node.target] = getattr(module, node.target)
    return module
