"""Inference through CUDA graphs: all kernels of the network started at once, where starting them is what takes time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from registry import UserError

from ..detector import Detector


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    x: Tensor
    logits: list[Tensor]


class GraphedLogits:
    """`model.raw` in evaluation mode, recorded once for each shape of x and replayed.

    The decoding of the logits depends on how many boxes there are, and stays outside: `model.decode(graphed(x), size)`.
    Weights changed in place are used from the next call on. Hooks run while recording only, so firing rates need the
    model itself. Autocast is that of the first call with a shape.

    The logits that a call returns are overwritten by the next call with the same shape.

    UserError for x outside a GPU, for a model in training mode, and where the network cannot be recorded: its work must
    not depend on values on the device.
    """

    def __init__(self, model: Detector):
        self.model = model
        self._captured: dict[tuple, _Captured] = {}

    @torch.no_grad()
    def __call__(self, x: Tensor) -> list[Tensor]:
        if x.device.type != "cuda":
            raise UserError(f"CUDA graphs need x on a GPU, it is on {x.device}")
        if self.model.training:
            raise UserError("CUDA graphs are for inference: call model.eval() first")
        key = (x.device, x.dtype, x.shape, x.stride())
        if key not in self._captured:
            self._captured[key] = self._capture(x)
        graph, held, logits = self._captured[key]
        held.copy_(x)
        graph.replay()
        return logits

    def _capture(self, x: Tensor) -> _Captured:
        held, graph = x.clone(), torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.device(x.device), _uncached_autocast():
            with torch.cuda.stream(stream):
                for _ in range(3):  # compilation and the choice of algorithms cannot be recorded
                    self.model.raw(held)
            torch.cuda.current_stream(x.device).wait_stream(stream)
            try:
                with torch.cuda.graph(graph):
                    logits = self.model.raw(held)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                raise UserError(
                    f"the network cannot be recorded as a CUDA graph ({reason}): call it directly"
                ) from error
        return _Captured(graph, held, logits)


def _uncached_autocast() -> AbstractContextManager:
    """The autocast in effect, without its cache of converted weights, which ends before the graph does."""
    if not torch.is_autocast_enabled("cuda"):
        return nullcontext()
    return torch.autocast("cuda", torch.get_autocast_dtype("cuda"), cache_enabled=False)
