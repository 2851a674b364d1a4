"""AP against T: detections and spikes of a detector at each of several T, in one pass over the data."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from analysis.firing_rate import Shares, has_signs, shares
from data.sample import Batch
from models import Detector
from models.deploy import Simulation, simulate
from scoring.evaluator import Evaluator

from . import distributed
from .early_exit import EarlyExit
from .evaluation import Detections, evaluate

MOST_BETWEEN = 16  # steps between two reports of progress


class Curve:
    """Detections and spikes of `model` after each of `steps` time steps.

    Args:
        model: any detector in evaluation mode; it is simulated once per batch, for max(steps) steps.
        steps: numbers of steps to score, in any order.
        new_evaluator: a fresh evaluator of the split.
        ann: the network that `model` was converted from, scored on the same images.
        early_exit: when an image keeps its detections; a batch ends when all images do. None: never.
        progress: called with the number of image-steps done since the last call.
        cost: called at each T with T, gives sums of costs over the images of the batch so far: `Estimate.so_far`.

    `run` fills it; `summary` is what curve.json holds.
    """

    def __init__(
        self,
        model: Detector,
        steps: Sequence[int],
        new_evaluator: Callable[[], Evaluator],
        ann: Detector | None = None,
        early_exit: EarlyExit | None = None,
        progress: Callable[[int], object] = lambda steps: None,
        cost: Callable[[int], Mapping[str, float]] = lambda T: {},
    ):
        self.model, self.ann, self.early_exit, self.progress = model.eval(), ann, early_exit, progress
        self.cost = cost
        self.steps = sorted(set(steps))
        self.scored = {T: new_evaluator() for T in self.steps}
        self.scored_ann = new_evaluator() if ann is not None else None
        self.complete = False  # the run has come to its end
        # of each T: "images", "image-steps" simulated, "used-steps", ("spikes" | "negative" | "neurons", layer),
        # ("cost", name)
        self._sums: dict[int, Counter] = {T: Counter() for T in self.steps}

    @property
    def evaluators(self) -> list[Evaluator]:
        """In the order in which `predict` gives detections."""
        return [*([self.scored_ann] if self.scored_ann else []), *self.scored.values()]

    def run(
        self,
        batches: Iterable[Batch],
        device: torch.device,
        precision: str = "fp32",
        save: Callable[[], object] | None = None,
        every: float = 60.0,
    ) -> None:
        """Add all `batches`, and merge those of all ranks.

        save: called between batches when `every` seconds have passed, and when an exception ends the run, Ctrl-C
            included; not before a batch is complete. `summary` is then that of the images so far, of this process.
        """
        written, pause = time.monotonic(), every

        def saving() -> Iterator[Batch]:
            nonlocal written, pause
            for batch in batches:
                yield batch
                if save is not None and (began := time.monotonic()) - written > pause:
                    save()
                    written = time.monotonic()
                    pause = max(every, 20 * (written - began))  # scoring many images takes its time

        try:
            evaluate(self.predict, saving(), self.evaluators, device, precision)
        except BaseException:
            if save is not None and self.images:
                save()
            raise
        first, *others = distributed.gather(self._sums)
        for T in self.steps:
            for state in others:
                first[T].update(state[T])
        self._sums = first
        self.complete = True

    @property
    def images(self) -> int:
        """Number of images whose simulation is complete."""
        return self._sums[self.steps[-1]]["images"]

    def predict(self, x: Tensor, batch: Batch) -> Iterator[Detections]:
        """Detections for each of `evaluators`; see `engine.evaluation.evaluate`."""
        if self.ann is not None:
            yield self.ann(x)
        new = []
        for T, found, counts in self._simulate(x, len(batch.image_ids)):
            yield found
            new.append((T, counts))
        for T, counts in new:
            self._sums[T].update(counts)

    def _simulate(self, x: Tensor, images: int) -> Iterator[tuple[int, Detections, Counter]]:
        """(T, detections, what `_sums` adds up) at each T."""
        size, last = (x.shape[-2], x.shape[-1]), self.steps[-1]
        reported = {*self.steps, *range(MOST_BETWEEN, last, MOST_BETWEEN)}
        settled: dict[int, tuple[int, dict[str, Tensor]]] = {}  # entry of the batch: (T, detections) from then on
        done, before = 0, None
        with closing(simulate(self.model, x, sorted(reported))) as simulation:
            for T, logits in simulation:
                self.progress(images * (T - done))
                done = T
                if T not in self.scored:
                    continue
                found = self.model.decode(logits, size)
                if self.early_exit is not None and before is not None:
                    for i in range(images):
                        if i not in settled and self.early_exit(before[i], found[i]):
                            settled[i] = T, found[i]
                before = found
                counts = self._counts(simulation, images)
                counts.update({("cost", name): value for name, value in self.cost(T).items()})
                counts["used-steps"] = sum(settled[i][0] if i in settled else T for i in range(images))
                kept = [settled[i][1] if i in settled else found[i] for i in range(images)]
                yield T, kept, counts
                if len(settled) == images:
                    break
        self.progress(images * (last - done))
        for later in self.steps[self.steps.index(done) + 1 :]:
            yield later, kept, counts

    @staticmethod
    def _counts(simulation: Simulation, images: int) -> Counter:
        counts: Counter = Counter({"images": images, "image-steps": images * simulation.t})
        spikes = simulation.spikes
        for key, of_layers in (
            ("spikes", spikes.totals()),
            ("negative", spikes.negatives()),
            ("neurons", spikes.neurons()),
        ):
            counts.update({(key, layer): count for layer, count in of_layers.items()})
        return counts

    def firing_rates(self) -> dict[str, float]:
        """{layer: spikes per neuron and step} at the largest T."""
        sums = self._sums[self.steps[-1]]
        steps = sums["image-steps"] / max(sums["images"], 1)
        return {layer: sums["spikes", layer] / neurons / steps for layer, neurons in _of(sums, "neurons").items()}

    def spike_shares(self) -> Shares:
        """{layer: shares of +1, 0 and -1} at the largest T, of the layers that can emit negative spikes."""
        sums, layers = self._sums[self.steps[-1]], self.model.spiking_layers()
        steps = sums["image-steps"] / max(sums["images"], 1)
        return {
            layer: shares(sums["spikes", layer], sums["negative", layer], neurons * steps)
            for layer, neurons in _of(sums, "neurons").items()
            if has_signs(layers[layer].signed, sums["negative", layer])
        }

    def summary(self, protocol: str) -> dict[str, Any]:
        """Points of the curve, and the ANN's AP, over the images seen.

        Spikes, of both signs, and neurons are means over images. With early exit `mean_T` is the mean T of the
        detections; spikes are those of all steps simulated.
        """
        seen = {image for image, _ in self.evaluators[-1].state()}  # it is filled last
        points = []
        for T, sums in self._sums.items():
            images = max(sums["images"], 1)
            spikes, negative = ({k: n / images for k, n in _of(sums, key).items()} for key in ("spikes", "negative"))
            per_neuron = sum(spikes.values()) * images / max(sum(_of(sums, "neurons").values()), 1)
            steps = sums["image-steps"] / images
            points.append(
                {
                    "T": T,
                    **_scores(self.scored[T], protocol, seen),
                    "spikes_per_neuron": per_neuron,
                    "spikes_per_neuron_and_step": per_neuron / max(steps, 1),
                    **({"mean_T": sums["used-steps"] / images} if self.early_exit else {}),
                    **{name: value / images for name, value in _of(sums, "cost").items()},
                    "spikes": spikes,
                    **({"negative_spikes": negative} if any(negative.values()) else {}),
                }
            )
        ann = _scores(self.scored_ann, protocol, seen) if self.scored_ann else None
        return {
            "complete": self.complete,
            "protocol": protocol,
            "images": len(seen),
            "expected_images": self.evaluators[-1].expected_images,
            "ann": ann,
            **smallest_T(points, ann),
            "early_exit": self.early_exit.rule if self.early_exit else None,
            "neurons": {layer: count / images for layer, count in _of(sums, "neurons").items()},
            "points": points,
        }


def _of(sums: Counter, key: str) -> dict[str, int]:
    return {name[1]: count for name, count in sums.items() if name[0] == key}


def smallest_T(points: Sequence[dict[str, Any]], ann: dict[str, Any] | None) -> dict[str, int | None]:
    """The smallest measured T whose AP50 is at least 0.99 of the ANN's, and at least the ANN's - 0.01; None: there is
    none. Nothing without an ANN."""
    if ann is None or ann["AP50"] is None:
        return {}
    limits = {"smallest_T_within_1_percent": 0.99 * ann["AP50"], "smallest_T_within_1_point": ann["AP50"] - 0.01}
    return {
        name: next((p["T"] for p in points if p["AP50"] is not None and p["AP50"] >= limit), None)
        for name, limit in limits.items()
    }


def _scores(evaluator: Evaluator, protocol: str, seen: set[int]) -> dict[str, float | None]:
    """AP50, AP75 and AP on the images `seen`."""
    of_seen = Evaluator(evaluator.ground_truth, evaluator.expected_images, allow_missing=True)
    of_seen.merge([[(image, rows) for image, rows in evaluator.state() if image in seen]])
    scores = of_seen.score(protocol)
    return {key: scores.get(key) for key in ("AP50", "AP75", "AP")}
