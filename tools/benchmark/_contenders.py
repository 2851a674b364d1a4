"""What takes turns: a training step, inference, and their parts alone. `turn` runs some steps, marking its phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from data.sample import Batch
from engine.ema import build_ema
from engine.loop import Update, train_epoch
from engine.optim import Schedule, build_optimizer
from engine.precision import autocast, loss_scaler
from engine.wrap import wrap
from models import Detector
from models.deploy.cuda_graph import GraphedLogits
from models.layers.watch import watch

Mark = Callable[[str], None]


class Contender(Protocol):
    @property
    def phases(self) -> tuple[str, ...]:
        """Of a step, in order."""
        ...

    def turn(self, steps: int, mark: Mark) -> None: ...

    def resident(self) -> list[Tensor]:
        """What stays in memory between steps."""
        ...


class Training:
    """Steps of `train_epoch`: exactly what train.py does between two batches."""

    phases = ("data", "forward", "loss", "backward", "optimizer")

    def __init__(self, model: Detector, batches: Iterator[Batch], cfg: DictConfig, device: torch.device):
        self.batches, self.cfg, self.device = batches, cfg, device
        self.detector = model.to(device)
        if cfg.train.channels_last:
            self.detector.to(memory_format=torch.channels_last)
        optim = cfg.optim
        ema = build_ema(model, cfg.train.ema_decay, cfg.train.ema_ramp)
        optimizer = build_optimizer(model, optim.name, optim.lr, optim.momentum, optim.weight_decay, optim.groups)
        schedule = Schedule(
            optim.lr, optim.final_lr_factor, optim.momentum, 10**6, 10**5, optim.warmup_bias_lr, optim.warmup_momentum
        )  # within warm-up: the weights hardly change
        scaler = loss_scaler(device, cfg.train.precision)
        self.update = Update(optimizer, schedule, ema, cfg.train.accumulate, cfg.train.clip_norm, scaler=scaler)
        self.model = wrap(self.detector, cfg.train.checkpoint, cfg.train.compile, device, cfg.train.pack_spikes)
        self.losses: dict[str, float] = {}  # of the last turn, per image

    def turn(self, steps: int, mark: Mark) -> None:
        head: Any = self.detector.head
        loss = head.loss

        def marked(*arguments: Any) -> Any:
            mark("loss")
            return loss(*arguments)

        head.loss = marked
        try:
            batches = islice(self.batches, steps * self.update.batches)
            self.losses = train_epoch(
                self.model, batches, self.update, self.device, precision=self.cfg.train.precision, phase=mark
            )
        finally:
            del head.loss

    def resident(self) -> list[Tensor]:
        state = (t for s in self.update.optimizer.state.values() for t in s.values() if isinstance(t, Tensor))
        gradients = (p.grad for p in self.model.parameters() if p.grad is not None)
        return [*_tensors(self.model), *_tensors(self.update.ema), *state, *gradients]


class Inference:
    """Logits and their decoding, under autocast, as in an evaluation. graph: the logits by CUDA graphs."""

    phases = ("data", "forward", "decode")

    def __init__(self, model: Detector, batches: Iterator[Batch], cfg: DictConfig, device: torch.device, graph: bool):
        self.batches, self.precision, self.device = batches, cfg.train.precision, device
        self.detector = model.eval().to(device)
        if cfg.train.channels_last:
            self.detector.to(memory_format=torch.channels_last)
        wrap(self.detector, False, cfg.train.compile, device)
        self.logits = GraphedLogits(self.detector) if graph else self.detector.raw

    @torch.inference_mode()
    def turn(self, steps: int, mark: Mark) -> None:
        for _ in range(steps):
            mark("data")
            x, _ = next(self.batches).to(self.device)
            with autocast(self.device, self.precision):
                mark("forward")
                logits = self.logits(x)
                mark("decode")
                self.detector.decode(logits, (x.shape[-2], x.shape[-1]))

    def resident(self) -> list[Tensor]:
        return _tensors(self.detector)


class Convolutions:
    """The convolutions of a detector one by one, each on a random input like the one it gets.

    backward: also their backward passes, of which the first layer's needs no gradient of its input.
    """

    def __init__(self, model: Detector, x: Tensor, precision: str, backward: bool):
        self.phases = ("forward", "backward") if backward else ("forward",)
        self.device, self.precision, self.backward = x.device, precision, backward
        self.found: list[tuple[nn.Module, Tensor]] = []
        model.train(backward)
        with torch.no_grad(), autocast(self.device, precision):
            with watch([m for m in model.modules() if isinstance(m, nn.Conv2d)], self._keep):
                model.raw(x)

    def _keep(self, conv: nn.Module, x: Tensor, y: Tensor) -> None:
        self.found.append((conv, torch.rand_like(x).requires_grad_(self.backward and bool(self.found))))

    def turn(self, steps: int, mark: Mark) -> None:
        for _ in range(steps):
            for conv, x in self.found:
                mark("forward")
                with torch.set_grad_enabled(self.backward), autocast(self.device, self.precision):
                    y = conv(x)
                if self.backward:
                    mark("backward")
                    y.backward(torch.ones_like(y))
                    conv.zero_grad()
                    x.grad = None

    def resident(self) -> list[Tensor]:
        return [x for _, x in self.found]


class Encoding:
    """The encoder of a detector alone, as a learned sampler."""

    def __init__(self, model: Detector, batches: Iterator[Batch], device: torch.device, backward: bool):
        self.phases = ("forward", "backward") if backward else ("forward",)
        self.encoder, self.batches, self.device = model.to(device).train(backward).encoder, batches, device
        self.backward = backward

    def turn(self, steps: int, mark: Mark) -> None:
        for _ in range(steps):
            x, _ = next(self.batches).to(self.device)
            mark("forward")
            with torch.set_grad_enabled(self.backward):
                y = self.encoder(x)
            if y.requires_grad:
                mark("backward")
                y.backward(torch.ones_like(y))

    def resident(self) -> list[Tensor]:
        return _tensors(self.encoder)  # type: ignore[arg-type]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
