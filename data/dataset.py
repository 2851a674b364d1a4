"""Base class of all datasets (`DetectionDataset`), and the protocol of their inputs (`Input`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from registry import UserError

from .problems import Problems
from .sample import Sample


class MissingSplit(UserError):
    """The dataset has no split of that name."""


class Input(Protocol):
    """Converts an image, or a window (t0_us, t1_us] of a recording, to (x, `Placement`).

    The network takes x.float() * scale, of shape [channels, H, W], or [num_steps, channels, H, W] of events; size is
    (height, width), the maximum where x differ in shape.
    """

    @property
    def channels(self) -> int: ...

    @property
    def scale(self) -> float: ...

    @property
    def num_steps(self) -> int | None: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def to_plain(self) -> dict[str, Any]:
        """A dict of str, int, float, bool, None and lists, from which `data.input_from_plain` builds the same input."""


class DetectionDataset(Dataset, ABC):
    """One split of labelled images or event windows.

    A subclass sets the attributes below in its constructor, which reads and validates all labels (not the images),
    and implements `load` (the transformed sample) and `ground_truth`. Constructor arguments common to all:
    `split`, `root`, `size` ((height, width) of `Sample.x`), `augment` (None, or a dict of augmentation options),
    `allow_missing` (skip listed images whose file is absent instead of raising), `problems`.
    """

    class_names: list[str]
    input: Input | None = None  # converts a file to x, for samples and prediction alike; None: not available
    channels: int  # of x
    scale: float  # the float input is x * scale: 1/255 for images, 1 for event counts
    num_steps: int | None  # T of event frames, None for images
    expected_images: int  # number of images in the labels; len(self) is smaller when files are missing
    problems: Problems

    @classmethod
    def generate(cls, **kwargs: Any) -> None:
        """Simulated datasets: write the files that a constructor with these arguments reads. Others: do nothing."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int, rng: np.random.Generator, epochs_left: int | None = None) -> Sample:
        """Sample `index`, transformed. All randomness comes from `rng`.

        epochs_left: epochs left in the training, including this one, for augmentation that is off in the last ones;
                     None outside a training.
        """

    @abstractmethod
    def ground_truth(self) -> dict[str, Any]:
        """The labels of this split as a COCO dict, in pixels of the original images, with the dataset's category ids.

        `images`: id, width, height, file_name (events: also `clip`, the label time `t_us`, and `start_us`, the start
        of the recording). `annotations`: id from 1, image_id, category_id, bbox xywh, area, iscrowd, and `difficult`
        where the format has it. `categories`: id, name, in the order of `class_names`: label k has the category id
        `categories[k]["id"]`.
        """

    @abstractmethod
    def box_sizes(self) -> np.ndarray:
        """float32 [N, 2]: width and height of every training box in pixels of `x` (unaugmented), in the order of
        `ground_truth`; for anchors and statistics."""

    def shape_of(self, index: int) -> tuple[int, int] | None:
        """(height, width) of sample `index` where samples differ in shape; None: all have the same."""
        return None

    def labelled(self) -> Sequence[int]:
        """Index of the sample of each image of `ground_truth`, in the same order."""
        return range(len(self))

    def open_cache(self) -> None:
        """Open what the workers of a loader share; loaders call this before they start workers."""

    @property
    def sequences(self) -> list[range] | None:
        """Sample indices of each recording in order of time, for sequential sampling; otherwise None."""
        return None

    def view(self, x: Tensor) -> Tensor:
        """`Sample.x` for display: uint8 images [3, H, W] or [T, 3, H, W], or OFF and ON strengths [T, 2, H, W]."""
        return x

    def seed_index(self, index: int) -> int:
        """Number that seeds the randomness of a sample. In sequential sampling, one number per recording."""
        return index

    def __getitem__(self, key: int | tuple[int, int, int, int | None]) -> Sample:
        """`key`: an index, or (index, epoch, seed, epochs left) from a training sampler. Augmentation depends on the
        key alone, not on the worker that loads the sample."""
        index, epoch, seed, epochs_left = key if isinstance(key, tuple) else (key, 0, 0, None)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.load(index, np.random.default_rng([self.seed_index(index), epoch, seed]), epochs_left)
