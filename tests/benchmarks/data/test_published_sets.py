"""Published sets: read from their own files, split as the papers do, or a line says what goes where."""

import gzip
import hashlib
import pickle
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from alibench.benchmarks.data import published
from alibench.benchmarks.data.cache import forget
from alibench.benchmarks.data.datasets import Options, load
from alibench.benchmarks.data.sources import Contents, Part
from alibench.evaluation.errors import BadInput
from alibench.evaluation.store import home
from tests.benchmarks.data.folders import caches, splits


def mixed(array: np.ndarray) -> np.ndarray:
    """Return what a published set holds in the order that its split gets."""
    return array[np.random.RandomState(0).permutation(len(array))]


def test_the_papers_splits_at_their_real_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    def contents(name: str, *sizes: int) -> Contents:
        parts = [Part(np.arange(n), np.arange(n)) for n in sizes]
        monkeypatch.setattr(published.PUBLISHED[name], "open", lambda self, download: (parts, []))
        monkeypatch.setattr(published.PUBLISHED[name], "unpacked", {})  # there are no files
        return published.PUBLISHED[name]().read({}, seed=0)

    for name in ("mnist", "fashion_mnist"):
        order = np.random.RandomState(42).permutation(60_000)
        split = contents(name, 60_000, 10_000)
        assert np.array_equal(split.train.y, mixed(order[:50_000]))
        assert np.array_equal(split.validation.y, mixed(order[50_000:]))
        assert np.array_equal(split.test.y, mixed(np.arange(10_000)))
    split = contents("cifar10", 50_000, 10_000)
    assert np.array_equal(split.train.y, mixed(np.arange(45_000)))
    assert np.array_equal(split.validation.y, mixed(np.arange(45_000, 50_000)))
    for name, sizes in (("svhn", (531_131, 73_257, 26_032)), ("celeba", (162_770, 19_867, 19_962))):
        split = contents(name, *sizes)
        assert (len(split.train), len(split.validation), len(split.test)) == sizes
    with pytest.raises(BadInput, match=r"'mnist' has .* images, not"):
        contents("mnist", 59_999, 10_000)


def idx(folder: Path, kind: str, array: np.ndarray) -> None:
    """Write an array in MNIST's format, packed as it is published."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Publish 30 + 10 digits in a folder, with their checksums."""
    rng = np.random.RandomState(0)
    arrays = {}
    for part, n in (("train", 30), ("t10k", 10)):
        arrays[f"{part}-images-idx3"] = rng.randint(256, size=(n, 28, 28)).astype(np.uint8)
        arrays[f"{part}-labels-idx1"] = (np.arange(n) % 10).astype(np.uint8)
    for kind, array in arrays.items():
        idx(tmp_path / "published", kind, array)
    files = sorted((tmp_path / "published").iterdir())
    checksums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in files]
    monkeypatch.setattr(datasets.MNIST, "resources", checksums)
    monkeypatch.setattr(published.MNIST, "sizes", (25, 5, 10))
    contents = {path.stem: gzip.decompress(path.read_bytes()) for path in files}
    unpacked = {f"MNIST/raw/{name}": hashlib.sha256(raw).hexdigest() for name, raw in contents.items()}
    monkeypatch.setattr(published.MNIST, "unpacked", unpacked)
    return arrays


class Server(BaseHTTPRequestHandler):
    """Serves a folder, of every file so many bytes."""

    folder: ClassVar[Path]
    limit: ClassVar[int | None]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        body = (self.folder / self.path.strip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.limit])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    """Serve what is published from this machine, whole."""
    Server.folder, Server.limit = tmp_path / "published", None
    with HTTPServer(("127.0.0.1", 0), Server) as http:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{http.server_port}/"])
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield Server
        http.shutdown()
        thread.join()


