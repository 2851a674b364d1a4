"""Weights, averages, optimizer and generators of a training: what a checkpoint holds of them, and their restoration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry import UserError

from .. import distributed
from ..generators import generator_states, restore_generators, seed_rank
from ..loop import Update
from .checkpoint import Content, load_weights


def training_state(model: nn.Module, update: Update, device: torch.device) -> dict[str, Any]:
    """Entries of a checkpoint, with the generators of every rank. All ranks call it."""
    return {
        "model": model.state_dict(),
        "ema": update.ema.module.state_dict(),
        "ema_updates": int(update.ema.n_averaged),
        "optimizer": update.optimizer.state_dict(),
        **({} if update.scaler is None else {"scaler": update.scaler.state_dict()}),
        "generators": distributed.gather(generator_states(device)),
        "machine": _machine(device),
    }


def restore_training(content: Content, path: Path, model: nn.Module, update: Update, device: torch.device) -> None:
    """Continue from the entries of `training_state`, read from `path`. UserError if they are of another training."""
    load_weights(model, content["model"], path)
    load_weights(update.ema.module, content["ema"], path)
    update.ema.n_averaged.fill_(content["ema_updates"])
    states = content.get("generators") or [None]  # None: an earlier version kept torch's alone
    try:
        update.optimizer.load_state_dict(content["optimizer"])
        if update.scaler is not None:
            update.scaler.load_state_dict(content["scaler"])
        rank = distributed.rank()
        if (state := states[rank % len(states)]) is not None:
            restore_generators(state, device)
            if rank >= len(states):  # there were fewer
                seed_rank(int(torch.randint(1 << 62, ())), rank)
    except ValueError as error:
        raise UserError(f"{path}: its optimizer or generators are those of another training: {error}") from error


def other_machine(content: Content, device: torch.device) -> list[str]:
    """A line for each difference of the machine that changes the last digits of what follows."""
    written = content.get("machine", {})
    return [
        f"resumed with {what} {now}, after {written[what]}: what follows differs in the last digits from an "
        "uninterrupted run"
        for what, now in _machine(device).items()
        if written.get(what, now) != now
    ]


def _machine(device: torch.device) -> dict[str, Any]:
    """Threads, torch version and device, which change the last digits of results."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"threads": torch.get_num_threads(), "torch": str(torch.__version__), "device": name}
