"""Forward mode along many directions at once, through ordinary modules.

A `Dual` carries a value ``[*s]`` and its tangents ``[n, *s]`` and answers torch's override
protocol. It is deliberately no tensor: code that goes round the protocol fails instead of meeting a
bare value. A call ``y = f(x)`` is answered with ``f(x)`` and ``J_f(x) t``. Where a rule is
registered for the *call* (never for a layer), the rule gives the tangents; every other call of
torch is right all the same, by one ``vmap(jvp)`` of that call, and is counted in `fallbacks`.

Values may carry an autograd graph, tangents never do. No rule writes into a tensor that it
received, because residual branches share tangents. Two things pass unseen: ``isinstance(x,
Tensor)`` in model code, and a `torch.autograd.Function` that returns its argument untouched or
calls torch only from deep inside helpers. The file is longer than its neighbours because the rules
are one flat table.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from string import ascii_letters
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import jvp, vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from fgbench.errors import TangentLost, UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    Call = Callable[..., Any]

__all__ = ["Dual", "fallbacks", "part", "plus", "rule", "swapped", "value"]

fallbacks: Counter[str] = Counter()
"""Calls answered by ``vmap(jvp)`` for want of a rule, by name; ``fallbacks.clear()`` resets it."""

_aten = torch.ops.aten
_rules: dict[Any, Call] = {}  # call -> its tangents, given its value
_whole: dict[Any, Call] = {}  # call -> value and tangents together, or a refusal
_APPLY = torch.autograd.Function.apply.__code__
_IN_PLACE = [f"__i{op}__" for op in ("add", "sub", "mul", "truediv", "pow", "matmul")]
_OUTSIDE = ["item", "tolist", "numpy", "data", "data_ptr", "storage", "untyped_storage"]
_REVERSE = ["backward", "grad", "retain_grad", "register_hook"]
_REFUSED = frozenset([*_IN_PLACE, *_OUTSIDE, *_REVERSE, "__setitem__"])


def _method(func: Call) -> Call:
    """Make a method of `Dual` that sends a call of torch through the protocol."""
    return lambda self, *args, **kwargs: Dual.__torch_function__(func, (), (self, *args), kwargs)


def _refusal(name: str) -> Call:
    """Make a method of `Dual` that raises."""

    def refuse(self: Dual, *args: Any) -> Any:
        raise _lost(name)

    return refuse


def _lost(name: str) -> TangentLost:
    """Return the error for a call that cannot carry tangents."""
    return TangentLost(f"no tangent travels through {name}; detach() where it should stop")


class Dual:
    """A value and its tangents along n directions, usable wherever torch takes a tensor.

    All that meet in one call share n.

    Args:
        value: the point, ``[*s]``; it may carry an autograd graph.
        tangents: the derivative along each direction, ``[n, *s]``; without a graph.

    Raises:
        UsageError: shapes that do not belong together, or tangents that carry a graph.
    """

    __slots__ = ("__weakref__", "tangents", "value")

    value: Tensor
    tangents: Tensor

    def __init__(self, value: Tensor, tangents: Tensor) -> None:
        if tangents.shape[1:] != value.shape or tangents.dim() == value.dim():
            want, got = ["n", *value.shape], list(tangents.shape)
            raise UsageError(f"a value {want[1:]} needs tangents {want}, got {got}")
        if tangents.requires_grad:
            raise UsageError("tangents must carry no autograd graph; detach() them first")
        self.value = value
        self.tangents = tangents

    @classmethod
    def __torch_function__(
        cls, func: Call, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Answer one call of torch with its value and its tangents."""
        slope, kwargs = _rules.get(func), kwargs or {}
        if slope is None or kwargs:
            _admit(func, kwargs)
        building = torch.is_grad_enabled()
        if not building and not torch.compiler.is_dynamo_compiling():
            _check_surroundings()
        if slope is None and func in _whole:
            answer = _whole[func](*args, **kwargs)
            if answer is not NotImplemented:
                return answer
        points = [a.value if type(a) is Dual else _plain(a) for a in args]
        y = func(*points, **{k: _plain(a) for k, a in kwargs.items()}) if kwargs else func(*points)
        if not _smooth(y):
            return y
        if building:
            with torch.no_grad():
                return _pair(y, _tangents(slope, y, func, args, kwargs))
        return _pair(y, _tangents(slope, y, func, args, kwargs))

    def __getattr__(self, name: str) -> Any:
        """Find what tensors have: methods go through the protocol, attributes to the value."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _REFUSED:
            raise _lost(name)
        if name == "T":
            return self.permute(*reversed(range(self.value.dim())))
        if name == "mT":
            return self.transpose(-2, -1)
        found = getattr(Tensor, name)
        if callable(found):
            return lambda *args, **kw: Dual.__torch_function__(found, (), (self, *args), kw)
        if isinstance(found := getattr(self.value, name), Tensor):
            raise _lost(name)
        return found

    def __repr__(self) -> str:
        """Show both halves."""
        return f"Dual(value={self.value!r}, tangents={self.tangents!r})"

    def __len__(self) -> int:
        """Return the size of the value's first axis."""
        return len(self.value)

    def __iter__(self) -> Iterator[Dual]:
        """Walk along the value's first axis."""
        return iter(self.unbind(0))

    __hash__ = object.__hash__
    __add__ = __radd__ = _method(Tensor.add)
    __sub__, __rsub__ = _method(Tensor.sub), _method(torch.rsub)
    __mul__ = __rmul__ = _method(Tensor.mul)
    __truediv__, __rtruediv__ = _method(Tensor.div), _method(Tensor.__rtruediv__)
    __pow__, __rpow__ = _method(Tensor.pow), _method(Tensor.__rpow__)
    __matmul__, __rmatmul__ = _method(Tensor.matmul), _method(Tensor.__rmatmul__)
    __neg__, __pos__, __abs__ = _method(Tensor.neg), _method(Tensor.positive), _method(Tensor.abs)
    __lt__, __le__ = _method(Tensor.lt), _method(Tensor.le)
    __gt__, __ge__ = _method(Tensor.gt), _method(Tensor.ge)
    __eq__, __ne__ = _method(Tensor.eq), _method(Tensor.ne)
    __getitem__, __setitem__ = _method(Tensor.__getitem__), _refusal("item assignment")
    __bool__, __float__, __int__ = _refusal("bool()"), _refusal("float()"), _refusal("int()")
    __complex__, __index__, __array__ = _refusal("complex()"), _refusal("index"), _refusal("numpy")
    __contains__ = __reversed__ = __array_ufunc__ = None


