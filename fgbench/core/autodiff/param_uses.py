"""Trace by which calls the parameters of a network enter, while it runs.

A parameter enters by a call of the form ``out = Σ input · weight``, a sum over named indices. The gradient
of a cotangent at ``out`` is the same sum with the cotangent in place of the weight, so its squared norm can
be computed without the gradient (ghost norms). A rule writes a call as such a sum. Rules belong to calls,
never to layers, and a call without a rule is reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from math import prod
from string import ascii_lowercase
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

HELD = 1 << 24  # numbers of per-example gradients held at a time
# a parameter, the letters of out and its own, the other factor and its letters
Use = tuple[Any, str, str, Tensor | None, str]
Rule = Callable[..., Iterator[Use]]


@dataclass
class Entry:
    """One use of a parameter: ``out = einsum(input, weight)`` up to terms without the parameter.

    Args:
        name: qualified name of the parameter.
        out: value of the call, in the graph; its first dimension is the example axis.
        letters: an index letter for each dimension of ``out``.
        weight: index letters of the parameter.
        input: the other factor, without graph; the number 1 where the parameter is added.
        within: index letters of ``input``.
        direct: whether the parameter itself enters, and not a view of it in another shape or order.

    Example:
        >>> x, w = torch.tensor([[3.0, 4.0]]), torch.ones(2, 2, requires_grad=True)
        >>> use = Entry("w", out=x @ w, letters="bo", weight="io", input=x, within="bi")
        >>> use.squares(torch.tensor([[1.0, 0.0]]), apart=[0])  # |x|² |cotangent|² per example
        tensor([25.], dtype=torch.float64)
    """

    name: str
    out: Tensor
    letters: str
    weight: str
    input: Tensor
    within: str = ""
    _grams: dict[str, Tensor] = field(default_factory=dict)
    direct: bool = True

    def __post_init__(self) -> None:
        """Record the version of the value: a later call may write into it."""
        self._version = self.out._version

    @property
    def written(self) -> bool:
        """Whether ``out`` has been written into since."""
        return self.out._version > self._version

    def squares(self, cotangent: Tensor, apart: Sequence[int]) -> Tensor:
        """Return the squared norm of the gradient of each part of a cotangent.

        Part k has the gradient ``G[k, weight] = Σ cotangent · input`` over the indices left. Where none
        are left the squares may be taken first; where they are few, |G|² is the sum over pairs of them
        of ``⟨cotangent, cotangent'⟩⟨input, input'⟩``; else G is made for some examples at a time.

        Args:
            cotangent: of the size of ``out``.
            apart: dimensions of ``out`` whose indices tell the parts, the example axis first.

        Returns:
            ``[*apart]`` in float64.
        """
        cotangent = cotangent.reshape(self.out.shape)
        part = "".join(self.letters[d] for d in apart)
        size = dict(zip(self.letters, cotangent.shape, strict=True))
        size |= dict(zip(self.within, self.input.shape, strict=True))
        left = "".join(a for a in size if a not in part + self.weight)
        if not left:
            equation = f"{self.letters},{self.within}->{part}"
            return torch.einsum(equation, cotangent.double() ** 2, self.input.double() ** 2)
        mine, theirs = ({*self.weight} & {*of} for of in (self.letters, self.within))
        paired = {*left} <= {*self.letters} & {*self.within} and mine & theirs <= {*part}
        if paired and prod(size[a] for a in left) < prod(size[a] for a in theirs):
            return self._by_pairs(cotangent, part, left)
        whole = part + "".join(a for a in self.weight if a not in part)
        some = max(1, HELD * size[part[0]] // prod(size[a] for a in whole))
        rows = self.within[:1] == part[0]
        inputs = self.input.split(some) if rows else repeat(self.input)
        found = []
        for c, x in zip(cotangent.split(some), inputs, strict=False):
            gradient = torch.einsum(f"{self.letters},{self.within}->{whole}", c, x)
            found.append((gradient.double() ** 2).reshape(*gradient.shape[: len(part)], -1).sum(-1))
        return torch.cat(found)

    def _by_pairs(self, cotangent: Tensor, part: str, left: str) -> Tensor:
        """Return the squared norms from inner products of pairs of the indices summed over."""
        twin = str.maketrans(left, left.upper())
        pairs = part + left + left.upper()
        kept = "".join(a for a in pairs if a.lower() in self.within)
        if part not in self._grams:
            equation = f"{self.within},{self.within.translate(twin)}->{kept}"
            self._grams[part] = torch.einsum(equation, self.input, self.input).double()
        equation = f"{self.letters},{self.letters.translate(twin)}->{pairs}"
        own = torch.einsum(equation, cotangent, cotangent).double()
        return torch.einsum(f"{pairs},{kept}->{part}", own, self._grams[part])


class ParamUseTracer(TorchFunctionMode):
    """Records every call that a parameter, or a view of all of one, enters.

    Args:
        params: parameters by name.
        examples: size of the example axis.

    Attributes:
        entries: the recorded uses, in order.
        unknown: whether a parameter entered by a call that has no rule or does not fit its rule.
        others: names of the parameters that did.

    Example:
        >>> layer = torch.nn.Linear(3, 2)
        >>> with ParamUseTracer(dict(layer.named_parameters()), examples=5) as tracer:
        ...     _ = layer(torch.ones(5, 3))
        >>> [(use.name, use.letters, use.weight) for use in tracer.entries]
        [('weight', 'ab', 'bz'), ('bias', 'ab', 'b')]
    """

    def __init__(self, params: dict[str, Tensor], examples: int) -> None:
        super().__init__()
        self._own = params
        self._known = {id(p): (name, p) for name, p in params.items()}
        self._examples = examples
        self.entries: list[Entry] = []
        self.unknown = False
        self.others: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the call, then note where parameters enter."""
        out = func(*args, **(kwargs or {}))
        given = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        own = {id(a) for a in given} & self._known.keys()
        if own and isinstance(out, Tensor) and out.requires_grad:
            whole = len(given) == 1 and out.numel() == given[0].numel()
            if whole and out._base is not None:
                self._known[id(out)] = (self._known[id(given[0])][0], out)
            else:
                rule: Rule = _RULES.get(getattr(func, "__name__", ""), _no_uses)
                try:
                    self._note(own, out, rule(out, *args, **(kwargs or {})))
                except TypeError:  # arguments that the rule does not have
                    self._miss(own)
        return out

    def _note(self, own: set[int], out: Tensor, uses: Iterable[Use]) -> None:
        """Record the uses of these parameters; one without a use, or whose use does not fit, is unknown."""
        for p, letters, weight, x, within in uses:
            factor = out.new_ones(()) if x is None else x.detach()
            if id(p) in own and _fits(out, letters, p, weight, factor, within, self._examples):
                name, _ = self._known[id(p)]
                direct = self._own.get(name) is p
                entry = Entry(name, out, letters, weight, factor, within, direct=direct)
                self.entries.append(entry)
                own = own - {id(p)}
        self._miss(own)

    def _miss(self, own: set[int]) -> None:
        """Note parameters that enter in a way that is not known."""
        self.unknown |= bool(own)
        self.others |= {self._known[i][0] for i in own}


