"""The largest batch that fits on a GPU (`train.batch_size=auto`)."""

from __future__ import annotations

import copy
import gc
from collections import Counter
from collections.abc import Callable

import torch
from omegaconf import DictConfig
from torch import Tensor

from data import DetectionDataset
from data.sample import collate
from models import Detector
from registry import UserError

from . import distributed
from .multi_scale import resized
from .optim import build_optimizer
from .precision import autocast
from .wrap import keep_less

DEVICES = ("cuda",)  # whose memory is measured
SHARE = 0.9  # of the memory that is free, for what steps of a training differ by, and fragmentation


def largest_batch(memory: Callable[[int], int], budget: int, most: int) -> int:
    """The largest number of samples, up to `most`, whose training step stays within `budget` bytes.

    memory: peak memory in bytes of a step with so many samples; torch.OutOfMemoryError where it does not fit.

    Tries 1, 2, 4 ... up to the first that does not fit. Memory is linear in the number of samples, so the last two
    that do predict the largest; it is tried, too, and lowered by a sixteenth until it fits. UserError if no sample
    does.
    """
    fits: dict[int, int] = {}

    def fit(size: int) -> bool:
        try:
            used = memory(size)
        except torch.OutOfMemoryError:
            return False
        if used <= budget:
            fits[size] = used
        return used <= budget

    size = 1
    while size <= most and fit(size):
        size *= 2
    if not fits:
        raise UserError(
            f"train.batch_size = auto: a step with one sample needs more than {budget / 2**30:.2f} GiB. Set "
            "train.checkpoint=true, train.pack_spikes=true or train.precision=bf16, or a smaller data.size"
        )
    sizes = sorted(fits)
    found, upper = sizes[-1], min(2 * sizes[-1] - 1, most)
    if len(sizes) > 1 and (each := (fits[found] - fits[sizes[-2]]) / (found - sizes[-2])) > 0:
        upper = min(upper, int(found + (budget - fits[found]) / each))
    while upper > found and not fit(upper):
        upper -= -(-upper // 16)
    return max(found, upper)


def find_batch_size(
    cfg: DictConfig, model: Detector, dataset: DetectionDataset, device: torch.device
) -> tuple[int, str]:
    """(samples per process, a line for the user): the largest batch whose training steps fit on every process's GPU.

    model: on `device`; a copy of it takes the steps, beside it as its average will be. The inputs are as large and
    have as many boxes as any of `dataset`. Generators are as before. UserError on a CPU, where more memory than there
    is ends the process without an error, and with a teacher, which is not counted.
    """
    if device.type not in DEVICES:
        raise UserError(
            f"train.batch_size = auto: measures the memory of a GPU, but device is {device.type}: give a number"
        )
    if cfg.train.distill is not None:
        raise UserError("train.batch_size = auto: does not count the memory of train.distill: give a number")
    budget = int(SHARE * free_memory(device))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        memory = step_memory(cfg, copy.deepcopy(model), dataset, device)
        most = -(-len(dataset) // distributed.world_size())
        found = min(distributed.gather(largest_batch(memory, budget, most)))
    del memory
    gc.collect()
    torch.cuda.empty_cache()
    return found, f"train.batch_size = auto: {found} samples per process, in {budget / 2**30:.1f} GiB"


def free_memory(device: torch.device) -> int:
    """Bytes that this process has or can have on a GPU."""
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)


def peak_memory(device: torch.device) -> int:
    """The most that torch had reserved since the last call, in bytes."""
    peak = torch.cuda.max_memory_reserved(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def step_memory(
    cfg: DictConfig, model: Detector, dataset: DetectionDataset, device: torch.device
) -> Callable[[int], int]:
    """A function of a number of samples: peak memory in bytes of two training steps of `model`, which it changes."""
    if cfg.train.channels_last:
        model.to(memory_format=torch.channels_last)
    keep_less(model, cfg.train.checkpoint, cfg.train.pack_spikes)
    optim, train = cfg.optim, cfg.train
    optimizer = build_optimizer(model, optim.name, optim.lr, optim.momentum, optim.weight_decay, optim.groups)
    sample, boxes = dataset[0], most_boxes(dataset) * (4 if cfg.data.augment.get("mosaic") else 1)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    buckets = weights if distributed.world_size() > 1 else 0  # of DDP
    model.train()

    def memory(size: int) -> int:
        try:
            for _ in range(2):  # the second one has the state of the optimizer
                optimizer.zero_grad(set_to_none=True)
                x = collate([sample] * size, dataset.scale).to(device)[0]
                height, width = x.shape[-2:]
                corners = torch.tensor([0.0, 0.0, width / 2, height / 2], device=device).expand(boxes, 4)
                labels = torch.zeros(boxes, dtype=torch.int64, device=device)
                targets: list[dict[str, Tensor] | None] = [{"boxes": corners, "labels": labels}] * size
                if train.multi_scale is not None:
                    largest = [int(max(train.multi_scale) * side) for side in (height, width)]
                    x, targets = resized(x, targets, (largest[0], largest[1]))
                with autocast(device, train.precision):
                    losses = [sum(model(x, targets).values()) for _ in range(train.bptt)]
                torch.stack(losses).sum().backward()
                optimizer.step()
        finally:
            optimizer.zero_grad(set_to_none=True)
            peak = peak_memory(device)
        return peak + buckets

    return memory


def most_boxes(dataset: DetectionDataset) -> int:
    """Boxes of the image that has most."""
    count = Counter(annotation["image_id"] for annotation in dataset.ground_truth()["annotations"])
    return max(count.values(), default=0)