for _name in _IN_PLACE:
    setattr(Dual, _name, _refusal(_name))


def value(x: Any) -> Tensor:
    """Return the value of a `Dual`, and anything else as it is."""
    point: Tensor = x.value if type(x) is Dual else x
    return point


def part(x: Any) -> Tensor | None:
    """Return the tangents ``[n, *s]`` of a `Dual`, and None (zero) for anything else."""
    return x.tangents if type(x) is Dual else None


def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Add two tangents where None is zero; neither is written into, one may be handed back."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def rule(*funcs: Any) -> Callable[[Call], Call]:
    """Register the tangents of calls, for operations torch itself does not bring.

    The decorated function runs without a graph as ``slope(y, *args, **kwargs)``: the value of the
    call, then its arguments as given, `Dual` among them (`value` and `part` take them apart). It
    returns the tangents ``[n, *y.shape]``, None for zero, or NotImplemented to decline. It must not
    write into a tensor that it received. The latest registration of a call holds.

    Args:
        funcs: what model code calls: functions, methods of Tensor, or what
            `torch.library.custom_op` returned.

    Returns:
        A decorator that gives its function back.
    """

    def register(slope: Call) -> Call:
        for func in funcs:
            func = getattr(func, "_opoverload", func)  # what a custom_op hands to the protocol
            packet = getattr(func, "overloadpacket", func)
            overloads = packet.overloads() if hasattr(packet, "overloads") else []
            _rules.update(dict.fromkeys([func, packet], slope))
            _rules.update({getattr(packet, name): slope for name in overloads})
        return slope

    return register


