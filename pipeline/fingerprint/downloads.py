"""Where the small open datasets come from. Addresses and checksums are torchvision's."""

from __future__ import annotations

import urllib.error
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError


@dataclass(frozen=True)
class Download:
    """One official file; ``md5`` is checked."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def downloads() -> dict[str, list[Download]]:
    """Return the files of each dataset that can be had without an account, by the name that ``source:`` gives."""
    from torchvision import datasets

    idx = {
        name: [Download(dataset.mirrors[0] + file, md5) for file, md5 in dataset.resources]
        for name, dataset in (("mnist", datasets.MNIST), ("fashion_mnist", datasets.FashionMNIST))
    }
    svhn = [
        Download(datasets.SVHN.split_list[split][0], datasets.SVHN.split_list[split][2])
        for split in ("train", "test")
    ]
    return {
        "cifar10": [Download(datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5)],
        "cifar100": [Download(datasets.CIFAR100.url, datasets.CIFAR100.tgz_md5)],
        "stl10": [Download(datasets.STL10.url, datasets.STL10.tgz_md5)],
        "emnist": [Download(datasets.EMNIST.url, datasets.EMNIST.md5)],
        "svhn": svhn,
        **idx,
        # The two that torchvision keeps no table of: Stanford's course page, and Caltech's library.
        "tiny_imagenet": [
            Download("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")
        ],
        "caltech256": [
            Download(
                "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
                "67b4f42ca05d46448c6bb8ecd2220f6d",
            )
        ],
    }


def download(files: list[Download], folder: Path) -> None:
    """Fetch ``files`` into ``folder``, showing progress.

    Raises:
        UserError: unreachable, or not the bytes expected.
    """
    from torchvision.datasets.utils import download_url

    for file in files:
        try:
            download_url(file.url, str(folder), filename=file.name, md5=file.md5)
        except (urllib.error.URLError, OSError) as error:
            raise UserError(
                f"{file.url}: cannot be downloaded ({error}); get it by other means and put it into the root"
            ) from None
        except RuntimeError:
            raise UserError(
                f"{file.url}: the download's md5 is not {file.md5}; try again, "
                "or put a good copy into the root"
            ) from None
