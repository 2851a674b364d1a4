"""The multi-step operators `spikesight::steps` and `spikesight::steps_backward`, registered with PyTorch.

torch.compile, torch.export, DDP, checkpointing and operator counters see one node per neuron. The backend is
chosen at run time (`backends.py`). Packed bits are saved for backward where the dynamics allow it, else the input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from . import backends, formulas
from .dynamics import Dynamics
from .layout import empty_steps, flat, laid_out_like, unflat, with_dense_steps
from .reference import reference


def run_steps(
    x_seq: Tensor, v: Tensor | None, decay: Tensor | None, threshold: Tensor | None, dynamics: str, save: bool,
    return_v: bool, backend: str, adjusted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """All steps of a neuron: y_seq [T, ...], the bits for backward [bytes, ...] and the last membrane [...].

    Args:
        x_seq: [T, ...] fp32, fp16, bf16 or fp64, in any memory format.
        v: [...] membrane to start from; None: `v_init` of the dynamics.
        decay, threshold: learned 1/tau and threshold, 0-d; None: those of the dynamics.
        dynamics: `Dynamics.to_json`.
        save: a backward will follow.
        return_v: return the last membrane, which is empty otherwise.
        backend: auto, torch, compile or cupy.
        adjusted: `Dynamics.operands` in place of those of the dynamics: a graph that torch.compile has made around the
            neuron serves all of them. None: those of the dynamics.
    """
    d = Dynamics.from_json(dynamics).with_operands(adjusted)
    x_seq = with_dense_steps(x_seq)
    if not x_seq.numel():
        return _empty(d, x_seq, decay, threshold, save, return_v)
    run = backends.choose(backend, x_seq)
    y, packed, v_last = run.forward(
        d, flat(x_seq), _flat_state(v, x_seq, x_seq.dtype), _scalar(decay, x_seq), _scalar(threshold, x_seq), save,
        return_v,
    )  # fmt: skip
    return unflat(y, x_seq), unflat(packed, x_seq), unflat(v_last[None], x_seq)[0] if return_v else v_last


def run_steps_backward(
    grad_y_seq: Tensor, grad_v: Tensor | None, saved: Tensor, v: Tensor | None, decay: Tensor | None,
    threshold: Tensor | None, dynamics: str, return_grad_v: bool, backend: str, adjusted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x_seq, v (empty unless `return_grad_v`), and the learned decay and threshold (empty if not learned).

    `saved` is what `steps` saved: its bits, or its input where the dynamics need it.
    """
    d, dtype = Dynamics.from_json(dynamics).with_operands(adjusted), grad_y_seq.dtype
    saved = with_dense_steps(saved)
    if not grad_y_seq.numel():
        return _empty_gradients(grad_y_seq, saved, decay, threshold, return_grad_v)
    run = backends.choose(backend, grad_y_seq)
    grad_x, grad_v, grad_decay, grad_threshold = run.backward(
        d, flat(laid_out_like(grad_y_seq, saved)), _flat_state(grad_v, saved, dtype), flat(saved),
        _flat_state(v, saved, dtype), _scalar(decay, saved), _scalar(threshold, saved), return_grad_v,
    )  # fmt: skip
    grad_v = unflat(grad_v[None], saved)[0] if return_grad_v else grad_v
    return unflat(grad_x, saved), grad_v, grad_decay, grad_threshold


