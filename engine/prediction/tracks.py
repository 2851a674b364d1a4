"""Numbers for objects over time (`Tracks`): ByteTrack of the package trackers (Apache-2.0), an option."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from registry import UserError

# Its requirement opencv-python would replace the files of opencv-python-headless, and needs a display library.
INSTALL = "pip install supervision rich, then pip install --no-deps trackers"
LOW = 0.5  # of the score threshold: detections above continue a track, but do not begin one


class Tracks:
    """ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022) over
    the frames of one part: boxes are matched to the tracks before by IoU, after a Kalman filter has moved these.

    rate:  frames/s
    score: detections from here on may begin a track; call with those of `LOW` times that, too
    UserError where the package is not installed.
    """

    def __init__(self, rate: float, score: float):
        tracker, self._detections = _package()
        self._tracker = tracker(
            frame_rate=rate, track_activation_threshold=score, high_conf_det_threshold=score,
            minimum_consecutive_frames=2, lost_track_buffer=30,
        )  # fmt: skip

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """boxes [N, 4] xyxy, scores [N], labels [N] of the next frame -> int64 [N], track of each, from 0; -1: none
        (yet: a track is one from its second frame on)."""
        given = self._detections(
            xyxy=boxes.numpy().astype(np.float32).reshape(-1, 4), confidence=scores.numpy(), class_id=labels.numpy(),
            data={"place": np.arange(len(boxes))},
        )  # fmt: skip
        found = self._tracker.update(given)
        tracks = torch.full((len(boxes),), -1, dtype=torch.int64)
        if len(found):  # in another order, or fewer
            tracks[torch.from_numpy(found.data["place"].astype(np.int64))] = torch.from_numpy(
                found.tracker_id.astype(np.int64)
            )
        return tracks


def require_trackers() -> None:
    """UserError where --track cannot work, before anything is read."""
    _package()


def _package() -> tuple[Any, Any]:
    try:
        from supervision import Detections
        from trackers import ByteTrackTracker
    except ImportError as error:
        raise UserError(
            f"--track: the package trackers is not usable ({error}). {INSTALL}; or leave --track out"
        ) from error
    return ByteTrackTracker, Detections