@contextmanager
def swapped(module: nn.Module, new: Mapping[str, Tensor | Dual]) -> Iterator[None]:
    """Put others in the place of a module's parameters, and the parameters back at the end.

    Parameters are followed by identity, so a weight that stands in several places is replaced in
    all of them; replacing it by name would leave the others, and their derivative, out.

    Args:
        module: the module; nothing but its parameters is touched.
        new: qualified name -> what stands there meanwhile.

    Raises:
        UsageError: a name that is no parameter, a shape that differs, or two names of one tied
            parameter with different replacements.
    """
    known = dict(module.named_parameters(remove_duplicate=False))
    places: dict[int, Any] = {}
    for name, other in new.items():
        if name not in known:
            raise unknown("parameter", name, known)
        if other.shape != known[name].shape:
            want, got = list(known[name].shape), list(other.shape)
            raise UsageError(f"parameter {name!r} has shape {want}, its replacement {got}")
        if places.setdefault(id(known[name]), other) is not other:
            raise UsageError(f"parameter {name!r} is tied to one with a different replacement")
    slots: list[tuple[Any, str, Any]] = []
    for held in (owner._parameters for owner in module.modules()):
        slots += [(held, name, p) for name, p in held.items() if id(p) in places]
    try:
        for held, name, old in slots:
            held[name] = places[id(old)]
        yield
    finally:
        for held, name, old in slots:
            held[name] = old


# ---- what the protocol is made of ----------------------------------------------------------------


def _plain(a: Any) -> Any:
    """Return an argument with the value of every `Dual` inside it."""
    if type(a) is Dual:
        return a.value
    return type(a)(map(_plain, a)) if type(a) in (list, tuple) else a


def _smooth(y: Any) -> bool:
    """Tell whether an output can have tangents: it is not a shape, a mask or an index."""
    if isinstance(y, Tensor):
        return y.is_floating_point() or y.is_complex()
    return isinstance(y, (tuple, list)) and any(map(_smooth, y))


def _pair(y: Any, t: Any) -> Any:
    """Join an output, or each smooth tensor in it, with its tangents."""
    if t is None:
        return y
    if isinstance(y, Tensor):
        return Dual(y, t)
    leaves, tree = tree_flatten(y)
    pairs = zip(leaves, tree_leaves(t), strict=True)
    return tree_unflatten([Dual(a, b) if _smooth(a) else a for a, b in pairs], tree)


def _admit(func: Call, kwargs: dict[str, Any]) -> None:
    """Raise for a call that writes in place or leaves torch; rename numpy's keywords."""
    if kwargs.get("inplace") or kwargs.get("out") is not None:
        raise _lost("an operation in place")
    if func in _rules:
        for theirs, ours in (("axis", "dim"), ("keepdims", "keepdim")):
            if theirs in kwargs:
                kwargs[ours] = kwargs.pop(theirs)
    elif func not in _whole:
        name = getattr(func, "__name__", "")
        if name in _REFUSED or (name.endswith("_") and not name.endswith("__")):
            raise _lost(name)


def _check_surroundings() -> None:
    """Raise in inference mode, and in a custom Function: its backward would be ignored."""
    if torch.is_inference_mode_enabled():
        raise TangentLost("inference mode keeps no tangents; use torch.no_grad() instead")
    frame = sys._getframe(2)
    for _ in range(5):
        if frame.f_code is _APPLY:
            raise TangentLost(
                "forward mode cannot see the derivative that a custom autograd.Function declares; "
                "write a torch.library.custom_op with a fgbench.core.autodiff.dual.rule, or use detach()"
            )
        if frame.f_back is None:
            return
        frame = frame.f_back


def _tangents(slope: Call | None, y: Any, func: Call, args: Any, kwargs: Any) -> Any:
    """Return the tangents of an output, by rule or by ``vmap(jvp)``; None where they are zero."""
    t = NotImplemented if slope is None else slope(y, *args, **kwargs)
    return _by_vmap(func, args, kwargs) if t is NotImplemented else t