def test_mnist_is_downloaded_split_and_then_opened_from_its_cache(
    small_mnist: dict[str, np.ndarray], server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load("mnist")
    order = np.random.RandomState(42).permutation(30)
    x, y = small_mnist["train-images-idx3"], small_mnist["train-labels-idx1"]
    assert np.array_equal(data.train.x[:, 0], mixed(x[order[:25]]))
    assert np.array_equal(data.train.y, mixed(y[order[:25]]))
    assert np.array_equal(data.validation.x[:, 0], mixed(x[order[25:]]))
    assert np.array_equal(data.test.x[:, 0], mixed(small_mnist["t10k-images-idx3"]))
    assert (data.name, data.classes, len(data.class_names)) == ("mnist", 10, 10)
    assert load("mnist", Options(size=32, channels=3)).shape == (3, 32, 32)
    forget()
    monkeypatch.setattr(published.MNIST, "open", None)  # neither a download nor a reader is needed any more
    assert load("mnist").sha256 == data.sha256


def test_stacks_are_digits_of_their_own_split_as_channels(
    small_mnist: dict[str, np.ndarray], server: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published.StackedMNIST, "unpacked", published.MNIST.unpacked)
    digits, data = load("mnist"), load("stacked_mnist")
    for stacks, split in (
        (data.train, digits.train),
        (data.validation, digits.validation),
        (data.test, digits.test),
    ):
        assert len(stacks) == len(split)
        label = {image.numpy().tobytes(): int(y) for image, y in zip(split.x, split.y, strict=True)}
        for image, y in zip(stacks.x, stacks.y, strict=True):
            a, b, c = (label[channel[None].numpy().tobytes()] for channel in image)
            assert int(y) == 100 * a + 10 * b + c
    assert (data.classes, data.shape) == (1000, (3, 28, 28))
    assert torch.equal(load("stacked_mnist", Options()).train.x, data.train.x)
    assert not torch.equal(load("stacked_mnist", Options(seed=1)).train.x, data.train.x)


def test_a_download_that_breaks_is_not_trusted_later(
    small_mnist: dict[str, np.ndarray], server: type[Server]
) -> None:
    server.limit = 300
    for _ in range(2):
        with pytest.raises(
            BadInput, match=r"'mnist' cannot be downloaded \(.*train-images-idx3-ubyte.gz"
        ) as caught:
            load("mnist")
        assert "\n" not in str(caught.value)
        assert caches() == {}
    server.limit = None
    assert len(load("mnist").train) == 25


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz, MNIST/raw/train-labels-idx1-ubyte.gz"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("svhn", "extra_32x32.mat, train_32x32.mat, test_32x32.mat"),
        ("celeba", "celeba/img_align_celeba (img_align_celeba.zip unpacked), celeba/list_attr_celeba.txt"),
    ],
)
def test_offline_the_message_says_what_goes_where(
    name: str, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9/"  # nobody listens there
    monkeypatch.setattr(datasets.MNIST, "mirrors", [nowhere])
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [nowhere])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{nowhere}cifar-10-python.tar.gz")
    sources = {split: [nowhere, *rest] for split, (_, *rest) in datasets.SVHN.split_list.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", sources)
    monkeypatch.setitem(sys.modules, "gdown", None)  # as where it is not installed
    with pytest.raises(BadInput) as caught:
        load(name)
    message = str(caught.value)
    assert message.startswith(f"dataset '{name}' cannot be downloaded (")
    assert f"put {files}" in message
    assert f" into {home() / 'raw'}, or try again with a network" in message
    assert "\n" not in message
    assert name != "celeba" or "'gdown' is required" in message


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        _flipped,  # one pixel: its header and its size are right
        lambda content: content[:5000],
        lambda content: gzip.compress(content),  # packed, under the name of what it holds
        lambda content: content[:16],
        lambda content: b"",
    ],
)
def test_damaged_raw_files_are_named(
    small_mnist: dict[str, np.ndarray], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    raw = home() / "raw" / "MNIST" / "raw"
    shutil.copytree(tmp_path / "published", raw)
    assert len(load("mnist").train) == 25  # what was put there by hand is used

    # although the packed file lies beside it
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    forget()
    with pytest.raises(BadInput, match="'mnist' cannot be read") as caught:
        load("mnist")
    assert "(MNIST/raw/train-images-idx3-ubyte: not as published): remove MNIST/raw/" in str(caught.value)

    # the remedy helps, without a network
    for name in published.MNIST.needed:
        (home() / "raw" / name).unlink()
    assert len(load("mnist").train) == 25


def test_damaged_packed_files_are_named(
    small_mnist: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    raw = home() / "raw" / "MNIST" / "raw"
    shutil.copytree(tmp_path / "published", raw)
    file = raw / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(_flipped(file.read_bytes()))
    with pytest.raises(BadInput, match=r"; not as published: MNIST/raw/t10k-labels-idx1-ubyte.gz\): put "):
        load("mnist")
    assert caches() == {}


def test_cifar10_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rng = home() / "raw" / "cifar-10-batches-py", np.random.RandomState(0)
    folder.mkdir(parents=True)
    x, y = rng.randint(256, size=(18, 3, 32, 32)).astype(np.uint8), np.arange(18) % 10

    def publish(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batches = [
        publish(f"b{i}", {"data": x[i : i + 6].reshape(6, -1), "labels": [*y[i : i + 6]]}) for i in (0, 6, 12)
    ]
    _, checksum = publish("batches.meta", {"label_names": [*"abcdefghij"]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", batches[:2])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", batches[2:])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": checksum}
    )
    monkeypatch.setattr(published.CIFAR10, "sizes", (9, 3, 6))
    data = load("cifar10")
    for split, part in zip(splits(data), (slice(9), slice(9, 12), slice(12, 18)), strict=True):
        assert np.array_equal(split.x, mixed(x[part]))
        assert split.y.tolist() == mixed(y[part]).tolist()
    assert data.class_names == tuple("abcdefghij")


def test_svhn_trains_on_its_extra_images(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, rng = home() / "raw", np.random.RandomState(0)
    raw.mkdir(parents=True)
    sizes, arrays, sources = {"extra": 8, "train": 5, "test": 4}, {}, {}
    for split, n in sizes.items():
        arrays[split] = rng.randint(256, size=(n, 3, 32, 32)).astype(np.uint8)
        path = raw / f"{split}_32x32.mat"
        labels = np.arange(1, n + 1, dtype=np.uint8)[:, None]  # SVHN calls a 0 10
        scipy.io.savemat(
            path, {"X": arrays[split].transpose(2, 3, 1, 0), "y": np.where(labels == 8, 10, labels)}
        )
        sources[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", sources)
    monkeypatch.setattr(published.SVHN, "sizes", tuple(sizes.values()))
    data = load("svhn")
    for split, array in zip(splits(data), arrays.values(), strict=True):
        assert np.array_equal(split.x, mixed(array))
    assert data.train.y.tolist() == mixed(np.array([1, 2, 3, 4, 5, 6, 7, 0])).tolist()
    assert data.class_names == tuple("0123456789")


def test_celeba_has_the_papers_crop_and_its_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rng = home() / "raw" / "celeba", np.random.RandomState(0)
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{n:06}.jpg" for n in range(1, 9)]
    for name in names:
        noise = Image.fromarray(rng.randint(256, size=(20, 16, 3)).astype(np.uint8))
        noise.resize((178, 218)).save(folder / "img_align_celeba" / name)
    attributes = rng.randint(2, size=(8, 40))
    rows = {name: " ".join(map(str, 2 * row - 1)) for name, row in zip(names, attributes, strict=True)}
    titles = " ".join(f"Attribute_{i}" for i in range(40))
    (folder / "list_attr_celeba.txt").write_text(
        f"8\n{titles} \n" + "".join(f"{n} {r}\n" for n, r in rows.items())
    )
    for table in ("list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        (folder / table).write_text("8\nx\n" + "".join(f"{name} 1\n" for name in names))
    (folder / "identity_CelebA.txt").write_text("".join(f"{name} 1\n" for name in names))
    parts = [0, 0, 0, 2, 1, 1, 0, 2]
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True))
    )
    monkeypatch.setattr(
        datasets.CelebA, "file_list", [(i, None, name) for i, _, name in datasets.CelebA.file_list]
    )
    monkeypatch.setattr(published.CelebA, "sizes", (4, 2, 2))
    data = load("celeba")
    assert (data.shape, data.classes, data.labels) == ((3, 64, 64), 0, 40)
    assert data.class_names == tuple(titles.split())
    for split, published_so in zip(splits(data), ([0, 1, 2, 6], [4, 5], [3, 7]), strict=True):
        members = mixed(np.array(published_so))
        assert split.y.dtype == torch.uint8
        assert np.array_equal(split.y, attributes[members])
        for x, member in zip(split.x, members, strict=True):
            with Image.open(folder / "img_align_celeba" / names[member]) as image:
                whole = np.asarray(image.resize((64, 78), Image.Resampling.LANCZOS))
            assert np.array_equal(x, whole[7:71].transpose(2, 0, 1))
    (folder / "img_align_celeba" / names[2]).unlink()
    forget()
    with pytest.raises(BadInput, match=r"000003\.jpg cannot be read"):
        load("celeba")