def _fits(
    out: Tensor, letters: str, p: Tensor, weight: str, x: Tensor, within: str, examples: int
) -> bool:
    """Return whether shapes agree with their letters, and the first axis of out is that of the examples."""
    if len({*letters}) != out.dim() or len({*within}) != x.dim() or len(out) != examples:
        return False
    size = {**dict(zip(letters, out.shape, strict=True)), **dict(zip(within, x.shape, strict=True))}
    return letters[0] not in weight and p.numel() == prod(size.get(a, 0) for a in weight)


def _letters(out: Tensor) -> str:
    """Return letters for the dimensions of a call's value."""
    return ascii_lowercase[: out.dim()]


def _along(p: Any, letters: str) -> str:
    """Return the letters along which a factor or term that is broadcast to them varies."""
    named = zip(letters[len(letters) - p.dim() :], p.shape, strict=True)
    return "".join(a for a, size in named if size > 1)


def _no_uses(out: Tensor, *args: Any, **kwargs: Any) -> Iterator[Use]:
    """Return no uses: the call has no rule."""
    return iter(())


def _linear(out: Tensor, input: Tensor, weight: Tensor, bias: Any = None) -> Iterator[Use]:
    a = _letters(out)
    yield weight, a, a[-1] + "z", input, a[:-1] + "z"
    yield bias, a, a[-1], None, ""


def _matmul(out: Tensor, input: Tensor, other: Tensor) -> Iterator[Use]:
    a = _letters(out)
    if other.dim() == 2:
        yield other, a, "z" + a[-1], input, a[:-1] + "z"
    if input.dim() == 2:
        yield input, a, a[-2:-1] + "z", other, a[:-2] + "z" + a[-1]


def _einsum(out: Tensor, equation: Any, *operands: Any) -> Iterator[Use]:
    given = tree_leaves(operands)  # one by one or in a list
    match = re.fullmatch("([a-z]+),([a-z]+)->([a-z]+)", str(equation).replace(" ", ""))
    if match is not None:
        yield given[1], match[3], match[2], given[0], match[1]
        yield given[0], match[3], match[1], given[1], match[2]


def _conv2d(
    out: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Iterator[Use]:
    if groups == 1 and not isinstance(padding, str) and input.dim() == 4:
        kernel = weight.shape[1:]
        patches = F.unfold(input.detach(), kernel[1:], dilation, padding, stride)
        patches = patches.reshape(len(input), *kernel, *out.shape[2:])
        yield weight, "bohw", "ocyx", patches, "bcyxhw"
        yield bias, "bohw", "o", None, ""


def _add(out: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Iterator[Use]:
    a = _letters(out)
    for p in (input, other) if alpha == 1 else ():
        if isinstance(p, Tensor):
            yield p, a, _along(p, a), None, ""


def _mul(out: Tensor, input: Any, other: Any) -> Iterator[Use]:
    a = _letters(out)
    for p, x in ((input, other), (other, input)):
        if isinstance(p, Tensor) and isinstance(x, Tensor):
            yield p, a, _along(p, a), x.expand(out.shape), a


def _layer_norm(
    out: Tensor, input: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Iterator[Use]:
    a = _letters(out)
    yield weight, a, a[-len(shape) :], F.layer_norm(input, shape, eps=eps), a
    yield bias, a, a[-len(shape) :], None, ""


def _group_norm(
    out: Tensor, input: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Iterator[Use]:
    a = _letters(out)
    yield weight, a, a[1], F.group_norm(input, groups, eps=eps), a
    yield bias, a, a[1], None, ""


_RULES: dict[str, Rule] = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "__matmul__"), _matmul),
    "__rmatmul__": lambda out, input, other: _matmul(out, other, input),
    "einsum": _einsum,
    "conv2d": _conv2d,
    **dict.fromkeys(("add", "__add__", "__radd__", "sub", "__sub__", "__rsub__"), _add),
    **dict.fromkeys(("mul", "__mul__", "__rmul__"), _mul),
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
}
