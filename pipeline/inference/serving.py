"""The model as MLflow serves it: a column of images in, a row of answers each out.

A request costs at most `REQUEST_CHARACTERS` of text and the memory of one decoded image beside `BATCH` resized ones.
MLflow has read the whole request by then: a server that strangers reach needs a limit in front, as any reverse proxy
has one.

MLflow runs this file as the model's code (``python_model`` as a path), so that no object is pickled; the weights
are the checkpoint's own safetensors, logged as an artifact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from pipeline.core.device import choose_device
from pipeline.core.errors import one_line
from pipeline.data.imaging.decode import CorruptImageError
from pipeline.inference.base64_text import decode_base64, encode_base64
from pipeline.inference.predictor import Opened, Predictor
from pipeline.tasks.base import Prediction

BATCH = 64
"""Images that are resized and answered at a time."""
ROW_CHARACTERS = 64 << 20
"""Of one image as base64 text: a file of 48 MiB."""
REQUEST_CHARACTERS = 256 << 20
"""Of all images of a request."""


class ImageModel(PythonModel):  # type: ignore[misc]
    """Answers for a data frame whose column ``image`` holds image files (PNG, JPEG, ...) as base64 text.

    Classification gives the columns ``label``, ``probability``, ``classes`` and ``probabilities`` (the likeliest
    five). Segmentation gives ``mask`` (a PNG of train ids at the image's own size, base64), ``classes`` and
    ``shares`` (of the pixels). ``error`` says why there is no answer; the other rows have theirs.
    """

    def load_context(self, context: Any) -> None:
        """Load the network once, on the best device there is."""
        self.predictor = Predictor.load(Path(context.artifacts["checkpoint"]), choose_device("auto"))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Return one row per image, in order; a row that cannot be read costs itself only.

        Raises:
            MlflowException: the request is too large (HTTP 400).
        """
        images = list(model_input["image"])
        characters = sum(len(image) for image in images if isinstance(image, (str, bytes)))
        if characters > REQUEST_CHARACTERS:
            raise MlflowException.invalid_parameter_value(
                f"{characters:,} characters of images; at most {REQUEST_CHARACTERS:,}, send them in several requests"
            )
        rows = [
            row
            for start in range(0, len(images), BATCH)
            for row in self._answer(images[start : start + BATCH], start)
        ]
        columns = [*self.predictor.task.answer_columns, "error"]
        return pd.DataFrame(rows, columns=columns).astype(object).where(lambda table: table.notna(), None)

    def _answer(self, images: Sequence[object], first: int) -> list[dict[str, Any]]:
        """Return a row per image; ``first`` is the number of the first one in the request."""
        rows: list[dict[str, Any]] = [{} for _ in images]
        opened: dict[int, Opened] = {}
        for number, image in enumerate(images):
            try:
                if isinstance(image, str) and len(image) > ROW_CHARACTERS:
                    raise CorruptImageError(f"{len(image):,} characters, at most {ROW_CHARACTERS:,}")
                read = self.predictor.open(decode_base64(image))
                opened[number] = replace(read, pixels=read.resized)  # the full image is not kept
            except (CorruptImageError, OSError, ValueError, MemoryError) as error:
                rows[number]["error"] = f"image {first + number}: {one_line(error)}"
        if opened:
            predictions = self.predictor.predict(list(opened.values()))
            for number, prediction in zip(opened, predictions, strict=True):
                rows[number] = self._row(prediction)
        return rows

    def _row(self, prediction: Prediction) -> dict[str, Any]:
        row = self.predictor.task.answer(prediction)
        if prediction.mask is not None:
            row["mask"] = encode_base64(self.predictor.mask_png(prediction.mask))
        return row


set_model(ImageModel())
