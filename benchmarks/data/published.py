"""The papers' datasets in the papers' splits; torchvision downloads, verifies and reads them."""

import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from alibench.benchmarks.data.sources import Contents, Options, Part, Source, reading, shuffled, walk
from alibench.evaluation.errors import BadInput
from alibench.evaluation.files import opened
from alibench.evaluation.files import sha256 as digest
from alibench.evaluation.messages import listed
from alibench.evaluation.store import home

# the seed of each split's order: MNIST's first 5,000 test digits are easier than the others
ORDER = 0


class Published(Source):
    """A dataset that torchvision keeps in the folder of downloads."""

    shape: ClassVar[tuple[int, int, int]]  # of an image: channels, height, width
    sizes: ClassVar[tuple[int, int, int]]
    classes: ClassVar[int] = 10
    attributes: ClassVar[int] = 0
    splits: ClassVar[str]
    needed: ClassVar[tuple[str, ...]]  # files and folders that are read
    by_hand: ClassVar[tuple[str, ...]]  # files that a user without a network can put there
    unpacked: ClassVar[Mapping[str, str]] = {}  # SHA-256 of what torchvision reads without a look at it

    def __init__(self) -> None:
        self.raw = home() / "raw"
        self.where = str(self.raw)

    @property
    def is_there(self) -> bool:
        """Whether all that is read was downloaded."""
        return all((self.raw / name).exists() for name in self.needed)

    @abstractmethod
    def open(self, download: bool) -> tuple[list[Part], list[str]]:
        """Return the published splits, and the names of classes or attributes. Raises any Exception."""

    def checksums(self) -> dict[str, str]:
        """Return the MD5 of files that a user puts there, as torchvision knows them."""
        return {}

    def order(self, n: int) -> np.ndarray:
        """Return the order (n,) of training images: first come those of train, then of validation."""
        return np.arange(n)

    def files(self) -> dict[str, str]:
        """Return the files that torchvision reads, downloaded if they are not there. Raises BadInput."""
        if not self.is_there:
            self._check_by_hand()
            self._open(download=True)

        # folders by their files
        paths: dict[str, str] = {}
        for name in self.needed:
            path = str(self.raw / name)
            if os.path.isdir(path):
                paths |= {f"{name}/{file}": f"{path}/{file}" for file in walk(path)}
            else:
                paths[name] = path
        return paths

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the paper's splits, each in a random order. Raises BadInput if they are not as published."""
        with reading():
            damaged = [name for name, sha256 in self.unpacked.items() if digest(files[name]) != sha256]
        if damaged:
            raise BadInput(
                f"dataset '{self.name}' cannot be read ({listed(damaged)}: not as published): {self._remove}"
            )

        # train is split where no validation images are published
        parts, class_names = self._open(download=False)
        if len(parts) == 2:
            train, test = parts
            order = self.order(len(train))
            parts = [train[order[: self.sizes[0]]], train[order[self.sizes[0] :]], test]
        if (sizes := tuple(map(len, parts))) != self.sizes:
            raise BadInput(f"dataset '{self.name}' has {sizes} images, not {self.sizes}: {self._remove}")

        # one after the other, since each is copied
        for number, part in enumerate(parts):
            parts[number] = shuffled(part, ORDER)
        train, validation, test = parts
        classes = len(class_names) if train.y.ndim == 1 else 0
        return Contents(train, validation, test, self.splits, classes, tuple(class_names))

    def _check_by_hand(self) -> None:
        """Refuse pipes and devices, which torchvision would wait for, and files that are too large."""
        with reading():
            for path in (self.raw / name for name in (*self.needed, *self.by_hand)):
                if path.exists() and not path.is_dir():
                    with opened(path, self.largest):
                        pass

    def _open(self, download: bool) -> tuple[list[Part], list[str]]:
        try:
            self.raw.mkdir(parents=True, exist_ok=True)
            return self.open(download)
        # torchvision lets pass whatever it meets on the network, on the disk and in files
        except Exception as error:
            reason = " ".join(str(error).split())
            problem, remedy = "read", self._remove
            if download:
                problem = "downloaded"
                reason += self._damaged_by_hand()
                remedy = f"put {', '.join(self.by_hand)} into {self.raw}, or try again with a network"
            raise BadInput(f"dataset '{self.name}' cannot be {problem} ({reason}): {remedy}") from None

    def _damaged_by_hand(self) -> str:
        """Name the files that a user put there, or a broken download left, and that are not as published."""
        from torchvision.datasets.utils import check_integrity

        there = [(name, self.raw / name, md5) for name, md5 in self.checksums().items()]
        damaged = [name for name, path, md5 in there if path.exists() and not check_integrity(path, md5)]
        return f"; not as published: {listed(damaged)}" if damaged else ""

    @property
    def _remove(self) -> str:
        return f"remove {', '.join(self.needed)} from {self.raw}, so that they are downloaded again"


