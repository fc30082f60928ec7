"""Batch normalization synchronized across ranks, on any device."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from . import collectives
from .collectives import FunctionContext


class SyncBatchNorm(_BatchNorm):
    """Batch normalization over the samples of all ranks; plain batch norm in evaluation mode or with one rank.

    Statistics and running statistics equal those of a single process with the whole batch, for unequal slices too; they are
    computed in at least float32. (`torch.nn.SyncBatchNorm` has no CPU kernel.)
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that PyTorch gave it
        """Normalize each channel of (B, C, ...); raises ValueError if a rank has no sample."""
        if not self.training or collectives.ranks() == 1:
            return super().forward(input)
        if not input.numel():
            raise ValueError(
                f"batch norm: a rank has no sample; give a batch of at least {collectives.ranks()}, one for every rank"
            )
        weight_C = torch.ones(self.num_features, device=input.device) if self.weight is None else self.weight
        bias_C = torch.zeros_like(weight_C) if self.bias is None else self.bias
        normalised: Tensor
        normalised, mean_C, variance_C, count_1 = _Normalise.apply(input, weight_C, bias_C, self.eps)  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), rate)
            self.running_var.lerp_((variance_C * count_1 / (count_1 - 1)).to(self.running_var.dtype), rate)
        return normalised

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.ndim < 2:
            raise ValueError(f"batch norm: must be given (B, C, ...), got {(*input.shape,)}")


def convert_sync_batchnorm(module: nn.Module) -> None:
    """Replace every batch norm in a module by `SyncBatchNorm`, in place; parameters, names, hooks and sharing stay."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            each.__class__ = SyncBatchNorm  # type: ignore[assignment]  # only what it does is different


class _Normalise(torch.autograd.Function):
    """Autograd function of the synchronized normalization; gradients follow the convention of `gather`."""

    @staticmethod
    def forward(
        ctx: FunctionContext, values: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean_C, variance_C, count_1 = _moments(values)
        ctx.save_for_backward(values, weight_C, mean_C, torch.rsqrt(variance_C + eps), count_1)
        ctx.mark_non_differentiable(mean_C, variance_C, count_1)
        affine = weight_C.to(mean_C.dtype), bias_C.to(mean_C.dtype)
        normalised = F.batch_norm(values, mean_C, variance_C, *affine, training=False, eps=eps)
        return normalised, mean_C, variance_C, count_1

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionContext, gradient: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor, None]:
        values, weight_C, mean_C, inverse_C, count_1 = ctx.saved_tensors
        wide = gradient.to(mean_C.dtype)
        unit = (values - _across(mean_C, values)) * _across(inverse_C, values)
        bias_C, slope_C = wide.sum(_rest(values)), (wide * unit).sum(_rest(values))
        all_bias_C, all_slope_C = (collectives.all_reduce(torch.cat([bias_C, slope_C])) / count_1).chunk(2)
        centred = wide - _across(all_bias_C, values) - unit * _across(all_slope_C, values)
        asked = centred * _across(inverse_C * weight_C, values)
        return asked.to(values.dtype), slope_C.to(weight_C.dtype), bias_C.to(weight_C.dtype), None


def _moments(local: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over all ranks, (C,) each, and the number of values, (1,)."""
    wide = local.detach().to(collectives.accumulation_dtype(local))
    variance_C, mean_C = torch.var_mean(wide, _rest(local), correction=0)
    count_1 = wide.new_full((1,), local.numel() // local.shape[1])
    told_WK = torch.stack(collectives.all_gather(torch.cat([mean_C, variance_C, count_1])))  # K = 2C + 1
    mean_WC, variance_WC, count_W1 = torch.split(told_WK, [len(mean_C), len(mean_C), 1], dim=1)
    share_W1 = count_W1 / count_W1.sum()
    mean_C = (share_W1 * mean_WC).sum(dim=0)
    variance_C = (share_W1 * (variance_WC + (mean_WC - mean_C).square())).sum(dim=0)
    return mean_C, variance_C, count_W1.sum(dim=0)


def _rest(values: Tensor) -> list[int]:
    """All axes except the channel axis."""
    return [axis for axis in range(values.ndim) if axis != 1]


def _across(channels_C: Tensor, like: Tensor) -> Tensor:
    return channels_C.view(1, -1, *[1] * (like.ndim - 2))
