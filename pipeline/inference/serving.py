"""The model as MLflow serves it: a column of images in, a row of answers each out.

MLflow runs this file as the model's code (``python_model`` as a path), so that no object is pickled; the weights
are the checkpoint's own safetensors, logged as an artifact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from pipeline.core.device import choose_device
from pipeline.data.imaging.decode import CorruptImageError
from pipeline.inference.base64_text import decode_base64, encode_base64
from pipeline.inference.predictor import Predictor
from pipeline.tasks.base import Prediction

BATCH = 64


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
        """One row per image, in order."""
        rows: list[dict[str, Any]] = [{} for _ in range(len(model_input))]
        opened = {}
        for number, text in enumerate(model_input["image"]):
            try:
                opened[number] = self.predictor.open(decode_base64(text))
            except CorruptImageError as error:
                rows[number]["error"] = f"image {number}: {error}"
        places = list(opened)
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            predictions = self.predictor.predict([opened[place] for place in part])
            for place, prediction in zip(part, predictions, strict=True):
                rows[place] = self._row(prediction)
        columns = [*self.predictor.task.answer_columns, "error"]
        return pd.DataFrame(rows, columns=columns).astype(object).where(lambda table: table.notna(), None)

    def _row(self, prediction: Prediction) -> dict[str, Any]:
        row = self.predictor.task.answer(prediction)
        if prediction.mask is not None:
            row["mask"] = encode_base64(self.predictor.mask_png(prediction.mask))
        return row


set_model(ImageModel())