def _torchvision(name: str) -> Any:
    from torchvision import datasets  # takes seconds to import

    return getattr(datasets, name)


def _idx(dataset: str) -> tuple[str, ...]:
    kinds = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(f"{dataset}/raw/{kind}-ubyte" for kind in kinds)


class MNIST(Published):
    """MNIST (LeCun et al. 1998): 28x28 grey digits; 50,000 / 10,000 / 10,000, as in BiGAN's paper."""

    name = "mnist"
    dataset: ClassVar[str] = "MNIST"
    shape = (1, 28, 28)
    sizes = (50_000, 10_000, 10_000)
    splits = "first 50,000 of train in the order of RandomState(42) / its other 10,000 / test"
    needed = _idx("MNIST")
    by_hand = tuple(f"{name}.gz" for name in needed)
    unpacked: ClassVar[Mapping[str, str]] = dict(
        zip(
            needed,
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            strict=True,
        )
    )

    def extractor(self, options: Options) -> str:
        """Return the classifier of the images as they are published."""
        channels, side, _ = self.shape
        published = options.size in (0, side) and options.channels in (0, channels)
        return f"{self.name}-cnn" if published else ""

    def checksums(self) -> dict[str, str]:
        """Return the MD5 of the packed files."""
        packed = dict(_torchvision(self.dataset).resources)
        return {name: packed[name.rpartition("/")[2]] for name in self.by_hand}

    def order(self, n: int) -> np.ndarray:
        """Return BiGAN's permutation."""
        return np.random.RandomState(42).permutation(n)

    def open(self, download: bool) -> tuple[list[Part], list[str]]:
        """Return train and test."""
        dataset = _torchvision(self.dataset)
        both = [dataset(self.raw, train=train, download=download) for train in (True, False)]
        return [Part(part.data.numpy(), part.targets.numpy()) for part in both], dataset.classes


class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao et al. 2017): 28x28 grey clothes; 50,000 / 10,000 / 10,000, split as MNIST."""

    name = "fashion_mnist"
    dataset = "FashionMNIST"
    needed = _idx("FashionMNIST")
    by_hand = tuple(f"{name}.gz" for name in needed)
    unpacked = dict(
        zip(
            needed,
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            strict=True,
        )
    )


class StackedMNIST(MNIST):
    """Stacked MNIST (Srivastava et al. 2017): three digits of MNIST as the channels of one image.

    As many stacks in each split as MNIST has digits, drawn from that split's digits by `seed`. The class is
    100 a + 10 b + c, of digits a, b and c in the order of the channels.
    """

    name = "stacked_mnist"
    shape = (3, 28, 28)
    classes = 1000
    splits = f"stacks of three from each split of MNIST: {MNIST.splits}"

    def extractor(self, options: Options) -> str:
        """None is shipped: metric `stacked` names each channel by MNIST's."""
        return ""

    def read(self, files: Mapping[str, str], seed: int) -> Contents:
        """Return the stacks."""
        digits, rng = super().read(files, seed), np.random.RandomState(seed)
        train, validation, test = (_stacked(part, rng) for part in digits.parts)
        return Contents(train, validation, test, f"{self.splits}; by seed {seed}", self.classes)


