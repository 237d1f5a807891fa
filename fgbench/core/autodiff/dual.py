"""Dual numbers: a value with its tangents along many directions, through ordinary modules.

A `Dual` carries a value ``[*s]`` and its tangents ``[n, *s]`` and answers torch's override protocol. It is
deliberately no tensor: code that bypasses the protocol fails instead of seeing a value without tangents. A
call ``y = f(x)`` is answered with ``f(x)`` and ``J_f(x) t``. Where a rule is registered for the *call*
(never for a layer; see :mod:`fgbench.core.autodiff.jvp_rules`) the rule gives the tangents. Every other call
of torch is answered by one ``vmap(jvp)`` of that call, and counted in `fallbacks`.

Values may carry an autograd graph, tangents never do. No rule writes into a tensor that it received, because
residual branches share tangents. Two things pass unnoticed: ``isinstance(x, Tensor)`` in model code, and a
`torch.autograd.Function` that returns its argument untouched or calls torch only from deep inside helpers.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.overrides import _get_current_function_mode, handle_torch_function
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from fgbench.errors import TangentLost, UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    Call = Callable[..., Any]

__all__ = ["Dual", "fallbacks", "pair", "part", "plus", "rule", "swapped", "together", "value"]

fallbacks: Counter[str] = Counter()
"""Calls answered by ``vmap(jvp)`` for want of a rule, by name; ``fallbacks.clear()`` resets it."""

stops: ContextVar[list[str] | None] = ContextVar("fgbench_stops", default=None)
"""Calls at which tangents ended in a no_grad block of the model; None: such blocks are not looked for."""

_rules: dict[Any, Call] = {}  # call -> its tangents, given its value
_whole: dict[Any, Call] = {}  # call -> value and tangents together, or a refusal
_mode_is_active = torch._C._is_torch_function_mode_enabled
_APPLY = torch.autograd.Function.apply.__code__
_IN_PLACE = [f"__i{op}__" for op in ("add", "sub", "mul", "truediv", "pow", "matmul")]
_OUTSIDE = ["item", "tolist", "numpy", "data", "data_ptr", "storage", "untyped_storage"]
_REVERSE = ["backward", "grad", "retain_grad", "register_hook"]
_REFUSED = frozenset([*_IN_PLACE, *_OUTSIDE, *_REVERSE, "__setitem__"])


def _method(func: Call) -> Call:
    """Make a method of `Dual` that sends a call of torch through the protocol."""
    return lambda self, *args, **kwargs: _sent(func, (self, *args), kwargs)


def _sent(func: Call, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Send a call through the active mode where that follows Duals, or to the protocol itself."""
    if _followed():
        return handle_torch_function(func, (args[0],), *args, **kwargs)
    return Dual.__torch_function__(func, (), args, kwargs)


def _refusal(name: str) -> Call:
    """Make a method of `Dual` that raises."""

    def refuse(self: Dual, *args: Any) -> Any:
        raise _lost(name)

    return refuse


def _followed() -> bool:
    """Return whether the active mode has ``follows_duals``: it is asked before methods of a `Dual` run.

    Torch asks a mode by itself in calls of functions, and not in methods of what is no tensor.
    """
    if torch.compiler.is_dynamo_compiling() or not _mode_is_active():
        return False
    return getattr(_get_current_function_mode(), "follows_duals", False)


def _in_place(name: str) -> Call:
    """Make an operator of `Dual` that writes in place, which only a mode may answer."""

    def write(self: Dual, other: Any) -> Any:
        if _followed():
            return handle_torch_function(getattr(Tensor, name), (self,), self, other)
        raise _lost(name)

    return write


def _lost(name: str) -> TangentLost:
    """Return the error for a call that cannot carry tangents."""
    return TangentLost(f"no tangent travels through {name}; detach() where it should stop")


