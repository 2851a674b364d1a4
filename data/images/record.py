"""One labelled image of a dataset: file, size and objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# float64, so that `ground_truth` returns labels unchanged; one array per image saves memory for 120k images.
OBJECT = np.dtype([("box", "f8", 4), ("label", "i8"), ("area", "f8"), ("iscrowd", "?"), ("difficult", "?")])


@dataclass(slots=True)
class Record:
    """One image: its file, size in pixels, and objects `OBJECT` [N] with boxes xyxy in pixels, clipped to the image.

    upright: size and boxes refer to the image rotated by its EXIF orientation
    """

    image_id: int
    path: str
    width: int
    height: int
    objects: np.ndarray
    upright: bool = False

    @property
    def targets(self) -> np.ndarray:
        """Training objects. Crowd and difficult objects are used in the evaluation only."""
        return self.objects[~(self.objects["iscrowd"] | self.objects["difficult"])]