def _stacked(digits: Part, rng: np.random.RandomState) -> Part:
    """Return as many stacks of three as there are digits, each digit drawn by itself."""
    picked = rng.randint(len(digits), size=(len(digits), 3))
    # (N, 3, H, W) to (N, H, W, 3)
    return Part(np.moveaxis(digits.images[picked], 1, 3), digits.y[picked] @ (100, 10, 1))


class CIFAR10(Published):
    """CIFAR-10 (Krizhevsky 2009): 32x32 photographs; 45,000 / 5,000 / 10,000, as in ALI's paper."""

    name = "cifar10"
    shape = (3, 32, 32)
    sizes = (45_000, 5_000, 10_000)
    splits = "first 45,000 of train / its last 5,000 / test"
    needed = ("cifar-10-batches-py",)
    by_hand = ("cifar-10-python.tar.gz",)

    def checksums(self) -> dict[str, str]:
        """Return the MD5 of the archive."""
        return {self.by_hand[0]: _torchvision("CIFAR10").tgz_md5}

    def open(self, download: bool) -> tuple[list[Part], list[str]]:
        """Return train and test."""
        dataset = _torchvision("CIFAR10")
        both = [dataset(self.raw, train=train, download=download) for train in (True, False)]
        return [Part(part.data, np.array(part.targets)) for part in both], both[0].classes


class SVHN(Published):
    """SVHN (Netzer et al. 2011): 32x32 house numbers; 531,131 / 73,257 / 26,032, as in ALI's paper."""

    name = "svhn"
    shape = (3, 32, 32)
    largest = "arrays"
    sizes = (531_131, 73_257, 26_032)
    splits = "extra / train / test"
    needed = ("extra_32x32.mat", "train_32x32.mat", "test_32x32.mat")
    by_hand = needed

    def checksums(self) -> dict[str, str]:
        """Return the MD5 of each file."""
        splits = _torchvision("SVHN").split_list.values()
        return {name: md5 for _, name, md5 in splits if name in self.by_hand}

    def open(self, download: bool) -> tuple[list[Part], list[str]]:
        """Return extra, train and test."""
        dataset = _torchvision("SVHN")
        opened = [dataset(self.raw, split=split, download=download) for split in ("extra", "train", "test")]
        return [Part(part.data.transpose(0, 2, 3, 1), part.labels) for part in opened], list("0123456789")


class CelebA(Published):
    """CelebA (Liu et al. 2015): 64x64 faces in ALI's crop, 40 attributes; 162,770 / 19,867 / 19,962.

    The crop takes the aligned images, 178x218, to 64x78 and keeps rows 7 to 70: `size` 64 of any other image.
    """

    name = "celeba"
    size = 64
    shape = (3, 64, 64)
    classes, attributes = 0, 40
    sizes = (162_770, 19_867, 19_962)
    splits = "train / valid / test, as published"
    needed = (
        *("celeba/img_align_celeba", "celeba/list_attr_celeba.txt", "celeba/identity_CelebA.txt"),
        *("celeba/list_bbox_celeba.txt", "celeba/list_landmarks_align_celeba.txt"),
        "celeba/list_eval_partition.txt",
    )
    by_hand = ("celeba/img_align_celeba (img_align_celeba.zip unpacked)", *needed[1:])

    def open(self, download: bool) -> tuple[list[Part], list[str]]:
        """Return train, valid and test."""
        dataset, folder = _torchvision("CelebA"), self.raw / self.needed[0]
        parts = []
        for split in ("train", "valid", "test"):
            opened = dataset(self.raw, split=split, download=download)
            paths = np.array([str(folder / name) for name in opened.filename], dtype=object)
            parts.append(Part(paths, opened.attr.numpy().astype(np.uint8)))
        # the header of the file of attributes ends in a space
        return parts, [name for name in opened.attr_names if name]


PUBLISHED: dict[str, type[Published]] = {
    source.name: source for source in (MNIST, FashionMNIST, StackedMNIST, CIFAR10, SVHN, CelebA)
}
