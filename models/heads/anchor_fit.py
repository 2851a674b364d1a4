"""Fit anchors to a dataset: best possible recall of given anchors, and k-means on log sizes."""

from __future__ import annotations

import numpy as np

from registry import UserError


def best_possible_recall(sizes: np.ndarray, anchors: np.ndarray, ratio: float) -> float:
    """Share of boxes that some anchor matches: max(w/aw, aw/w, h/ah, ah/h) < ratio. sizes [N, 2], anchors [A, 2]."""
    return float((_worst_ratio(sizes, anchors).min(1) < ratio).mean())


def kmeans_anchors(sizes: np.ndarray, num_anchors: int, seed: int = 0, iterations: int = 100) -> np.ndarray:
    """`num_anchors` box sizes [A, 2] in pixels, smallest area first, float32.

    Lloyd's k-means with k-means++ seeding on (log w, log h): the loss matches by the ratio of sides, and a distance in
    log size is the log of that ratio. Differs from the YOLOv5 family, which clusters in pixels and then mutates the
    result at random for 1000 generations.
    """
    if len(sizes) < num_anchors:
        raise UserError(f"{len(sizes)} boxes are too few for {num_anchors} anchors: set the head's `anchors` by hand")
    rng = np.random.default_rng(seed)
    points = np.log(sizes.astype(np.float64))
    centres = points[[rng.integers(len(points))]]
    while len(centres) < num_anchors:
        nearest = _squared_distance(points, centres).min(1)
        weights = nearest / nearest.sum() if nearest.sum() > 0 else None
        centres = np.concatenate([centres, points[[rng.choice(len(points), p=weights)]]])
    for _ in range(iterations):
        nearest = _squared_distance(points, centres).argmin(1)
        moved = np.stack(
            [points[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in range(num_anchors)]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    anchors = np.exp(centres)
    return anchors[np.argsort(anchors.prod(1))].astype(np.float32)


def _squared_distance(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((points[:, None] - centres) ** 2).sum(-1)


def _worst_ratio(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    ratio = sizes[:, None] / anchors
    return np.maximum(ratio, 1 / ratio).max(-1)
