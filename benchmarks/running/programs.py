"""Encoder and decoder as programs that need nothing of this project, by torch.export and as ONNX.

    encoder   x (B, ...)      -> mean codes z (B, latent)
    decoder   z (B, latent)   -> x (B, ...), for a model with a likelihood its means

B is any number. A conditional model's programs take y as well: classes (B,), int64, or attributes (B, A).
Each program is run on a batch of another size than it was traced with, and compared with the model.
"""

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from alibench.benchmarks.config import blame
from alibench.benchmarks.running.trained import TrainedRun
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.seeds import generator
from alibench.models.base import Model

Side = Literal["encoder", "decoder"]
SIDES: tuple[Side, ...] = ("encoder", "decoder")
TRACED, CHECKED = 3, 5  # samples that a program is traced with, and compared on
TOLERANCE = 1e-4  # a program's difference from the model, as a share of the greatest number, or of 1
REMEDY = "export without programs, that is without --torch-export and --onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the extra "onnx"


@dataclass(frozen=True)
class Programs:
    """Which programs are written. Raises BadInput without the packages that ONNX needs."""

    torch_export: bool = False  # encoder.pt2, decoder.pt2
    onnx: bool = False  # encoder.onnx, decoder.onnx

    def __post_init__(self) -> None:
        missing = [package for package in PACKAGES if self.onnx and find_spec(package) is None]
        if missing:
            packages = ", ".join(missing)
            raise BadInput(f"ONNX needs {packages}: pip install {' '.join(missing)} (extra 'onnx')")


class ExportedSide(nn.Module):
    """A model's encoder or decoder as one function of tensors."""

    def __init__(self, model: Model, side: Side) -> None:
        super().__init__()
        self.model, self.side = model, side

    def forward(self, h: Tensor, y: Tensor | None = None) -> Tensor:
        """Return mean codes of x, or x of codes."""
        return self.model.encode(h, y=y) if self.side == "encoder" else self.model.decode(h, y=y)


def absent(model: Model, side: Side) -> str:
    """Return why a model has no program for a side, or ""."""
    if side == "encoder":
        return f"{model.name} has no encoder" if model.inference == "none" else ""
    return "" if model.inverts else f"{model.name} decodes no codes"


def inputs(model: Model, run: TrainedRun, side: Side, n: int) -> tuple[Tensor, ...]:
    """Return n of what a side takes: x or z and, for a conditional model, labels."""
    rng, shape = generator(n, f"inputs of an exported {side}"), run.origin["data_shape"]
    if side == "decoder":
        h = model.prior(n, rng)
    elif len(shape) == 3:
        h = torch.rand(n, *shape, generator=rng)
    else:
        h = torch.randn(n, *shape, generator=rng) * run.origin["data_scale"]

    # Labels take turns.
    if not model.conditional:
        return (h,)
    labels = run.origin["data_labels"]
    y = torch.arange(n) % labels
    return (h, torch.stack([y == label for label in range(labels)], 1).long() if run.attributes else y)


def write(folder: Path, run: TrainedRun, model: Model, side: Side, programs: Programs) -> dict[str, float]:
    """Write a side's programs; return by file how far each is from the model, at most. Raises BadInput.

    The model, on the CPU, loses the weights that the side does not need.
    """
    network, outputs = ExportedSide(model, side), {}
    with _refusing(run, side), torch.no_grad(), warnings.catch_warnings():
        # what torch's own code is warned of says nothing to a reader
        warnings.simplefilter("ignore")
        traced = _traced(network, inputs(model, run, side, TRACED))

        # a batch of another size
        batch = inputs(model, run, side, CHECKED)
        expected = network(*batch)

        if programs.torch_export:
            outputs[f"{side}.pt2"] = _write_torch(folder / f"{side}.pt2", traced, batch)
        if programs.onnx:
            outputs[f"{side}.onnx"] = _write_onnx(folder / f"{side}.onnx", traced, batch)
        differences = {name: difference(output, expected) for name, output in outputs.items()}

    for name, found in differences.items():
        if not found <= TOLERANCE:  # nor NaN
            problem = f"{name} differs from the model by {found:.2g}, more than {TOLERANCE:g}"
            raise BadInput(f"{run.origin['run_id']}: {problem}: {REMEDY}")
    return differences


def difference(output: Tensor, expected: Tensor) -> float:
    """Return the greatest difference, as a share of the greatest number expected, or of 1 if that is less."""
    return float((output - expected).abs().max() / expected.abs().max().clamp(min=1))


@contextmanager
def _refusing(run: TrainedRun, side: Side) -> Iterator[None]:
    """Turn what torch cannot export into one line. Raises BadInput."""
    try:
        # torch prints what it read of a model before it gives up
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    except (BadInput, OSError):
        raise
    # whatever torch, its compiler or a model of the user's raises
    except Exception as error:
        reason = blame.in_plugin(error) or blame.one_line(error)
        raise BadInput(
            f"{run.origin['run_id']}: its {side} cannot be exported ({reason}): {REMEDY}"
        ) from None


def _traced(network: ExportedSide, batch: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Return a side as a program for batches of any size, with the weights that it needs alone."""
    # D's weights would make each file twice as large. What is asked of a network but its weights stays.
    model, expected = network.model, network(*batch)
    for name, part in list(model.named_children()):
        shell = copy.copy(part)
        shell._parameters, shell._buffers, shell._modules = {}, {}, {}
        setattr(model, name, shell)
        try:
            needed = not torch.equal(network(*batch), expected)
        except Exception:  # whatever its code raises without them
            needed = True
        if needed:
            setattr(model, name, part)

    # By the compiler's reading of the code: a plain trace would fix the size where code asks len(x).
    sizes = [{0: torch.export.Dim("batch")}] * len(batch)
    program = torch.export.export(network, batch, dynamic_shapes=sizes, strict=True)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # which names files of this machine
    return program


def _write_torch(path: Path, program: torch.export.ExportedProgram, batch: tuple[Tensor, ...]) -> Tensor:
    """Write a program as torch keeps it; return its output for a batch."""
    file = io.BytesIO()
    torch.export.save(program, file)
    files.replace(path, file.getvalue())
    output: Tensor = program.module()(*batch)
    return output


def _write_onnx(path: Path, program: torch.export.ExportedProgram, batch: tuple[Tensor, ...]) -> Tensor:
    """Write a program as ONNX, weights within; return what onnxruntime makes of a batch by that file."""
    import onnxruntime  # the package is an extra

    names = (["x", "z"] if path.stem == "encoder" else ["z", "x"]) + ["y"] * (len(batch) - 1)
    # one file, weights within
    translated = torch.onnx.export(
        program,
        input_names=[names[0], *names[2:]],
        output_names=[names[1]],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert translated is not None
    files.replace(path, translated.model_proto.SerializeToString())

    # by the file itself
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {put.name: h.numpy() for put, h in zip(session.get_inputs(), batch, strict=True)}
    return torch.from_numpy(session.run(None, taken)[0])
