"""Inception as an extractor: its weights from a file or a verified download."""

import os
import urllib.request
from http.client import HTTPException
from pathlib import Path

import torch

from alibench.evaluation import files
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import weight_files
from alibench.evaluation.features.extractor import GREY, Extractor
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
    raw = weight_files.read(file, "Inception", "name a file by evaluation.inception")

    # A file that the user names may be another version: its hash stands in every result.
    sha256 = files.sha256_of(raw)
    if not named and sha256 != SHA256:
        said = f"{file} is not what was published (sha256 {sha256[:8]}…)"
        raise BadInput(f"{said}: remove it, so that it is downloaded again")

    # The file may be any network's, so what differs is named.
    weights = weight_files.read_weights(file, raw, URL)
    from alibench.evaluation.features.inception import Inception  # torch-fidelity takes seconds to import

    try:
        network = Inception(weights)
    except (ValueError, RuntimeError) as difference:
        raise weight_files.another(file, "Inception", difference, f"{INCEPTION} from {URL}") from None

    network.to(device)
    note = GREY if data.shape[0] == 1 else ""
    origin = {"source": URL if sha256 == SHA256 else "a file of the user's"}
    return Extractor("inception", sha256, network.width, network, device, note, origin)


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
