"""BatchNorm with the statistics of the batches of all ranks, on any device and backend of torch.distributed."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from registry import UserError

from .distributed import world_size


class SyncBatchNorm(nn.BatchNorm2d):
    """y = weight (x - mean) / sqrt(var + eps) + bias, in training with mean and biased var per channel over N, H, W of
    x [N, C, H, W] on all ranks, which may have different N. Time is folded into N = T * B, as for `nn.BatchNorm2d`, so
    that statistics are over all steps. In evaluation, and with one rank, it is `nn.BatchNorm2d`.

    Gradients of `weight` and `bias` are those of this rank's images: DDP adds them up.

    Differs from `nn.SyncBatchNorm`: it runs on CPUs, too, and never waits for the device. There each layer does, to
    leave out ranks without values.
    """

    @torch.compiler.disable
    def _over_ranks(self, x: Tensor) -> Tensor:
        mean, var, count = _statistics(x.detach())
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.running_mean is not None and self.running_var is not None:
            assert self.momentum is not None
            with torch.no_grad():
                unbiased = var * (count / (count - 1)).to(var.dtype)
                self.running_mean.copy_((1 - self.momentum) * self.running_mean + self.momentum * mean)
                self.running_var.copy_((1 - self.momentum) * self.running_var + self.momentum * unbiased)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        return _Normalised.apply(x, weight, bias, mean, var, count, self.eps)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        return self._over_ranks(x)


def sync_batchnorm(model: nn.Module) -> None:
    """Turn every BatchNorm2d below `model` into a SyncBatchNorm, in place: parameters and names stay."""
    for name, module in model.named_modules():
        if type(module) is nn.BatchNorm2d and module.momentum is not None:
            module.__class__ = SyncBatchNorm
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, SyncBatchNorm):
            raise UserError(
                f"train.sync_batchnorm = true: {name} is a {type(module).__name__}, and only BatchNorm2d, of "
                "[T * B, C, H, W], can have statistics over all ranks: set it to false"
            )


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [C], biased variance [C], number of values per channel []) over all ranks, by one exchange.

    Moments are exchanged in float64, in which E[x^2] - E[x]^2 loses nothing that float32 could hold. On a CPU they are
    also computed in it, as those of `nn.BatchNorm2d` are.
    """
    x = x if x.dtype == torch.float64 else x.float()
    var, mean = (m.double() for m in torch.var_mean(x.double() if x.is_cpu else x, (0, 2, 3), correction=0))
    here = x.numel() // x.shape[1]
    sums = torch.cat([mean * here, (var + mean.square()) * here, mean.new_full((1,), here)])
    dist.all_reduce(sums)
    count = sums[-1]
    mean, square = (sums[:-1] / count).chunk(2)
    return mean.to(x.dtype), (square - mean.square()).clamp(min=0).to(x.dtype), count


class _Normalised(torch.autograd.Function):
    """The normalisation of BatchNorm by given statistics, which are those of x on all ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: Tensor, eps: float
    ):
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """With z = (x - mean) / s, s = sqrt(var + eps), g the gradient and M values on all ranks:
        dx = weight / s (g - sum(g) / M - z sum(g z) / M), sums over all ranks. (Ioffe and Szegedy, 2015, section 3.)"""
        x, weight, mean, var, count = ctx.saved_tensors
        fixed = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        dx, of_weight, of_bias = fixed  # weight g / s, and this rank's sum(g z) and sum(g)
        sums = torch.stack([of_weight, of_bias])
        dist.all_reduce(sums)
        per_value = sums / count.to(sums.dtype)
        inverse = (var + ctx.eps).rsqrt()
        slope, offset = (-weight * inverse * part for part in (inverse * per_value[0], per_value[1]))
        shape = (1, -1, 1, 1)
        correction = torch.addcmul(offset.view(shape), x - mean.view(shape), slope.view(shape))
        return dx + correction.to(dx.dtype), of_weight, of_bias, None, None, None, None
