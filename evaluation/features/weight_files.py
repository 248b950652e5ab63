"""Published weights in files: read without running code, and compared with the network that they are for.

safetensors hold tensors alone, and torch's own files are read as such. What differs is named in one line.
"""

import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from alibench.evaluation import files
from alibench.evaluation.errors import BadInput


def read(file: Path, network: str, remedy: str) -> bytes:
    """Return a file of a network's weights as it is. Raises BadInput, which ends with the remedy."""
    try:
        return files.read(file, "arrays")
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"cannot read {network}'s weights {file} ({reason}): {remedy}") from None


def read_weights(file: Path, raw: bytes, source: str) -> dict[str, Tensor]:
    """Return the tensors in a file of weights: safetensors by its suffix, else torch's.

    Raises BadInput, which names the source of the right file.
    """
    try:
        weights = safetensors.torch.load(raw) if file.suffix == ".safetensors" else _torchs(file, raw)
    except files.Unsafe as problem:
        raise BadInput(str(problem)) from None
    except Exception as error:  # a broken file shows as whatever it breaks: RuntimeError, EOFError, KeyError
        if any(sign in str(error) for sign in ("Unsupported global", "Unsupported class", "TorchScript")):
            said = "holds more than tensors, code that would run: it was not loaded"
            raise BadInput(f"{file} {said}; take {source}") from None
        said = f"cannot be read, it is damaged or cut short ({len(raw):,} bytes)"
        raise BadInput(f"{file} {said}: take {source} again") from None

    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise BadInput(f"{file} holds no weights by name: take {source}")
    return dict(weights)


def _torchs(file: Path, raw: bytes) -> object:
    """Return the contents of torch's own format, of bounded size, without running code."""
    # A small archive may unpack to more than memory holds.
    if zipfile.is_zipfile(io.BytesIO(raw)):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        files.check_size(file, "unpacks to", unpacked, "arrays")

    with warnings.catch_warnings():
        # The refusal of a scripted network comes with a page of advice.
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)


def check(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], network: str) -> None:
    """Raise ValueError for the first tensor whose name or shape is not the network's."""
    # torch lists all differences, hundreds of lines for another network: the first is enough; a file of
    # safetensors is read in any order
    for name in (*expected, *sorted(weights)):
        if name not in weights:
            raise ValueError(f"it has no tensor '{name}'")
        if name not in expected:
            raise ValueError(f"its tensor '{name}' is not {network}'s")

        shape, wanted = tuple(weights[name].shape), tuple(expected[name].shape)
        if shape != wanted:
            raise ValueError(f"its tensor '{name}' has shape {shape}, {network}'s {wanted}")


def another(file: Path, network: str, difference: Exception, source: str) -> BadInput:
    """Return the refusal of a file whose weights are not the network's."""
    line = str(difference).splitlines()[0]
    return BadInput(f"{file} holds the weights of another network than {network}: {line}; take {source}")
