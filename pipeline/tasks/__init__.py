"""Tasks, by the name that a manifest gives.

To add one, write its `Task` in a file of its own and name it below; where its targets are of a new kind, add that to
`pipeline.data.shards.targets`.
"""

from __future__ import annotations

from pipeline.data.shards.manifest import Manifest
from pipeline.tasks.base import Task
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.segmentation import Segmentation

TASKS: dict[str, Task] = {task.name: task for task in (Classification(), Multilabel(), Segmentation())}


def task_of(manifest: Manifest) -> Task:
    """Return the task that the shards of ``manifest`` are for."""
    return TASKS[manifest.task]