class Dual:
    """A value and its tangents along n directions, usable wherever torch takes a tensor.

    All duals in one call share n.

    Args:
        value: the point, ``[*s]``; it may carry an autograd graph.
        tangents: the derivative along each direction, ``[n, *s]``; without a graph.

    Raises:
        UsageError: if shapes do not fit, or tangents carry a graph.

    Example:
        >>> x = Dual(torch.tensor([1.0, 2.0]), torch.eye(2))  # two directions
        >>> (x * x).tangents
        tensor([[2., 0.],
                [0., 4.]])
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
            if (stopped := stops.get()) is not None:
                return _ended(func, args, kwargs, stopped)
        if slope is None and func in _whole:
            answer = _unless_refused(_whole[func], *args, **kwargs)
            if answer is not NotImplemented:
                return answer
        points = [a.value if type(a) is Dual else _plain(a) for a in args]
        y = func(*points, **{k: _plain(a) for k, a in kwargs.items()}) if kwargs else func(*points)
        if not _smooth(y):
            return y
        if building:
            with torch.no_grad():
                return pair(y, _tangents(slope, y, func, args, kwargs))
        return pair(y, _tangents(slope, y, func, args, kwargs))

    def __getattr__(self, name: str) -> Any:
        """Return a tensor's method, sent through the protocol, or an attribute of the value."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _REFUSED:
            raise _lost(name)
        if name == "T":
            return self.permute(*reversed(range(self.value.dim())))
        if name == "mT":
            return self.transpose(-2, -1)
        if name in ("real", "imag") and self.value.is_complex():
            return Dual.__torch_function__(getattr(torch, name), (), (self,))
        found = getattr(Tensor, name)
        if callable(found):
            return lambda *args, **kw: _sent(found, (self, *args), kw)
        if isinstance(found := getattr(self.value, name), Tensor):
            raise _lost(name)
        return found

    def __repr__(self) -> str:
        """Show both halves."""
        return f"Dual(value={self.value!r}, tangents={self.tangents!r})"

    def __len__(self) -> int:
        """Return the size of the value's first axis."""
        if not self.value.dim():
            raise TypeError("len() of a Dual of no axes")
        return len(self.value)

    def __iter__(self) -> Iterator[Dual]:
        """Iterate over the value's first axis."""
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
    __mod__, __rmod__ = _method(Tensor.remainder), _method(Tensor.__rmod__)
    __floordiv__, __rfloordiv__ = _method(Tensor.floor_divide), _method(Tensor.__rfloordiv__)
    __getitem__, __setitem__ = _method(Tensor.__getitem__), _refusal("item assignment")
    __bool__, __float__, __int__ = _refusal("bool()"), _refusal("float()"), _refusal("int()")
    __complex__, __index__, __array__ = _refusal("complex()"), _refusal("index"), _refusal("numpy")
    __contains__ = __reversed__ = __array_ufunc__ = None


for _name in _IN_PLACE:
    setattr(Dual, _name, _in_place(_name))


def value(x: Any) -> Tensor:
    """Return the value of a `Dual`, and anything else as it is.

    Example:
        >>> value(Dual(torch.ones(2), torch.zeros(1, 2)))
        tensor([1., 1.])
    """
    point: Tensor = x.value if type(x) is Dual else x
    return point


def part(x: Any) -> Tensor | None:
    """Return the tangents ``[n, *s]`` of a `Dual`, and None (zero) for anything else.

    Example:
        >>> part(Dual(torch.ones(2), torch.zeros(1, 2)))
        tensor([[0., 0.]])
    """
    return x.tangents if type(x) is Dual else None


