"""Rivals of a detector by their names: `--rival published`, `--rival silu`, `--rival "train.channels_last=true"`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import repeat

import torch

from data.sample import Batch
from models.deploy.fuse import FORMS, fuse
from neurons import list_neurons
from registry import UserError, none_of

from ._contenders import Contender, Convolutions, Encoding, Inference, Training
from ._published_form import published_form
from ._source import Source

PARTS = ("published", "convolutions", "sampler")
HELP = (
    "what takes turns with it: published (the form of the published code of EMS-YOLO and SpikeYOLO), a neuron's name, "
    "as silu (the ANN twin), convolutions or sampler (those alone), in infer graph (a CUDA graph) or a form of fused "
    f"weights ({', '.join(FORMS)}), or key=value; several words in one text count together. May be given several times"
)


def contender(
    source: Source, text: str, batches: Iterator[Batch] | None, device: torch.device, training: bool
) -> tuple[Contender, int]:
    """(what `text` names, samples of its batches). "": the detector itself. batches: None for random ones."""
    forms = (*PARTS, *(() if training else ("graph", *FORMS)))
    form, overrides = "", []
    for word in shlex.split(text):
        if "=" in word:
            overrides.append(word)
        elif word in forms and not form:
            form = word
        elif word in list_neurons():
            overrides.append(f"model.neuron={word}")
        else:
            raise UserError(none_of(f"--rival {text}: {word!r}", word, [*forms, *list_neurons()]))
    cfg = source.config(overrides)
    model = source.build(cfg)
    samples = int(cfg.train.batch_size)
    given = source.batch(model, samples) if batches is None else next(batches)
    batches = repeat(given) if batches is None else batches
    if form == "convolutions":
        x, _ = given.to(device)
        return Convolutions(model.to(device), x, cfg.train.precision, training), samples
    if form == "sampler":
        return Encoding(model, batches, device, training), samples
    if form == "published":
        model = published_form(model)
    elif form in FORMS:
        model = fuse(model.to(device), form, given.to(device)[0] if form == "fastest" else None)
    if training:
        return Training(model, batches, cfg, device), samples
    return Inference(model, batches, cfg, device, graph=form == "graph"), samples
