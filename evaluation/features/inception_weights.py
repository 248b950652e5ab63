"""Inception as an extractor: its weights from a file or a verified download.

No file of weights can run code here: safetensors hold tensors alone, and torch's own files are read as such.
"""

import io
import os
import urllib.request
import warnings
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from alibench.evaluation import files
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features.extractor import Extractor
from alibench.evaluation.messages import say
from alibench.evaluation.settings import Settings
from alibench.evaluation.store import home

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
MEGABYTES = 96
TIMEOUT = 30  # seconds without a byte


def path() -> Path:
    """Return where the downloaded weights are, or would be."""
    return home() / "extractors" / INCEPTION


def load(data: Data, settings: Settings, device: torch.device) -> Extractor:
    """Return Inception with the weights that the settings name, or downloaded ones. Raises BadInput."""
    named = settings.inception
    file = Path(os.path.expanduser(named)) if named else path()
    if not named and not file.exists():
        _download(file)
    try:
        raw = files.read(file, "arrays")
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        remedy = "name a file by evaluation.inception"
        raise BadInput(f"cannot read Inception's weights {file} ({reason}): {remedy}") from None

    # A file that the user names may be another version: its hash stands in every result.
    sha256 = files.sha256_of(raw)
    if not named and sha256 != SHA256:
        said = f"{file} is not what was published (sha256 {sha256[:8]}…)"
        raise BadInput(f"{said}: remove it, so that it is downloaded again")

    # The file may be any network's, so what differs is named.
    weights = read_weights(file, raw)
    from alibench.evaluation.features.inception import Inception  # torch-fidelity takes seconds to import

    try:
        network = Inception(weights)
    except (ValueError, RuntimeError) as difference:
        line = str(difference).splitlines()[0]
        raise BadInput(
            f"{file} holds the weights of another network than Inception: {line}; take {INCEPTION} from {URL}"
        ) from None

    network.to(device)
    note = "grey repeated to 3 channels" if data.shape[0] == 1 else ""
    origin = {"source": URL if sha256 == SHA256 else "a file of the user's"}
    return Extractor("inception", sha256, network.width, network, device, note, origin)


def read_weights(file: Path, raw: bytes) -> dict[str, Tensor]:
    """Return the tensors in a file of weights: safetensors by its suffix, else torch's. Raises BadInput."""
    try:
        weights = safetensors.torch.load(raw) if file.suffix == ".safetensors" else _torchs(file, raw)
    except files.Unsafe as problem:
        raise BadInput(str(problem)) from None
    except Exception as error:  # a broken file shows as whatever it breaks: RuntimeError, EOFError, KeyError
        if any(sign in str(error) for sign in ("Unsupported global", "Unsupported class", "TorchScript")):
            said = "holds more than tensors, code that would run: it was not loaded"
            raise BadInput(f"{file} {said}; take {URL}") from None
        said = f"cannot be read, it is damaged or cut short ({len(raw):,} bytes)"
        raise BadInput(f"{file} {said}: take {URL} again") from None

    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise BadInput(f"{file} holds no weights by name: take {URL}")
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


def _download(file: Path) -> None:
    """Download Inception's weights, and keep them if they are what was published. Raises BadInput."""
    # Checked before it is kept, so that the file is right or not there.
    remedy = f"put {INCEPTION} into {file.parent}, or name a file by evaluation.inception"
    say(f"downloading Inception's weights, {MEGABYTES} MB, into {file.parent}")
    try:
        with urllib.request.urlopen(URL, timeout=TIMEOUT) as response:
            raw = response.read()
        if (sha256 := files.sha256_of(raw)) != SHA256:
            raise BadInput(f"{URL} gave something else than was published (sha256 {sha256[:8]}…): {remedy}")
        file.parent.mkdir(parents=True, exist_ok=True)
        files.replace(file, raw)
    except (OSError, HTTPException) as error:
        raise BadInput(f"cannot download Inception's weights from {URL} ({error}): {remedy}") from None
