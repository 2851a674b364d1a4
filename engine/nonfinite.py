"""A training step with a value that is not finite: on which rank, of which images, and in which layer it is first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from data.atomic_file import write_atomically
from data.sample import Batch
from neurons import StatefulNeuron, Stream

from . import distributed

# Takes the plain content of a step, and returns where it is.
Keep = Callable[[dict[str, Any]], str]
KEPT = "nonfinite_rank{}.pt"
# (model without DDP, batches of the step): forward and backward passes, `loop.run_batches`.
Backward = Callable[[nn.Module, list[Batch]], object]


class Keeper:
    """Writes the content of a step into a run folder, with `identity`, plain values that rebuild the model."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.path, self.identity = folder / KEPT.format(distributed.rank()), identity

    def __call__(self, content: dict[str, Any]) -> str:
        try:
            write_atomically(self.path, partial(torch.save, {**self.identity, **content}))
        except OSError as error:
            return str(error)
        return f"To run it again: python -m tools.replay {self.path}."


class StepStart:
    """What a step changes besides the weights, as it is before: generators, carried membranes, buffers.

    Args:
        buffers: of the model. before: tensors like them, which take their values.
    """

    def __init__(self, device: torch.device, stream: Stream | None, buffers: list[Tensor], before: list[Tensor]):
        self.device, self.stream, self.buffers, self.before = device, stream, buffers, before
        self.generator = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.carried = [neuron.carried for neuron in stream.neurons] if stream is not None else []
        if buffers:
            torch._foreach_copy_(before, buffers)

    @torch.no_grad()
    def restore(self) -> None:
        torch.set_rng_state(self.generator)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
        if self.stream is not None:
            self.stream.reset()
            for neuron, state in zip(self.stream.neurons, self.carried, strict=True):
                neuron.carried = state
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.before)


@dataclass
class Finding:
    """The first value of a step on one rank that is not finite.

    at: how many outputs and gradients of layers came before, which is the same number for a layer on every rank.
    where: "" if all values were finite. batch: of the step; None: of any. gradients, buffers: names of all others.
    """

    where: str = ""
    at: float = math.inf
    batch: int | None = None
    gradients: list[str] = field(default_factory=list)
    buffers: list[str] = field(default_factory=list)


def explain(
    what: str,
    model: nn.Module,
    group: list[Batch],
    backward: partial[Any],
    start: StepStart,
    keep: Keep | None = None,
) -> NoReturn:
    """Raise the FloatingPointError about a step, the same on all ranks, which must all call this.

    Every rank runs the step again, without DDP, and watches each layer. The ranks whose first non-finite value comes
    earliest, as BatchNorm over all ranks and gradients carry it to the others, keep their batches.

    Args:
        what: step and losses.
        model: without DDP.
        group: this rank's batches of the step.
        backward: runs them.
        start: of the step.
        keep: writes the content of a step; None: it is not written.
    """
    start.restore()
    try:
        found = first_not_finite(model, group, backward)
    except Exception as error:  # of memory, or another rank has ended
        found = Finding(f"(running the step again failed: {error!r})")
    start.restore()
    model.zero_grad(set_to_none=True)
    earliest = min(at for _, at in distributed.gather((found.where, found.at)))
    mine = ""
    if found.at == earliest and (found.where or distributed.is_main()):
        batches = group if found.batch is None else [group[found.batch]]
        ids = [image for batch in batches for image in batch.image_ids]
        shown = ", ".join(map(str, ids[:16])) + (" ..." if len(ids) > 16 else "")
        rank = f"rank {distributed.rank()} of {distributed.world_size()}, " if distributed.world_size() > 1 else ""
        mine = (
            f"{rank}images {shown}: {found.where or 'all values are finite when the step is run again'}. "
            f"First non-finite gradients: {found.gradients[:3] or 'none'}, buffers: {found.buffers[:3] or 'none'}; "
            f"{_largest_input(batches)}."
        )
        if keep is not None:
            mine += f" {keep(content(model, group, found.where, backward.keywords.get('size')))}"
    others = [text for text in distributed.gather(mine) if text]
    raise FloatingPointError(
        f"{what}; weights and BatchNorm statistics were not changed. {' '.join(others)} Lower optim.lr, set "
        "train.clip_norm, or check the data with python -m data.check"
    )