def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return the sum of two tangents, where None is zero; neither is written into.

    Example:
        >>> plus(None, torch.ones(1, 2))
        tensor([[1., 1.]])
    """
    if a is None or b is None:
        return b if a is None else a
    return a + b


def pair(y: Any, t: Any) -> Any:
    """Join an output, or each differentiable tensor in it, with its tangents; None stands for zero.

    Args:
        y: value of a call: a tensor, or tensors in a tuple or list.
        t: its tangents, alike.

    Returns:
        The same with a `Dual` for every tensor that can have tangents.

    Example:
        >>> pair(torch.ones(1), torch.zeros(2, 1)).tangents.shape
        torch.Size([2, 1])
    """
    if t is None:
        return y
    if isinstance(y, Tensor):
        return Dual(y, t)
    leaves, tree = tree_flatten(y)
    pairs = zip(leaves, tree_leaves(t), strict=True)
    return tree_unflatten([Dual(a, b) if _smooth(a) else a for a, b in pairs], tree)


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

    Example:
        >>> import torch.nn.functional as F
        >>> @rule(F.softsign)
        ... def softsign(y, input):
        ...     return part(input) * (1 - y.abs()) ** 2
        >>> part(F.softsign(Dual(torch.ones(1), torch.ones(1, 1))))
        tensor([[0.2500]])
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


def together(*funcs: Any) -> Callable[[Call], Call]:
    """Register the answer to calls whose value and tangents are computed together.

    The decorated function takes the arguments as given, `Dual` among them, and returns the answer, with
    tangents where there are some (see `pair`), or NotImplemented to decline.

    Args:
        funcs: what model code calls.

    Returns:
        A decorator that gives its function back.

    Example:
        >>> import torch.nn.functional as F
        >>> @together(F.tanhshrink)
        ... def tanhshrink(input):
        ...     t = value(input).tanh()
        ...     return pair(value(input) - t, part(input) * t**2)
        >>> part(F.tanhshrink(Dual(torch.ones(1), torch.ones(1, 1))))
        tensor([[0.5800]])
    """

    def register(answer: Call) -> Call:
        _whole.update(dict.fromkeys(funcs, answer))
        return answer

    return register


@contextmanager
def swapped(module: nn.Module, new: Mapping[str, Tensor | Dual]) -> Iterator[None]:
    """Replace a module's parameters inside the block, and restore them at the end.

    Parameters are followed by identity, so a weight that stands in several places is replaced in
    all of them; replacing it by name would leave the others, and their derivative, out.

    Args:
        module: the module; nothing but its parameters is touched.
        new: qualified name to the replacement, a tensor or a `Dual`.

    Raises:
        UsageError: a name that is no parameter, a shape that differs, or two names of one tied
            parameter with different replacements.

    Example:
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> with swapped(layer, {"weight": torch.tensor([[3.0]])}):
        ...     print(float(layer(torch.ones(1))))
        3.0
    """
    if not new:
        yield
        return
    homes = [
        (owner._parameters, f"{prefix}.{name}" if prefix else name, name, p)
        for prefix, owner in module.named_modules(remove_duplicate=False)
        for name, p in owner._parameters.items()
        if p is not None
    ]
    known = {qualified: p for _, qualified, _, p in homes}
    places: dict[int, Any] = {}
    for name, other in new.items():
        if name not in known:
            raise unknown("parameter", name, known)
        if other.shape != known[name].shape:
            want, got = list(known[name].shape), list(other.shape)
            raise UsageError(f"parameter {name!r} has shape {want}, its replacement {got}")
        if places.setdefault(id(known[name]), other) is not other:
            raise UsageError(f"parameter {name!r} is tied to one with a different replacement")
    slots: list[tuple[Any, str, Any]] = [
        (held, name, p) for held, _, name, p in homes if id(p) in places
    ]
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
    """Return whether an output can have tangents: it is not a shape, a mask or an index."""
    if isinstance(y, Tensor):
        return y.is_floating_point() or y.is_complex()
    return isinstance(y, (tuple, list)) and any(map(_smooth, y))


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


def _ended(func: Call, args: Any, kwargs: dict[str, Any], stopped: list[str]) -> Any:
    """Answer a call in a no_grad block of the model with plain values, and note it if a tangent ends."""
    y = func(*map(_plain, args), **{k: _plain(a) for k, a in kwargs.items()})
    if _smooth(y):
        stopped.append(getattr(func, "__name__", str(func)))
    return y


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


REFUSALS = ("could not create a primitive", "onednn", "mkldnn", "cudnn_status_not_supported")
"""Parts of messages by which a backend of torch refuses the layout or the sizes of a call."""


def _unless_refused(make: Call, *args: Any, **kwargs: Any) -> Any:
    """Return the answer of a rule, NotImplemented where it knows no such argument, or a backend refuses."""
    try:
        return make(*args, **kwargs)
    except RuntimeError as error:
        if not _refused(error):
            raise
        return NotImplemented
    except TypeError as error:
        frame = error.__traceback__
        if frame is not None and frame.tb_next is not None:
            raise  # from inside the rule
        return NotImplemented


def _refused(error: RuntimeError) -> bool:
    """Return whether a backend refused the layout or the sizes of a call."""
    return any(part in str(error).lower() for part in REFUSALS)


def _tangents(slope: Call | None, y: Any, func: Call, args: Any, kwargs: Any) -> Any:
    """Return the tangents of an output, by rule or by ``jvp``; None where they are zero."""
    t = NotImplemented if slope is None else _unless_refused(slope, y, *args, **kwargs)
    return _by_jvp(y, func, args, kwargs) if t is NotImplemented else t


def _by_jvp(y: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the tangents of any differentiable call of torch, by one jvp batched over n.

    Where torch cannot batch the call, one direction follows the other, in memory of their own.
    """
    name = getattr(func, "__name__", str(func))
    home = (getattr(func, "__module__", None) or func.__objclass__.__module__).split(".")
    if home[0] != "torch" or (home[1:2] == ["_ops"] and home[2:] not in (["aten"], ["prims"])):
        # jvp through a custom_op with a registered backward returns zeros
        raise TangentLost(
            f"{func} is not torch's own and has no rule; see fgbench.core.autodiff.dual.rule"
        )
    fallbacks[name] += 1
    leaves, tree = tree_flatten((args, kwargs))
    duals = [a for a in leaves if type(a) is Dual]

    def call(*points: Tensor) -> Any:
        left = iter(points)
        here, named = tree_unflatten([next(left) if type(a) is Dual else a for a in leaves], tree)
        return func(*here, **named)

    # a point that overlaps itself (expanded) cannot be given a tangent
    points = [d.value.detach() for d in duals]
    points = [x.contiguous() if 0 in x.stride() else x for x in points]

    def slope(*t: Tensor) -> Any:
        return jvp(call, tuple(points), t)[1]

    tangents, state = [d.tangents for d in duals], _random_state(points[0])
    try:
        with warnings.catch_warnings():
            # torch loops over directions where it cannot batch a call, and warns that it is slow
            warnings.filterwarnings("ignore", "There is a performance drop")
            found = vmap(slope)(*tangents)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        if "random" in reason:
            raise TangentLost(
                f"no tangent travels through {name}: it draws random numbers"
            ) from error
        points, apart = [x.contiguous() for x in points], zip(*tangents, strict=True)
        try:
            each = [slope(*(t.contiguous() for t in one)) for one in apart]
        except (RuntimeError, NotImplementedError, ValueError):
            raise TangentLost(f"no tangent travels through {name}: {reason}") from error
        found = tree_map(lambda *parts: torch.stack(parts), *each)
    if not torch.equal(state, _random_state(points[0])):
        raise TangentLost(f"no tangent travels through {name}: it draws random numbers")
    return found


def _random_state(x: Tensor) -> Tensor:
    """Return the state of the generator that calls on a tensor draw from."""
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()
