"""The contract of a dataset: what `engine`, `data.loader` and `data.check` ask of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    """A part that is called with an image, or with a recording and a window (t0_us, t1_us], and gives (x, `Placement`).

    The network takes x.float() * scale, of shape [channels, H, W], or [num_steps, channels, H, W] of events; size is
    (height, width), the most where x differ in shape.
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
    input: Input | None = None  # makes x of a file, for samples and prediction alike; None: there is no such part
    channels: int  # of x
    scale: float  # the float input is x * scale: 1/255 for images, 1 for event counts
    num_steps: int | None  # T of event frames, None for images
    expected_images: int  # how many the labels list; len(self) is smaller when files are missing
    problems: Problems

    @classmethod
    def generate(cls, **kwargs: Any) -> None:
        """Write the files that a constructor with these arguments reads, where the dataset is a simulated one."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int, rng: np.random.Generator, epochs_left: int | None = None) -> Sample:
        """Sample `index`, transformed; every random choice is drawn from `rng`, so it depends on nothing else.

        epochs_left: of the training, this one included, for augmentation that ends before it; None outside a training.
        """

    @abstractmethod
    def ground_truth(self) -> dict[str, Any]:
        """The labels of this split in COCO form, in ORIGINAL pixels, category ids as the dataset has them.

        `images`: id, width, height, file_name (events: also `clip`, the label time `t_us`, and `start_us`, when the
        recording begins). `annotations`: id from 1, image_id, category_id, bbox xywh, area, iscrowd, and `difficult`
        where the format knows it. `categories`: id, name, in the order of `class_names`, so label k is
        `categories[k]["id"]`.
        """

    @abstractmethod
    def box_sizes(self) -> np.ndarray:
        """float32 [N, 2]: width and height of every training box in pixels of `x` (unaugmented), in the order of
        `ground_truth`; for anchors and statistics."""

    def shape_of(self, index: int) -> tuple[int, int] | None:
        """(height, width) of sample `index` where samples differ in it; None: all have one."""
        return None

    def open_cache(self) -> None:
        """A loader calls it before its workers start: open what they are to share."""

    @property
    def sequences(self) -> list[range] | None:
        """Indices of the samples of each recording in order of time, where they come in sequence; else None."""
        return None

    def view(self, x: Tensor) -> Tensor:
        """`Sample.x` to look at: uint8 images [3, H, W] or [T, 3, H, W], or strengths [T, 2, H, W] of OFF and ON."""
        return x

    def seed_index(self, index: int) -> int:
        """Samples with the same number share their randomness: those of one recording, when they come in sequence."""
        return index

    def __getitem__(self, key: int | tuple[int, int, int, int | None]) -> Sample:
        """`key`: an index, or (index, epoch, seed, epochs left) as the training sampler gives it, so that augmentation
        depends on these alone and not on which worker serves the sample."""
        index, epoch, seed, epochs_left = key if isinstance(key, tuple) else (key, 0, 0, None)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.load(index, np.random.default_rng([self.seed_index(index), epoch, seed]), epochs_left)
