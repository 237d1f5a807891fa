"""Calls of torch as model code makes them, with the shapes of the tensors that they take.

A line of `TABLE`, and of `REFUSED` for calls that a Dual must refuse, is ``shapes | call, call, ...``: the
calls take tensors a, b, c, ... of these shapes. A sign before a shape chooses the numbers: ``+`` positive
ones from 0.5, ``~`` ones between -0.9 and 0.9, ``>`` ones above 1; otherwise normal ones. Constants are
those of `CONSTANTS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CALLS", "CONSTANTS", "LOST", "REFUSED", "TABLE", "Call", "draw"]

CONSTANTS: dict[str, Any] = {
    "torch": torch, "F": F, "nn": nn, "linalg": torch.linalg, "special": torch.special, "fft": torch.fft,
    "inf": float("inf"),
    "i": torch.tensor([2, 0, 1, 1]), "j": torch.tensor([0, 2, 2]),
    "m": torch.tensor([True, False, True, True]),
    "ij": torch.tensor([[0, 2, 1], [1, 1, 0], [2, 0, 0], [0, 0, 2]]),
    "words": torch.tensor([[0, 3, 1], [4, 1, 3]]),
    "mask": torch.tensor([[True, False, True], [False, False, True], [True] * 3, [False, True, False]]),
    "x": torch.randn(4, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64),
    "one": torch.tensor(1.5, dtype=torch.float64),
    "signs": torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64),
    "many": torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.float64),
    "ones": torch.ones(4, 3, dtype=torch.float64), "zero": torch.zeros(4, 3, dtype=torch.float64),
}  # fmt: skip

TABLE = """
4,3 | torch.exp(a), torch.expm1(a), torch.exp2(a), torch.sin(a), torch.cos(a), torch.tan(a), torch.atan(a)
4,3 | torch.sinh(a), torch.cosh(a), torch.asinh(a), torch.tanh(a), torch.sigmoid(a), torch.erf(a), torch.erfc(a)
4,3 | torch.abs(a), torch.neg(a), torch.square(a), torch.positive(a), torch.sinc(a), torch.frac(a), torch.arctan(a)
4,3 | torch.deg2rad(a), torch.rad2deg(a), torch.arcsinh(a), torch.absolute(a), torch.negative(a), abs(a), a.abs()
4,3 | a.exp(), a.sin(), a.cos(), a.tanh(), a.sigmoid(), a.erf(), a.square(), a.expm1(), a.relu(), -a, +a
+4,3 | torch.log(a), torch.log2(a), torch.log10(a), torch.log1p(a), torch.sqrt(a), torch.rsqrt(a), torch.lgamma(a)
+4,3 | torch.reciprocal(a), a.log(), a.sqrt(), a.rsqrt(), a.reciprocal(), a ** 0.5, a.pow(-1.5), torch.pow(a, 3), 2.0 ** a
>4,3 | torch.acosh(a), torch.arccosh(a), torch.digamma(a), torch.polygamma(1, a), torch.special.gammaln(a)
~4,3 | torch.asin(a), torch.acos(a), torch.atanh(a), torch.arcsin(a), torch.arccos(a), torch.arctanh(a), torch.erfinv(a)
4,3 | F.relu(a), F.relu6(3 * a), F.elu(a), F.elu(a, 1.5), F.selu(a), F.celu(a), F.celu(a, 0.5), F.gelu(a), F.silu(a)
4,3 | F.gelu(a, approximate="tanh"), F.mish(a), F.softplus(a), F.softplus(a, 2.0, 1.0), F.softsign(a), F.tanhshrink(a)
4,3 | F.leaky_relu(a), F.leaky_relu(a, 0.2), F.hardtanh(a), F.hardtanh(a, -0.4, 0.3), F.hardswish(3 * a), F.hardsigmoid(3 * a)
4,3 | F.hardshrink(a), F.hardshrink(a, 0.2), F.softshrink(a), F.softshrink(a, 0.1), F.threshold(a, 0.1, 2.0), F.logsigmoid(a)
4,3 | torch.relu(a), torch.selu(a), torch.celu(a), torch.threshold(a, 0.1, 2.0), F.rrelu(a), torch.rrelu(a), F.sigmoid(a), F.tanh(a)
4,3; 3 | F.prelu(a, b), torch.prelu(a, b)
4,3; 1 | F.prelu(a, b)
2,3,4; 3 | F.prelu(a, b)
4,6 | F.glu(a), F.glu(a, 0), F.glu(a, dim=-1)
+4,3 | torch.logit(a / 4), a.logit(0.6), torch.special.expit(a), torch.special.entr(a), torch.xlogy(a, a), torch.special.log_ndtr(a)
4,3 | a + 1, 1 + a, a - 2, 2 - a, a * 3, 3 * a, a / 2, a.add(1.5), torch.sub(a, 2), torch.rsub(a, 3), torch.mul(a, 2.0)
+4,3 | 2 / a, 1 / a, a ** 2, a ** 3, a ** 0, a ** 1, a.div(3), torch.true_divide(a, 3), torch.divide(a, 2), torch.multiply(a, 2)
4,3; 4,3 | a + b, a - b, a * b, torch.add(a, b, alpha=2), torch.sub(a, b, alpha=0.5), torch.hypot(a, b), torch.atan2(a, b)
4,3; 3 | a + b, a - b, a * b, b - a, torch.add(b, a), torch.rsub(a, b), torch.maximum(a, b), torch.minimum(a, b), torch.max(a, b)
4,1; 3 | a + b, a * b, torch.maximum(a, b), torch.fmax(a, b), torch.fmin(a, b), torch.logaddexp(a, b), torch.logaddexp2(a, b)
4,3; +4,3 | a / b, torch.div(a, b), a.div(b), b ** a, torch.pow(b, a), torch.float_power(b, a), torch.xlogy(a, b), torch.ldexp(a, b)
4,3; +3 | a / b, a % b, torch.div(a, b, rounding_mode="floor"), torch.div(a, b, rounding_mode="trunc"), torch.fmod(a, b)
4,3 | a % 0.7, torch.remainder(a, 0.7), torch.fmod(a, 0.7), a.remainder(0.3)
4,3; +3 | torch.remainder(a, b), a.fmod(b), b % a, torch.remainder(one, a)
4,3 | torch.floor(a) + a, a.round() * a, a.ceil() - a, a.trunc() * a, torch.sign(a) * a, a.sgn() * a, torch.fix(a) + a
4,3; 4,3 | torch.copysign(a, b), torch.addcmul(a, a, b), torch.addcmul(a, a, b, value=0.3), torch.lerp(a, b, 0.3), a.lerp(b, one)
4,3; 3; 1 | torch.lerp(a, b, c), torch.addcmul(a, b, c), torch.where(mask, a, b) + c, torch.clamp(a, b, b + 1) + c
4,3; +4,3 | torch.addcdiv(a, a, b), torch.addcdiv(a, a, b, value=0.3)
4,3 | a.clamp(-0.5, 0.5), a.clamp(min=0.1), a.clamp(max=0.1), torch.clip(a, -0.3), a.clamp_min(0.2), a.clamp_max(0.2), torch.clamp_min(a, 0.0)
4,3 | torch.nan_to_num(a), torch.clamp(a, x), torch.clamp(a, max=x), a.clamp_min(x), torch.isnan(a) * a
4,3 | torch.where(mask, a, 0.0), torch.where(mask, 1.0, a), torch.where(a > 0, a, a * 2), a.where(mask, x), torch.where(mask, x, a)
4,3 | a.masked_fill(mask, 2.0), torch.masked_fill(a, mask, 0.0), a.masked_fill(m[:, None], -1.0), torch.masked_select(a, mask), a.masked_select(mask)
3 | a.masked_fill(mask, 1.0), torch.where(mask, a, x), a.expand(4, 3), torch.broadcast_to(a, (2, 3)), a.expand(2, -1), torch.atleast_2d(a)
4,3 | a.softmax(1), F.softmax(a, 0), torch.softmax(a, -1), F.softmax(a, dim=1), a.log_softmax(1), F.log_softmax(a, 0), torch.log_softmax(a, -1)
4,3 | F.softmin(a, 1), torch.logsumexp(a, 1), a.logsumexp((0, 1)), torch.logsumexp(a, 0, True), a.logsumexp(-1, keepdim=True), F.softmax(a, 1, dtype=torch.float64)
2,3,4 | a.softmax(1), a.log_softmax(1), a.logsumexp(1), a.logsumexp((0, 2))
4,3 | a.sum(), a.sum(0), a.sum(1, True), torch.sum(a, dim=(0, 1)), a.mean(), a.mean(1), a.mean((0, 1), True), torch.mean(a, 0), a.nansum(1), a.nanmean(0)
4,3 | a.var(), a.var(1), a.var(0, False), a.var(1, unbiased=False, keepdim=True), torch.var(a, (0, 1)), torch.var(a, 1, correction=0), a.var(False)
4,3 | a.std(), a.std(1), torch.std(a, 0, keepdim=True), torch.std(a, dim=1, correction=0), torch.var_mean(a, 1), torch.std_mean(a, 0, keepdim=True), torch.var_mean(a)
+4,3 | a.prod(), a.prod(1), torch.prod(a, 0, True), a.cumprod(1), torch.cumprod(a, 0)
4,3 | a.cumsum(0), torch.cumsum(a, -1), a.logcumsumexp(1), torch.cummax(a, 1), torch.cummin(a, 0), torch.diff(a), torch.diff(a, dim=0), torch.trapezoid(a), torch.cumulative_trapezoid(a)
4,3 | a.max(), a.min(), a.max(1), torch.min(a, 0), a.max(1, True), a.max(dim=-1, keepdim=True), a.amax(1), a.amin(), torch.amax(a, (0, 1)), torch.aminmax(a, dim=0)
4,3 | a.median(), a.median(1), torch.nanmedian(a), a.mode(1), a.kthvalue(2, 1), a.topk(2), torch.topk(a, 2, 0), a.sort(1), torch.sort(a, 0, True), a.sort(dim=0, stable=True), torch.msort(a), a.quantile(0.3), a.quantile(0.3, 1), torch.nanquantile(a, 0.6, 0)
4,3 | a.norm(), a.norm(dim=1), torch.norm(a, 2, 0), linalg.norm(a), linalg.vector_norm(a), linalg.vector_norm(a, dim=1, keepdim=True), a.norm(1), a.norm(p=3, dim=1), linalg.vector_norm(a, inf, 1), torch.renorm(a, 2, 0, 1.0), torch.dist(a, x), torch.dist(x, a, 1)
4,3 | F.normalize(a), F.normalize(a, dim=0), F.normalize(a, 1.0, 1), F.normalize(a, 3.0), F.cosine_similarity(a, x), F.pairwise_distance(a, x), F.pdist(a), torch.cdist(a, x), torch.cdist(a, x, 1.0), torch.cdist(a, x, 3.0), torch.cdist(a, x, inf)
4,3; 5,3 | torch.cdist(a, b), torch.cdist(a, b, p=1.0), torch.cdist(a, b, 2.0, "donot_use_mm_for_euclid_dist"), torch.cdist(a[None], b[None], 2.0, "use_mm_for_euclid_dist")
4,3; 4,3 | F.cosine_similarity(a, b), F.cosine_similarity(a, b, 0), F.pairwise_distance(a, b), F.pairwise_distance(a, b, 1.0), torch.linalg.vecdot(a, b), torch.vdot(a[0], b[0])
4,5; 3,5; 3 | F.linear(a, b, c), F.linear(a, b)
5; 3,5; 3 | F.linear(a, b, c)
2,4,5; 3,5; 3 | F.linear(a, b, c), F.linear(a, b, bias=c)
4,5; 5 | F.linear(a, b)
2,4,5; 5 | F.linear(a, b), a @ b
4,5; 5,3 | a @ b, torch.mm(a, b), torch.matmul(a, b), a.mm(b), b.__rmatmul__(a), torch.chain_matmul(a, b), linalg.multi_dot((a, b)), torch.tensordot(a, b, 1), torch.einsum("ij,jk", a, b)
2,4,5; 2,5,3 | a @ b, torch.bmm(a, b), a.bmm(b), torch.matmul(a, b), torch.einsum("bij,bjk->bik", a, b), torch.einsum("...ij,...jk->...ik", a, b)
2,4,5; 5,3 | a @ b, torch.tensordot(a, b, dims=([2], [0])), torch.einsum("bij,jk->bki", a, b)
4,5; 2,5,3 | a @ b
5; 5 | a @ b, torch.dot(a, b), a.dot(b), torch.inner(a, b), torch.outer(a, b), torch.ger(a, b), torch.linalg.cross(a[:3], b[:3]), torch.kron(a, b)
4,5; 5 | torch.mv(a, b), a.mv(b), a @ b, torch.inner(a, b)
4,3; 4,5; 5,3 | torch.addmm(a, b, c), torch.addmm(a, b, c, beta=0.5, alpha=2), a.addmm(b, c)
3; 4,5; 5,3 | torch.addmm(a, b, c)
2,4,3; 2,4,5; 2,5,3 | torch.baddbmm(a, b, c), torch.baddbmm(a, b, c, beta=0.3, alpha=2)
4,3; 2,4,5; 2,5,3 | torch.addbmm(a, b, c), torch.baddbmm(a, b, c)
4; 4,5; 5 | torch.addmv(a, b, c), torch.addr(b, a, c)
4,3; 4,5; 2,3,5; 2 | F.bilinear(a, b, c, d)
4,3 | a.reshape(2, 6), a.contiguous().view(-1), a.flatten(), torch.flatten(a, 0), a.unflatten(0, (2, 2)), a.unsqueeze(1), a[:, None].squeeze(1), torch.ravel(a), a.view_as(a), a.reshape_as(x.T)
4,3 | a.t(), a.T, a.mT, a.transpose(0, 1), torch.swapaxes(a, 0, 1), torch.swapdims(a, 0, -1), a.permute(1, 0), torch.permute(a, (1, 0)), a.movedim(0, 1), torch.moveaxis(a, 0, -1), torch.adjoint(a)
4,3 | a.clone(), a.contiguous(), a.to(torch.float64), a.double(), a.type_as(x), a.type(torch.float64), a.detach() * a, a.expand_as(x)
4,3 | a[1], a[:, 1], a[..., None], a[None], a[1:3, ::2], a[m], a[mask], a[i], a[[0, 2]], a[:, j], a[i, [0, 1, 2, 0]], a[..., -1], a[1:, j], a[None, i], a[torch.tensor(1)], a[-1, :], a[i][:, j], list(a), a[i > 0]
2,3,4 | a[:, j], a[0, :, i], a[:, 1, i], a[j[:2] // 2, :, i[:2]], a[:, :, None, 1], a[..., i], a[:, j, i[:3]], a[torch.tensor([0, 1]), 1, torch.tensor([2, 3])]
4,3 | a.select(0, 1), a.select(-1, 0), torch.select(a, 1, 2), a.narrow(0, 1, 2), torch.narrow(a, 1, 0, 2), a.index_select(0, i), torch.index_select(a, 1, j), torch.gather(a, 1, ij), a.gather(0, ij[:2]), torch.take(a, i), torch.take_along_dim(a, ij, 1)
4,3 | torch.atleast_1d(a), torch.atleast_3d(a), torch.empty_like(a).fill_(2.0) * a, a.new_empty(4, 3).zero_() + a, a.new_full((3,), 2.0) * a
6,4 | a.unsafe_split_with_sizes([2, 4]), a.chunk(3), torch.chunk(a, 2, 1), a.split(4), torch.split(a, [1, 5]), a.split([1, 3], dim=1), a.split(2, -1), a.unbind(), torch.unbind(a, 1), torch.tensor_split(a, 4), torch.tensor_split(a, [1, 4]), torch.hsplit(a, 2), torch.vsplit(a, 3), a.split_with_sizes([2, 4]), a.unsafe_chunk(2), a.unsafe_split(3)
4,3; 2,3 | torch.cat([a, b]), torch.cat((a, b), dim=0), torch.concat([a, b]), torch.vstack((a, b)), torch.concatenate([a, b], 0), torch.row_stack((a, b))
4,3; 4,3 | torch.stack([a, b]), torch.stack((a, b), 1), torch.stack([a, b], dim=-1), torch.hstack((a, b)), torch.dstack((a, b)), torch.column_stack((a, b)), torch.cat([a, x, b], 1), torch.stack([x, a]), torch.broadcast_tensors(a, b)
4,3; 3 | torch.broadcast_tensors(a, b), torch.meshgrid(a[:, 0], b, indexing="ij"), torch.cartesian_prod(a[:, 0], b), torch.block_diag(a, b), torch.combinations(b)
4,3 | torch.roll(a, 1), torch.roll(a, 1, 0), a.roll((1, 2), (0, 1)), a.flip(0), torch.flip(a, (0, 1)), a.flip([-1]), torch.fliplr(a), torch.flipud(a), torch.rot90(a), a.tril(), torch.triu(a, 1), torch.tril(a, diagonal=-1)
4,3 | a.repeat(2, 1), a.repeat(2, 1, 3), torch.tile(a, (2,)), a.tile(2, 1), a.tile((2, 2)), a.repeat_interleave(2), a.repeat_interleave(2, 0), torch.repeat_interleave(a, i, dim=0), torch.repeat_interleave(a, 3, 1)
4,3 | a.diagonal(), torch.diagonal(a, 1), a.diag(), torch.diag_embed(a), torch.diag(a[0]), a.unfold(0, 2, 1), a.unfold(1, 2, 1), torch.trace(a), torch.as_strided(a, (2, 2), (3, 1))
4,3 | F.pad(a, (1, 2)), F.pad(a, (1, 0, 2, 1)), F.pad(a, (1, 1), value=3.0), F.pad(a, (-1, 0)), F.pad(a, (0, 0, 1, 0), "constant", 2.0)
2,3,4 | F.pad(a, (1, 2), "reflect"), F.pad(a, (1, 2), mode="replicate"), F.pad(a, (2, 1), "circular"), torch.constant_pad_nd(a, (1, 1))
4,3; 4,3 | torch.scatter(a, 0, ij[:1], b[:1]), a.scatter_add(1, ij, b), torch.index_add(a, 0, i, b), torch.index_copy(a, 0, torch.tensor([3, 1]), b[:2]), a.index_put((i[:3],), b[:3]), a.masked_scatter(mask, b), torch.scatter_reduce(a, 1, ij, b, "sum"), torch.scatter_reduce(a, 1, ij, b, "mean"), torch.select_scatter(a, b[0], 0, 1), torch.slice_scatter(a, b[:2], 0, 1, 3), torch.diagonal_scatter(a, b[0])
4,3 | torch.index_fill(a, 0, torch.tensor([1]), 2.0), a.index_fill(1, torch.tensor([0]), 0.0), torch.scatter(a, 1, ij, 2.0), torch.zeros_like(a) + a, a.new_zeros(4, 3) + a, torch.ones_like(a) * a, torch.full_like(a, 2.0) * a, a.new_tensor([1.0]) * a, a.new_ones(3) * a
4,3; 3; 3 | F.layer_norm(a, (3,), b, c), F.layer_norm(a, (3,)), torch.layer_norm(a, (3,), b, c, 0.1), F.layer_norm(a, [3], b), F.rms_norm(a, (3,), b) + c
2,4,3; 4,3; 4,3 | F.layer_norm(a, (4, 3), b, c)
2,4,3,3; 4; 4 | F.group_norm(a, 2, b, c), torch.group_norm(a, 4, b, c), F.group_norm(a, 1), F.instance_norm(a, None, None, b, c), F.instance_norm(a), F.batch_norm(a, b.detach(), c.detach() ** 2 + 1, b, c), F.batch_norm(a, b.detach(), c.detach() ** 2 + 1), nn.BatchNorm2d(4).double().eval()(a) * b.sum() + c.sum()
4,3; 3; 3 | F.batch_norm(a, b.detach(), c.detach() ** 2 + 1, b, c, False, 0.1, 0.2), torch.batch_norm(a, b, c, c.detach(), b.detach() ** 2 + 1, False, 0.1, 1e-5, False)
2,4,5,5 | F.local_response_norm(a, 3), F.avg_pool2d(a, 2), F.avg_pool2d(a, 3, 2, 1, ceil_mode=True, count_include_pad=False), F.max_pool2d(a, 2), F.max_pool2d(a, 3, 2, 1, 1, True), F.max_pool2d(a, 2, return_indices=True), torch.max_pool2d(a, 2), F.adaptive_avg_pool2d(a, 1), F.adaptive_avg_pool2d(a, (2, 3)), F.adaptive_max_pool2d(a, 2), F.lp_pool2d(a, 2.0, 2), F.adaptive_max_pool2d(a, (1, 2), return_indices=True)
2,4,6 | F.avg_pool1d(a, 2), F.max_pool1d(a, 2), F.max_pool1d(a, 3, 2, 1), torch.max_pool1d(a, 2), F.adaptive_avg_pool1d(a, 3), torch.adaptive_avg_pool1d(a, 2), F.adaptive_max_pool1d(a, 2), F.lp_pool1d(a, 2.0, 2), F.max_pool1d(a, 2, return_indices=True), torch.avg_pool1d(a, 2)
2,2,4,4,4 | F.avg_pool3d(a, 2), F.max_pool3d(a, 2), F.adaptive_avg_pool3d(a, 2), F.adaptive_max_pool3d(a, (1, 2, 2)), F.interpolate(a, scale_factor=2.0, mode="trilinear")
3,4,4 | F.avg_pool2d(a, 2), F.max_pool2d(a, 2), F.adaptive_avg_pool2d(a, 2), F.max_pool1d(a, 2), F.pixel_shuffle(a.repeat(4, 1, 1), 2)
2,4,4,4 | F.interpolate(a, 6), F.interpolate(a, scale_factor=2.0, mode="bilinear"), F.interpolate(a, size=(3, 5), mode="bilinear", align_corners=True), F.interpolate(a, scale_factor=2.0, mode="bicubic"), F.interpolate(a, 2, mode="area"), F.interpolate(a, 3, mode="bilinear", antialias=True), F.upsample(a, scale_factor=2), F.pixel_shuffle(a, 2), torch.pixel_unshuffle(a, 2), F.channel_shuffle(a, 2), F.unfold(a, 2), F.unfold(a, (2, 3), padding=1, stride=2)
2,12,4 | F.fold(a, (3, 3), 2, padding=0), F.fold(a, output_size=(4, 4), kernel_size=2, stride=2), F.interpolate(a, 7, mode="linear"), F.interpolate(a, 7)
2,3,4,4; ~2,3,3,2 | F.grid_sample(a, b, align_corners=False), F.grid_sample(a, b, "nearest", align_corners=True) + b.sum(), F.grid_sample(a, b, padding_mode="border", align_corners=True), F.grid_sample(a, b, padding_mode="reflection", align_corners=False)
2,2,3 | F.affine_grid(a, [2, 1, 3, 4], align_corners=False), F.affine_grid(a, [2, 1, 3, 4], align_corners=True)
2,3,6,5; 4,3,3,3; 4 | F.conv2d(a, b, c), F.conv2d(a, b, c, 2, 1), F.conv2d(a, b, padding="same"), F.conv2d(a, b, c, dilation=2, padding=2), torch.conv2d(a, b, c)
2,4,5,5; 6,2,3,3; 6 | F.conv2d(a, b, c, groups=2)
2,3,6; 4,3,3; 4 | F.conv1d(a, b, c), F.conv1d(a, b, c, 2, 1), F.conv1d(a, b, padding="same"), torch.conv1d(a, b, c, dilation=2)
3,6; 4,3,3; 4 | F.conv1d(a, b, c)
2,2,4,4,4; 3,2,2,2,2; 3 | F.conv3d(a, b, c), F.conv3d(a, b, c, 2, 1), torch.conv3d(a, b)
2,3,4; 3,2,3; 2 | F.conv_transpose1d(a, b, c), F.conv_transpose1d(a, b, c, 2, 1, 1)
2,4,4,4; 4,3,3,3; 3 | F.conv_transpose2d(a, b, c), F.conv_transpose2d(a, b, c, stride=2, padding=1, output_padding=1), torch.conv_transpose2d(a, b)
1,2,3,3,3; 2,2,2,2,2; 2 | F.conv_transpose3d(a, b, c)
5,4 | F.embedding(words, a), F.embedding(words, a, padding_idx=1), F.embedding(words, a, -2), F.embedding(words, a, sparse=False), torch.embedding(a, words), a[words], F.embedding(words[0], a)
5,4 | F.embedding_bag(words, a), F.embedding_bag(words, a, mode="sum"), F.embedding_bag(words, a, mode="max"), F.embedding_bag(words.flatten(), a, torch.tensor([0, 2])), F.embedding_bag(words, a, padding_idx=1), F.embedding_bag(words.flatten(), a, torch.tensor([0, 2, 2]), mode="sum", include_last_offset=False)
5,4; 2,3 | F.embedding_bag(words, a, mode="sum", per_sample_weights=b)
4,3 | F.cross_entropy(a, i), F.cross_entropy(a, i, reduction="none"), F.cross_entropy(a, i, reduction="sum"), F.cross_entropy(a, i, label_smoothing=0.1), F.cross_entropy(a, i, ignore_index=1), F.cross_entropy(a, i, torch.tensor([0.5, 1.0, 3.0]).double()), F.cross_entropy(a, many), F.nll_loss(a.log_softmax(1), i), F.nll_loss(a, i, reduction="none")
2,3,4 | F.cross_entropy(a, ij[:2, :1].expand(2, 4)), F.nll_loss(a, ij[:2, :1].expand(2, 4), reduction="sum")
4,3 | F.mse_loss(a, x), F.mse_loss(a, x, reduction="none"), F.l1_loss(a, x), F.smooth_l1_loss(a, x), F.smooth_l1_loss(a, x, beta=0.3), F.huber_loss(a, x), F.huber_loss(a, x, delta=0.3), F.kl_div(a, many), F.kl_div(a, many + 0.1, reduction="batchmean"), F.kl_div(a, x, log_target=True), F.poisson_nll_loss(a, many), F.gaussian_nll_loss(a, x, ones)
4,3 | F.binary_cross_entropy_with_logits(a, many), F.binary_cross_entropy_with_logits(a, many, reduction="none"), F.soft_margin_loss(a, 2 * many - 1), F.multilabel_soft_margin_loss(a, many), F.multi_margin_loss(a, i), F.multilabel_margin_loss(a, ij), F.hinge_embedding_loss(a, 2 * many - 1), F.cosine_embedding_loss(a, x, signs), F.margin_ranking_loss(a[:, 0], x[:, 0], signs), F.triplet_margin_loss(a, x, x.flip(0)), F.multi_margin_loss(a, i, p=2, margin=0.5), F.triplet_margin_with_distance_loss(a, x, x.flip(0))
4,3; 4,3 | F.mse_loss(a, b), F.l1_loss(a, b), F.smooth_l1_loss(a, b, reduction="sum"), F.binary_cross_entropy(torch.sigmoid(a), torch.sigmoid(b)), F.cross_entropy(a, b.softmax(1)), F.huber_loss(a, b), F.gaussian_nll_loss(a, x, b.exp())
4,8 | F.scaled_dot_product_attention(a, a, a), F.scaled_dot_product_attention(a[None], a[None], a[None], is_causal=True)
2,3,4; 2,5,4; 2,5,6 | F.scaled_dot_product_attention(a, b, c), F.scaled_dot_product_attention(a, b, c, scale=0.2)
4,4 | linalg.inv(a + 3 * torch.eye(4)), linalg.det(a), torch.logdet(a @ a.mT + torch.eye(4)), linalg.cholesky(a @ a.mT + torch.eye(4)), torch.inverse(a), linalg.matrix_exp(a), linalg.solve(a, x.double()), linalg.matrix_power(a, 3), linalg.slogdet(a)[1], linalg.eigvalsh(a + a.mT), linalg.svdvals(a), linalg.matrix_norm(a), linalg.pinv(a), torch.trace(a), linalg.solve_triangular(a, x.double(), upper=True), linalg.qr(a)[1]
4,4 | fft.rfft(a).real, fft.irfft(fft.rfft(a)), fft.fft2(a).imag, torch.view_as_real(fft.fft(a)), fft.fftshift(a), torch.stft(a[0].repeat(4), 8, window=torch.ones(8).double(), return_complex=True).abs(), torch.complex(a, a).abs(), torch.polar(a.exp(), a).real, fft.fft(a).angle()
4,3 | torch.bucketize(a, x[0].sort()[0]) * a, (a > 0) * a, a.argmax(1)[:, None] * a, a.argsort(1) * a, torch.bincount(i) .sum() * a, a.eq(a) * a, a.size(0) * a, a.numel() * a, a.isfinite() * a, F.one_hot(a.argmax(1), 3) * a
4,3 | torch.corrcoef(a), torch.cov(a), torch.cross(a, x, dim=1), torch.histc(a.detach()).sum() * a, torch.special.logsumexp(a, 1), torch.special.softmax(a, 1), torch.special.erf(a), torch.special.i0(a), torch.i0(a), torch.special.sinc(a), torch.special.ndtr(a), torch.special.log_softmax(a, 1)
2,4,3 | torch.baddbmm(a, a, a[:, :3]), a.sum((0, 2)), a.mean((-1, -2)), torch.einsum("bij->bji", a), torch.einsum("bii->bi", a[:, :3]), a.flatten(1), a.permute(2, 0, 1), a.transpose(-1, -2), a.unflatten(1, (2, 2)), a.squeeze(), a.unsqueeze(-1), torch.amax(a, (1, 2)), a.norm(dim=(1, 2)), F.layer_norm(a, (4, 3)), F.dropout(a, 0.5, False), F.dropout2d(a, 0.3, False), F.alpha_dropout(a, 0.3, False)
"""  # noqa: E501


REFUSED = """
4,3 | torch.segment_reduce(a, "sum", lengths=torch.tensor([1, 3])), torch.segment_reduce(a, "max", lengths=torch.tensor([3, 1]))
6,2,3 | F.ctc_loss(a.log_softmax(2), torch.tensor([[1, 2], [2, 1]]), (6, 6), (2, 2))
4,3 | F.gumbel_softmax(a, dim=1), F.rrelu(a, training=True), F.dropout(a), F.alpha_dropout(a, 0.4, True), torch.dropout(a, 0.2, True)
2,4,3 | F.dropout1d(a), F.feature_alpha_dropout(a, 0.2, True), F.batch_norm(a, None, None, training=True)
2,4,3 | F.instance_norm(a, torch.zeros(4).double(), torch.ones(4).double()), F.fractional_max_pool2d(a, 2, output_size=2)
5,4 | F.embedding(words, a, max_norm=1.0), F.embedding(words, a, scale_grad_by_freq=True), F.embedding_bag(words, a, max_norm=1.0)
4,3 | torch.bernoulli(a.sigmoid()), torch.normal(a, 1.0), a.exponential_(), a.add_(1), a.copy_(x), F.relu(a, inplace=True)
4,3 | torch.vmap(torch.sin)(a), torch.func.vmap(lambda r: r * r.sum())(a), torch.func.grad(lambda z: z.sum())(a)
4,3 | torch.sparse.mm(x.to_sparse(), a.T), torch.tensor(a), torch.as_tensor(a), a.item(), a.tolist(), a.numpy(), bool(a.sum()), float(a.sum())
4,3 | a.backward(), a.data, torch.exp(a, out=x.clone()), torch.utils.checkpoint.checkpoint(torch.sin, a, use_reentrant=True)
"""  # noqa: E501


@dataclass(frozen=True)
class Call:
    """A call of torch.

    Args:
        text: its source.
        shapes: of the tensors that it takes, with the sign of their numbers.
        run: the call.
        line: number of its line in the table.
    """

    text: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    run: Callable[..., Any]
    line: int

    @property
    def name(self) -> str:
        """Return the source and the shapes."""
        sizes = ";".join(sign + ",".join(map(str, shape)) for sign, shape in self.shapes)
        return f"{self.text} [{sizes}]"


def _split(text: str) -> list[str]:
    """Split calls at the commas that stand in no bracket."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _read(number: int, line: str) -> list[Call]:
    """Read one line of a table."""
    left, _, right = line.partition(" | ")
    shapes = []
    for word in left.split(";"):
        word = word.strip()
        sign = word[0] if word and word[0] in "+~>" else ""
        sizes = word.removeprefix(sign)
        shapes.append((sign, tuple(int(s) for s in sizes.split(",") if s)))
    names = ", ".join("abcd"[: len(shapes)])
    return [
        Call(text, tuple(shapes), eval(f"lambda {names}: {text}", dict(CONSTANTS)), number)
        for text in _split(right)
    ]


def _all(table: str) -> list[Call]:
    """Read all lines of a table."""
    return [
        c for number, line in enumerate(table.strip().splitlines()) for c in _read(number, line)
    ]


CALLS, LOST = _all(TABLE), _all(REFUSED)


def draw(
    sign: str, shape: tuple[int, ...], generator: torch.Generator, strided: bool = False
) -> Tensor:
    """Draw the numbers of one tensor, laid out backwards if asked."""
    if strided and len(shape) > 1:
        return draw(sign, shape[::-1], generator).permute(*reversed(range(len(shape))))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if sign == "~":
        return 0.9 * x.tanh()
    return x if not sign else x.abs() + (0.5 if sign == "+" else 1.1)