def _by_vmap(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the tangents of any differentiable call of torch, by one jvp batched over n."""
    home = (getattr(func, "__module__", None) or func.__objclass__.__module__).split(".")
    if home[0] != "torch" or (home[1:2] == ["_ops"] and home[2:] not in (["aten"], ["prims"])):
        # jvp through a custom_op with a registered backward returns zeros
        raise TangentLost(
            f"{func} is not torch's own and has no rule; see fgbench.core.autodiff.dual.rule"
        )
    fallbacks[getattr(func, "__name__", str(func))] += 1
    leaves, tree = tree_flatten((args, kwargs))
    duals = [a for a in leaves if type(a) is Dual]

    def call(*points: Tensor) -> Any:
        left = iter(points)
        here, named = tree_unflatten([next(left) if type(a) is Dual else a for a in leaves], tree)
        return func(*here, **named)

    # a point that overlaps itself (expanded) cannot be given a tangent
    points = [d.value.detach() for d in duals]
    points = [x.contiguous() if 0 in x.stride() else x for x in points]
    return vmap(lambda *t: jvp(call, tuple(points), t)[1])(*[d.tangents for d in duals])


# ---- rules ---------------------------------------------------------------------------------------
# Called as slope(y, *args, **kwargs), so arguments bear torch's names; t, s, v, c are tangents.


def _everywhere(*names: str) -> list[Any]:
    """Return all that model code may call under these names."""
    found = [getattr(space, name, None) for name in names for space in (torch, F, Tensor)]
    return [func for func in found if callable(func)]


def _after(dim: Any) -> Any:
    """Shift axes of a value to where its tangents have them."""
    if isinstance(dim, int):
        return dim + 1 if dim >= 0 else dim
    return [_after(d) for d in dim]


def _autocast(x: Any) -> bool:
    """Tell whether torch chooses the types: kernels called by their own names would miss that."""
    return torch.is_autocast_enabled(x.device.type)


def _lift(t: Tensor, dim: int) -> Tensor:
    """Put axes of size 1 behind n, so that n meets no axis of a value with ``dim`` axes."""
    missing = dim + 1 - t.dim()
    return t[(slice(None), *(None,) * missing)] if missing > 0 else t


def _fit(t: Tensor | None, y: Tensor) -> Tensor | None:
    """Give tangents the shape and dtype of the value that they belong to."""
    if t is None:
        return None
    t = t if t.dtype == y.dtype else t.to(y.dtype)
    return t if t.shape[1:] == y.shape else _lift(t, y.dim()).expand(t.shape[0], *y.shape)


def _each(t: Tensor, linear: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a linear map to one direction after another, where a kernel takes only one."""
    first = linear(t[0])
    if t.shape[0] == 1:
        return first.unsqueeze(0)
    out = first.new_empty((t.shape[0], *first.shape))
    out[0] = first
    for i in range(1, t.shape[0]):
        out[i] = linear(t[i])  # copied from a warm temporary: a third of the time of torch.stack
    return out


def _rows_times(x: Tensor, v: Tensor, onto: Tensor | None, y: Tensor) -> Tensor:
    """Return x ``[*, i]`` times v ``[n, i, o]``, added into the rule's own ``onto`` if given."""
    rows = x.reshape(-1, x.shape[-1]).expand(v.shape[0], -1, -1)
    if onto is None:
        return torch.bmm(rows, v).view(v.shape[0], *y.shape)
    onto = onto.contiguous()
    onto.view(v.shape[0], -1, v.shape[2]).baddbmm_(rows, v)
    return onto


def _shift(t: Tensor | None, c: Tensor | None, y: Tensor) -> Tensor | None:
    """Add the tangents of an additive term into the rule's own ``t``."""
    if t is None or c is None:
        return _fit(c, y) if t is None else t
    return t.add_(_lift(c, y.dim()))


@rule(F.linear)
def _linear(y: Tensor, input: Any, weight: Any, bias: Any = None) -> Any:
    t, v = part(input), part(weight)
    if t is not None:
        t = F.linear(t, value(weight))
    if v is not None:
        t = _rows_times(value(input), v.mT, t, y)
    return _shift(t, part(bias), y)


@rule(*_everywhere("matmul", "mm", "bmm", "__matmul__"))
def _matmul(y: Tensor, input: Any, other: Any) -> Any:
    a, b, s, t = value(input), value(other), part(input), part(other)
    if min(a.dim(), b.dim()) < 2:
        return NotImplemented
    if s is not None:
        s = (s[0] @ b).unsqueeze(0) if s.shape[0] == 1 else _lift(s, y.dim()) @ b
    if t is None:
        return s
    if b.dim() == 2:
        return _rows_times(a, t, s, y)
    t = (a @ t[0]).unsqueeze(0) if t.shape[0] == 1 else a @ _lift(t, y.dim())
    return t if s is None else s.add_(t)


def _with_directions(equation: str, i: int) -> str:
    """Return the einsum equation with one more letter on its i-th operand and on its output."""
    inputs, output = equation.replace(" ", "").split("->")
    letter = next(a for a in ascii_letters if a not in equation)
    terms = [letter + term if j == i else term for j, term in enumerate(inputs.split(","))]
    return f"{','.join(terms)}->{letter}{output}"


@rule(torch.einsum)
def _einsum(y: Tensor, equation: Any, *operands: Any) -> Any:
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if type(equation) is not str or "->" not in equation:
        return NotImplemented
    plain, total = [value(o) for o in operands], None
    for i, t in enumerate(map(part, operands)):
        if t is None:
            continue
        if t.shape[0] == 1:
            t = torch.einsum(equation, *plain[:i], t[0], *plain[i + 1 :]).unsqueeze(0)
        else:
            t = torch.einsum(_with_directions(equation, i), *plain[:i], t, *plain[i + 1 :])
        total = t if total is None else total.add_(t)  # two terms: both are products, so new
    return total


@rule(F.conv2d)
def _conv2d(y: Tensor, input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
    x, w = value(input), value(weight)
    t, v, c = part(input), part(weight), part(bias)
    if t is not None:
        images = t.reshape(-1, *x.shape[-3:])
        t = F.conv2d(images, w, None, *args, **kwargs).view(t.shape[0], *y.shape)
    if v is not None:
        v = _each(v, lambda one: F.conv2d(x, one, None, *args, **kwargs))
        t = v if t is None else t.add_(v)
    return _shift(t, None if c is None else c[..., None, None], y)


@rule(*_everywhere("add", "__add__", "__radd__"))
def _add(y: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Any:
    a, b = part(input), part(other)
    if a is None or b is None:
        return _fit(a if b is None else b if alpha == 1 else b * alpha, y)
    a, b = _lift(a, y.dim()), _lift(b, y.dim())
    return _fit(a + b if alpha == 1 else torch.add(a, b, alpha=alpha), y)


@rule(*_everywhere("sub", "subtract", "__sub__"))
def _sub(y: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Any:
    return _add(y, input, other, alpha=-alpha)


@rule(*_everywhere("rsub", "__rsub__"))
def _rsub(y: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Any:
    a, b = part(input), part(other)
    a = a if a is None else _lift(a, y.dim()) * -alpha
    return _fit(plus(a, b if b is None else _lift(b, y.dim())), y)


@rule(*_everywhere("mul", "multiply", "__mul__", "__rmul__"))
def _mul(y: Tensor, input: Any, other: Any) -> Any:
    a, b = part(input), part(other)
    s = None if a is None else _lift(a, y.dim()) * value(other)
    t = None if b is None else _lift(b, y.dim()) * value(input)
    return _fit(plus(s, t), y)


@rule(*_everywhere("div", "divide", "true_divide", "__truediv__"))
def _div(y: Tensor, input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        return NotImplemented
    a, b = part(input), part(other)
    s = None if a is None else _lift(a, y.dim()) / value(other)
    t = None if b is None else _lift(b, y.dim()) * (-y / value(other))  # -a/b^2 db
    return _fit(plus(s, t), y)


@rule(*_everywhere("pow", "__pow__"))
def _pow(y: Tensor, input: Any, exponent: Any) -> Any:
    if type(input) is not Dual or not isinstance(exponent, (int, float)) or exponent == 0:
        return NotImplemented
    return input.tangents * (input.value.pow(exponent - 1) * exponent)


@rule(*_everywhere("relu"))
def _relu(y: Tensor, input: Dual, inplace: bool = False) -> Any:
    return _aten.threshold_backward(input.tangents, y, 0)


@rule(F.gelu)
def _gelu(y: Tensor, input: Dual, *, approximate: str = "none") -> Any:
    return _aten.gelu_backward(input.tangents, input.value, approximate=approximate)


@rule(*_everywhere("tanh"))
def _tanh(y: Tensor, input: Dual) -> Any:
    return NotImplemented if y.is_complex() else _aten.tanh_backward(input.tangents, y)


@rule(*_everywhere("sigmoid"))
def _sigmoid(y: Tensor, input: Dual) -> Any:
    return NotImplemented if y.is_complex() else _aten.sigmoid_backward(input.tangents, y)


rule(*_everywhere("neg", "negative", "__neg__"))(lambda y, input: -input.tangents)
rule(*_everywhere("__rmatmul__"))(lambda y, input, other: _matmul(y, other, input))
rule(*_everywhere("__rtruediv__"))(lambda y, input, other: _div(y, other, input))
rule(*_everywhere("detach"))(lambda y, input: None)


@rule(*_everywhere("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"))
@rule(*_everywhere("view_as", "reshape_as"))
def _reshape(y: Tensor, input: Any, *args: Any, **kwargs: Any) -> Any:
    t = part(input)
    return None if t is None else t.reshape(t.shape[0], *y.shape)


@rule(*_everywhere("expand", "expand_as", "broadcast_to", "clone", "contiguous", "positive"))
@rule(*_everywhere("to", "type_as", "float", "double", "half", "bfloat16"))
def _same(y: Tensor, input: Any, *args: Any, **kwargs: Any) -> Any:
    t = part(input)
    return None if t is None else _fit(t.to(y.device), y)


@rule(*_everywhere("transpose"))
def _transpose(y: Tensor, input: Dual, dim0: int, dim1: int) -> Any:
    return input.tangents.transpose(_after(dim0), _after(dim1))


@rule(*_everywhere("t"))
def _t(y: Tensor, input: Dual) -> Any:
    return input.tangents.mT if y.dim() == 2 else input.tangents


@rule(*_everywhere("permute"))
def _permute(y: Tensor, input: Dual, *args: Any, dims: Any = None) -> Any:
    order = dims if dims is not None else args if isinstance(args[0], int) else args[0]
    return input.tangents.permute(0, *(d % y.dim() + 1 for d in order))


@rule(*_everywhere("movedim", "moveaxis"))
def _movedim(y: Tensor, input: Dual, source: Any, destination: Any) -> Any:
    return input.tangents.movedim(_after(source), _after(destination))


def _reduction(func: Call) -> Call:
    """Make the rule of a linear reduction."""

    def reduce(y: Tensor, input: Dual, dim: Any = None, keepdim: bool = False, **kw: Any) -> Any:
        t = input.tangents
        if dim is None or dim == () or dim == []:  # all axes, but never n
            return func(t.reshape(t.shape[0], -1), 1, **kw).view(t.shape[0], *y.shape)
        return func(t, _after(dim), keepdim, **kw)

    return reduce


rule(*_everywhere("sum"))(_reduction(torch.sum))
rule(*_everywhere("mean"))(_reduction(torch.mean))


@rule(*_everywhere("cat", "concat", "concatenate"))
def _cat(y: Tensor, tensors: Sequence[Any], dim: int = 0) -> Any:
    n = next(a.tangents.shape[0] for a in tensors if type(a) is Dual)
    zero = y.new_zeros(())
    ts = [a.tangents if type(a) is Dual else zero.expand(n, *a.shape) for a in tensors]
    return torch.cat(ts, _after(dim))


@rule(Tensor.__getitem__)
def _getitem(y: Tensor, input: Any, index: Any) -> Any:
    if type(input) is not Dual:
        return NotImplemented
    if isinstance(index, Tensor) and index.dim() > 0:
        return input.tangents[:, index]
    index = index if type(index) is tuple else (index,)
    if not all(i is None or i is ... or type(i) in (int, slice) for i in index):
        return NotImplemented
    return input.tangents[(slice(None), *index)]


@rule(F.dropout)
def _dropout(y: Tensor, input: Dual, p: float = 0.5, training: bool = True, **_: Any) -> Any:
    if training and p > 0:
        raise TangentLost("dropout would draw one mask for the value, another for its tangents")
    return input.tangents


def _pooling(func: Call) -> Call:
    """Make the rule of a linear map of images: the directions join the batch."""

    def pool(y: Tensor, input: Dual, *args: Any, **kwargs: Any) -> Any:
        t = input.tangents
        images = t.reshape(-1, *t.shape[-3:])
        return func(images, *args, **kwargs).view(t.shape[0], *y.shape)

    return pool


rule(F.avg_pool2d)(_pooling(F.avg_pool2d))
rule(F.adaptive_avg_pool2d)(_pooling(F.adaptive_avg_pool2d))


@rule(F.cross_entropy)
def _cross_entropy(
    y: Tensor, input: Any, target: Any, weight: Any = None, *args: Any, **kwargs: Any
) -> Any:
    how, ignored = kwargs.pop("reduction", "mean"), kwargs.pop("ignore_index", -100)
    if type(input) is not Dual or type(target) is Dual or any(map(bool, (*args, *kwargs.values()))):
        return NotImplemented  # smoothed, or told in the words of old releases
    x, t = input.value, input.tangents
    if x.dim() != 2 or target.is_floating_point() or _autocast(input):
        return NotImplemented
    # d loss / dx by the kernels of the loss itself: a row of it is that example's own gradient
    logp, mode = torch.log_softmax(x, 1), ("none", "mean", "sum").index(how)
    total = _aten.nll_loss_forward(logp, target, weight, mode, ignored)[1]
    g = _aten.nll_loss_backward(torch.ones_like(y), logp, target, weight, mode, ignored, total)
    g = _aten._log_softmax_backward_data(g, logp, 1, logp.dtype)
    return _fit((t * g).sum(2) if how == "none" else t.flatten(1) @ g.flatten(), y)


# ---- calls whose value and tangents are computed together ----------------------------------------


def _normed(white: Call, t: Tensor | None, weight: Any, bias: Any, y: Tensor) -> Any:
    """Return the `Dual` of ``white * weight + bias``, given the tangents ``t`` of white."""
    if t is not None and weight is not None:
        t = t.mul_(value(weight))
    v = part(weight)
    if v is not None:
        v = _lift(v, y.dim()) * white()
        t = v if t is None else t.add_(v)
    return _pair(y, _shift(t, part(bias), y))


def _whiten(t: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, axes: Any) -> Tensor:
    """Apply the Jacobian of ``(x - mean) rstd``: it is symmetric, so the backward kernel serves."""
    kernel, wanted = _aten.native_layer_norm_backward, [True, False, False]
    return _each(t, lambda one: kernel(one, x, axes, mean, rstd, None, None, wanted)[0])


def _layer_norm(
    input: Any, axes: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    if _autocast(input):
        return NotImplemented
    x = value(input).contiguous()  # once, for both kernels
    y, mean, rstd = torch.native_layer_norm(x, axes, value(weight), value(bias), eps)
    with torch.no_grad():
        t = part(input)
        t = None if t is None else _whiten(t, x, mean, rstd, axes)
        return _normed(lambda: (x - mean) * rstd, t, weight, bias, y)


def _group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    if _autocast(input):
        return NotImplemented
    x, w, b = value(input).contiguous(), value(weight), value(bias)
    size, channels, *space = x.shape
    area = x[:1, :1].numel()
    y, mean, rstd = torch.native_group_norm(x, w, b, size, channels, area, num_groups, eps)
    weight, bias = (p if p is None else p.view(-1, *[1] * len(space)) for p in (weight, bias))
    with torch.no_grad():  # it is a layer norm over the channels of a group and their area
        cells, mean, rstd = x.view(size, num_groups, -1), mean[..., None], rstd[..., None]
        t = part(input)
        if t is not None:
            t = _whiten(t.reshape(-1, *cells.shape), cells, mean, rstd, cells.shape[2:])
            t = t.view(-1, *x.shape)
        return _normed(lambda: ((cells - mean) * rstd).view_as(x), t, weight, bias, y)


def _max_pool2d(input: Any, *args: Any, return_indices: bool = False, **kwargs: Any) -> Any:
    if return_indices:
        return NotImplemented
    y, at = F.max_pool2d(input.value, *args, return_indices=True, **kwargs)
    t = input.tangents.flatten(-2)
    return Dual(y, t.gather(-1, at.flatten(-2).expand(*t.shape[:-1], -1)).view(-1, *y.shape))


def _batch_norm(*args: Any, **kwargs: Any) -> Any:
    training = args[5] if len(args) > 5 else kwargs.get("training")
    if training or (kwargs.get("use_input_stats") and kwargs.get("running_mean") is not None):
        raise TangentLost(
            "batch statistics couple the examples and are updated by every call; "
            "put the norm in eval() mode, or use a layer or group norm"
        )
    return NotImplemented


_whole.update(dict.fromkeys([F.layer_norm, torch.layer_norm], _layer_norm))
_whole.update(dict.fromkeys([F.group_norm, torch.group_norm], _group_norm))
_whole.update(dict.fromkeys([F.max_pool2d, torch.max_pool2d], _max_pool2d))
_whole.update(dict.fromkeys([F.batch_norm, torch.batch_norm, F.instance_norm], _batch_norm))