def first_not_finite(model: nn.Module, group: list[Batch], backward: Backward) -> Finding:
    """Run the batches and watch the input, the output of each layer, the gradient there, parameters and buffers."""
    for i, batch in enumerate(group):
        if batch.x.is_floating_point() and not batch.x.isfinite().all():
            found = Finding("its input is not finite", -1, i)
            break
    else:
        found = Finding()
    model.zero_grad(set_to_none=True)
    with _watching(model, found), torch.compiler.set_stance("force_eager"):
        backward(model, group)
    found.gradients = [k for k, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    found.buffers = [k for k, b in model.named_buffers() if b.is_floating_point() and not b.isfinite().all()]
    if not found.where and (found.gradients or found.buffers):
        name = (found.gradients or found.buffers)[0]
        found.where = f"{'the gradient of ' if found.gradients else ''}{name} is not finite"
        found.at = 1e9  # after all outputs
    elif not found.where:
        gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        if not nn.utils.get_total_norm(gradients.values()).isfinite():
            name = max(gradients, key=lambda k: float(gradients[k].abs().max()))
            peak = float(gradients[name].abs().max())
            found.where = f"the gradient of {name} reaches {peak:.3g}, too much for a norm in float32"
            found.at = 1e9
    return found


@contextmanager
def _watching(model: nn.Module, found: Finding) -> Iterator[None]:
    """Within: the first output of a layer, or gradient there, that is not finite is noted in `found`."""
    looked, calls = 0, -1

    def look(tensor: Tensor, where: str, batch: int | None) -> None:
        nonlocal looked
        looked += 1
        if not found.where and not tensor.isfinite().all():
            found.where, found.at, found.batch = where, looked, batch

    def began(module: nn.Module, inputs: Any) -> None:
        nonlocal calls
        calls += 1

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def ended(module: nn.Module, inputs: Any, output: Any) -> None:
            layer = f"{name} ({type(module).__name__})" if name else "the losses"
            for tensor in tree_leaves(output):
                if isinstance(tensor, Tensor) and tensor.is_floating_point():
                    verb = "is" if name else "are"
                    look(tensor.detach(), f"{'the output of ' * bool(name)}{layer} {verb} not finite", calls)
                    if tensor.requires_grad:
                        text = f"the gradient at the output of {layer} is not finite"
                        tensor.register_hook(lambda gradient, text=text: look(gradient, text, None))

        return ended

    hooks: list[Any] = [model.register_forward_pre_hook(began)]
    hooks += [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def content(model: nn.Module, group: list[Batch], where: str, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """What runs a step again: weights, batches, generator and membranes before it, as tensors and plain values."""
    batches = [{k: v for k, v in asdict(batch).items() if k != "placements"} for batch in group]
    neurons = {k: m for k, m in model.named_modules() if isinstance(m, StatefulNeuron) and m.stream is not None}
    return {
        "where": where,
        "model": model.state_dict(),
        "batches": batches,
        "size": size,
        "generator": torch.get_rng_state(),
        "carried": {name: neuron.carried for name, neuron in neurons.items()},
    }


def _largest_input(group: list[Batch]) -> str:
    peaks: list[tuple[float, int]] = []
    for batch in group:
        x = batch.x.float()
        rows = (x.transpose(0, 1) if x.dim() == 5 else x).flatten(1).abs()
        peaks += zip(rows.nan_to_num(math.inf, math.inf).amax(1).tolist(), batch.image_ids, strict=True)
    peak, image = max(peaks)
    return (
        f"largest input: {peak:.3g} in image {image}" if math.isfinite(peak) else f"input of image {image} not finite"
    )