def _scalar(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    """A learned 0-d parameter in the dtype of the membrane. Kernels read it through a pointer, hence the check."""
    if parameter is None:
        return None
    if parameter.device != like.device:
        raise RuntimeError(f"the neuron's parameters are on {parameter.device}, its input is on {like.device}")
    return parameter.to(torch.float64 if like.dtype == torch.float64 else torch.float32)


def _flat_state(v: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The membrane [...] as [M], with the layout of the steps of `like`, in the dtype of computation for `dtype`."""
    return None if v is None else flat(laid_out_like(v[None].to(formulas.compute_dtype(dtype)), like))[0]


def _empty(d: Dynamics, x_seq: Tensor, decay, threshold, save: bool, return_v: bool) -> tuple[Tensor, Tensor, Tensor]:
    bits = d.bits(decay is not None, threshold is not None) if save else 0
    v_last = empty_steps(x_seq, 1, formulas.compute_dtype(x_seq.dtype))[0]
    return (
        empty_steps(x_seq, x_seq.shape[0], x_seq.dtype),
        empty_steps(x_seq, formulas.bytes_for(x_seq.shape[0], bits), torch.uint8),
        v_last if return_v else v_last.new_empty(0),
    )


def _empty_gradients(grad_y_seq: Tensor, saved: Tensor, decay, threshold, return_grad_v: bool):
    grad_v = empty_steps(saved, 1, formulas.compute_dtype(grad_y_seq.dtype))[0]
    none = grad_v.new_empty(0)
    return (
        empty_steps(saved, grad_y_seq.shape[0], grad_y_seq.dtype),
        torch.zeros_like(grad_v) if return_grad_v else none,
        none.new_empty(0) if decay is None else grad_v.new_zeros(()),
        none.new_empty(0) if threshold is None else grad_v.new_zeros(()),
    )


operator = torch.library.custom_op("spikesight::steps", run_steps, mutates_args=())
operator_backward = torch.library.custom_op("spikesight::steps_backward", run_steps_backward, mutates_args=())


@operator.register_fake
def _(x_seq, v, decay, threshold, dynamics, save, return_v, backend, adjusted=None):
    return _empty(Dynamics.from_json(dynamics), with_dense_steps(x_seq), decay, threshold, save, return_v)


@operator_backward.register_fake
def _(grad_y_seq, grad_v, saved, v, decay, threshold, dynamics, return_grad_v, backend, adjusted=None):
    return _empty_gradients(grad_y_seq, with_dense_steps(saved), decay, threshold, return_grad_v)


def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    x_seq, v, decay, threshold, ctx.dynamics, save, ctx.return_v, ctx.backend, adjusted = inputs
    _, packed, v_last = output
    ctx.mark_non_differentiable(packed, *([] if ctx.return_v else [v_last]))
    ctx.set_materialize_grads(True)
    ctx.saves = save
    if save:
        d = Dynamics.from_json(ctx.dynamics)
        ctx.bits = d.bits(decay is not None, threshold is not None)
        ctx.save_for_backward(packed if ctx.bits else x_seq, v, decay, threshold, adjusted)


def backward(ctx: Any, grad_y_seq: Tensor, _: Tensor, grad_v: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.saves:
        raise RuntimeError("spikesight::steps ran with save=False and kept nothing for backward")
    saved, v, decay, threshold, adjusted = ctx.saved_tensors
    handed_on = grad_v if ctx.return_v else None
    if torch.is_grad_enabled():
        found = _differentiable(ctx, grad_y_seq, handed_on, saved, v, decay, threshold, adjusted)
    else:
        run = run_steps_backward if runs_now(grad_y_seq) else operator_backward
        found = run(
            grad_y_seq, handed_on, saved, v, decay, threshold, ctx.dynamics, v is not None, ctx.backend, adjusted
        )
    gradients = (g if t is not None else None for g, t in zip(found, (saved, v, decay, threshold), strict=True))
    return (*gradients, None, None, None, None, None)


def _differentiable(ctx: Any, grad_y_seq, grad_v, saved, v, decay, threshold, adjusted) -> tuple[Tensor | None, ...]:
    """The gradients, differentiable again: for `create_graph=True`."""
    d = Dynamics.from_json(ctx.dynamics).with_operands(adjusted)
    if ctx.bits:  # linear in the gradients, with constant masks
        packed = with_dense_steps(saved)
        g, handed_on = flat(laid_out_like(grad_y_seq, packed)), _flat_state(grad_v, packed, grad_y_seq.dtype)
        gx, gv, gd, gt = formulas.backward(d, g, handed_on, flat(packed), None, decay, threshold, v is not None)
        return unflat(gx, packed), unflat(gv[None], packed)[0] if v is not None else gv, gd, gt
    inputs = (saved, v, decay, threshold)
    y_seq, v_last = reference(d, *inputs)
    outputs, grads = ([y_seq], [grad_y_seq]) if grad_v is None else ([y_seq, v_last], [grad_y_seq, grad_v])
    wanted = [t for t in inputs if t is not None]
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True, allow_unused=True))
    return tuple(None if t is None else next(found) for t in inputs)


operator.register_autograd(backward, setup_context=setup_context)


class _Steps(torch.autograd.Function):
    """Fast path outside tracing and dispatch modes: the registered operator costs 0.1 ms more per call."""

    @staticmethod
    def forward(ctx, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        output = run_steps(*arguments)
        setup_context(ctx, arguments, output)
        return output

    backward = staticmethod(backward)  # type: ignore[assignment]


def runs_now(x: Tensor) -> bool:
    """Whether x is an ordinary tensor with data, outside tracing, dispatch modes and functorch transforms."""
    if torch.compiler.is_compiling() or type(x) not in (Tensor, nn.Parameter) or x.is_meta:
        return False
    # The private function was checked with torch 2.14.
    return not is_in_torch_dispatch_mode() and not torch._C._are_functorch_transforms_active()


def steps(
    x_seq: Tensor, v: Tensor | None, decay: Tensor | None, threshold: Tensor | None, dynamics: str, save: bool,
    return_v: bool, backend: str, adjusted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`run_steps` with its gradient: the registered operator under tracing and dispatch modes, else directly."""
    arguments = (x_seq, v, decay, threshold, dynamics, save, return_v, backend, adjusted)
    if not runs_now(x_seq):
        return operator(*arguments)
    return _Steps.apply(*arguments) if save else run_steps(*arguments)
