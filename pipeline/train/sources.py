"""What a training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoints import result_cache
from pipeline.checkpoints.pretrained import weights_digest
from pipeline.core.hashing import configuration_hash, file_sha256
from pipeline.core.paths import work_folder
from pipeline.core.source_code import NEUTRAL, source_digest
from pipeline.data.shards.folds import chosen_folds, of_fold
from pipeline.data.shards.layout import shards_folder
from pipeline.data.shards.manifest import FILE_NAME, Manifest, read_manifest
from pipeline.params import Params
from pipeline.train.processes import Processes


@dataclass(frozen=True)
class Sources:
    """All that decides a training's result besides its params, read once, as it begins."""

    folder: Path
    """Of the shards."""
    prepared: Manifest
    """Folds are splits of it."""
    digest: str
    """SHA-256 of the manifest."""
    pretrained: str | None
    """SHA-256 of the weights that it starts from."""
    code: str
    """SHA-256 of the source code that trains, whatever is edited meanwhile."""

    def manifest(self, params: Params) -> Manifest:
        """Return what the training of ``params``, of one fold, is done on."""
        (fold,) = chosen_folds(self.prepared, params.train.fold)
        return of_fold(self.prepared, fold)

    def work(self, params: Params) -> Path:
        """Return the folder of the unfinished training of ``params``."""
        return work_folder(
            "train", configuration_hash(params.model, params.train, self.digest, self.pretrained)
        )

    def result(self, params: Params) -> Path:
        """Return the folder in which the whole training, all its repeats, is kept when it has ended."""
        return result_cache.folder(self.work(params).name, self.code)


def read_sources(params: Params, processes: Processes) -> Sources:
    """Read what the training of ``params`` starts from; all ``processes`` have to find the same.

    Raises:
        UserError: something is missing in one of them, or differs.
    """
    sources = processes.together(lambda: _read(params))
    processes.check_same(
        {
            "params": configuration_hash(params.model, params.train),
            "shards": sources.digest,
            "weights in train.pretrained": sources.pretrained,
            "code": sources.code,
        }
    )
    return sources


def _read(params: Params) -> Sources:
    folder = shards_folder(params.data, params.size)
    manifest = read_manifest(folder)
    for fold in chosen_folds(manifest, params.train.fold):
        of_fold(manifest, fold).check_trainable()
    pretrained = weights_digest(params.pretrained) if params.pretrained else None
    code = source_digest(["pipeline.train.experiment"], ("pipeline", "wavemix"), NEUTRAL)
    return Sources(folder, manifest, file_sha256(folder / FILE_NAME), pretrained, code)
