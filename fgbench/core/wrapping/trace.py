"""One traced pass of any module: which calls are weight operations, and what crosses a cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fgbench.core.wrapping.operations import Operation, floating, tensors, unwritten

if TYPE_CHECKING:
    from collections.abc import Mapping

KINKS = frozenset({"relu", "relu_"})
RANDOM = frozenset(
    {"rand", "randn", "rand_like", "randn_like", "normal", "bernoulli", "bernoulli_", "uniform_"}
    | {"normal_", "multinomial", "exponential_", "randperm", "randint", "rrelu", "alpha_dropout"}
)
CONSTANT = frozenset(
    {"detach", "new_zeros", "new_ones", "new_empty", "new_full", "zeros_like", "ones_like"}
    | {"empty_like", "full_like", "rand_like", "randn_like", "data"}
)
"""Calls whose result does not depend on the numbers given, or is cut from them."""
SELECTING = frozenset(
    {"max", "min", "amax", "amin", "aminmax", "sort", "msort", "topk", "cummax", "cummin", "mode"}
    | {"kthvalue", "median", "nanmedian", "quantile", "nanquantile", "maximum", "minimum", "fmax"}
    | {"fmin", "max_pool1d", "max_pool1d_with_indices", "max_pool3d", "max_pool3d_with_indices"}
    | {"adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "fractional_max_pool2d"}
    | {
        "clamp_min",
        "clamp_min_",
        "clamp_max",
        "clip",
        "clip_",
        "clamp_",
        "hardshrink",
        "softshrink",
    }
    | {"threshold_", "relu6_", "hardtanh_", "segment_reduce", "scatter_reduce"}
)
"""Calls that let some numbers through and stop others, by what they are."""
ADDING = frozenset({"add", "sub", "rsub", "cat", "concat", "stack", "hstack", "vstack"})
LARGE = 1e3
"""What is added to scores that a softmax then takes for nothing is at least as large."""


@dataclass
class Call:
    """A call of torch, as a later pass meets it again.

    Args:
        name: of the function.
        segment: number of the cut before it.
        data: whether anything made from the batch enters.
        end: number of the call after it and all that it consists of.
        used: parameter sets that meet inside it, see :class:`fgbench.core.wrapping.operations.Operation`.
        reader: the last segment that reads what it made.
        floats: whether it made floating tensors.
        beside: the last segment that reads it otherwise than as the output of a submodule at a cut before.
        drawn: whether it is drawn at random, with no data or with.
        written: whether a later call writes data into what it made.

    Example:
        >>> Call("linear", segment=0, data=True).reader
        -1
    """

    name: str
    segment: int
    data: bool
    end: int = 0
    used: list[frozenset[str]] = field(default_factory=list)
    reader: int = -1
    floats: bool = False
    beside: dict[int, int] = field(default_factory=dict)
    drawn: bool = False
    written: bool = False

    @property
    def lasts(self) -> float:
        """The last segment that needs what it made; calls without data are run anew on what was drawn."""
        return float("inf") if self.drawn and not self.data else self.reader


class Trace(TorchFunctionMode):
    """Follows parameters and data through one pass.

    Args:
        parameters: the parameters that learn, by name.
        inputs: the module's inputs, nested or not.
        composites: calls that are entered: function to a function made of simpler calls.

    Attributes:
        operations: the calls into which parameter-like tensors go, in order.
        calls: all calls, in order.
        bounds: per cut that was reached: number of the next call, and how often each set of parameters had
            met.
        segment: number of cuts reached.
        random: the segments in which something is drawn.
        silent: names of calls on data in which no gradient was recorded although the pass records one.
        selecting: the segments in which the numbers of the batch decide what depends on what.

    Example:
        >>> layer = torch.nn.Linear(3, 2)
        >>> x = torch.ones(2, 3)
        >>> with Trace(dict(layer.named_parameters()), x, {}) as trace:
        ...     _ = layer(x)
        >>> [(o.role, o.call, o.owner) for o in trace.operations]
        [('op', 'linear', 'weight:linear')]
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], inputs: Any, composites: Mapping[Any, Any]
    ) -> None:
        super().__init__()
        self._parameters = {id(p): frozenset([name]) for name, p in parameters.items()}
        self._data = {id(t) for t in tensors(inputs)}
        self._kept: list[Any] = [inputs, parameters]  # alive, so that no id is used twice
        self._composites = composites
        self._count: Counter[frozenset[str]] = Counter()
        self._ops: dict[int, Operation] = {}
        self._born: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._through: dict[int, int] = {}
        self._drawn: set[int] = set()
        self._open: list[Call] = []
        self.operations: list[Operation] = []
        self.calls: list[Call] = []
        self.bounds: list[tuple[int, Counter[frozenset[str]]]] = []
        self.segment = 0
        self.random: set[int] = set()
        self.silent: list[str] = []
        self.selecting: set[int] = set()

    def cut(self) -> None:
        """Note that a cut is reached."""
        self.segment += 1
        self.bounds.append((len(self.calls), Counter(self._count)))

    def passed(self, y: Tensor) -> Tensor:
        """Return another object for the output at the cut just reached: reads beside it are told apart."""
        with torch._C.DisableTorchFunction():
            alias = y.view_as(y)
        self._kept.append(alias)
        tables: tuple[dict[int, Any], ...] = (self._ops, self._born, self._parameters)
        for known in tables:
            if id(y) in known:
                known[id(alias)] = known[id(y)]
        for some in (self._data, self._drawn):
            if id(y) in some:
                some.add(id(alias))
        self._through[id(alias)] = self.segment
        return alias

    def left(self, *out: Any) -> None:
        """Note the operations whose output a submodule at a cut, or the module, returns."""
        for z in tensors(out):
            if id(z) in self._ops:
                self._ops[id(z)].leaves = True

    def made(self, z: Tensor) -> int:
        """Return the number of the call that made a tensor, -1 for none."""
        return self._born.get(id(z), -1)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the call and note what enters it."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name == "__iter__":  # an iterator holds no tensors: q, k, v = x is x.unbind(0)
            with self:
                return iter(args[0].unbind(0))
        given = list(tensors((args, kwargs)))
        if name == "__get__":
            out = func(*args, **kwargs)
            if not floating(out):
                return out
        data = any(id(a) in self._data for a in given)
        call = Call(name, self.segment, data)
        number = len(self.calls)
        self.calls.append(call)
        for a in given:
            maker = self._born.get(id(a))
            while maker is not None:
                made_by = self.calls[maker]
                made_by.reader = max(made_by.reader, self.segment)
                cut = self._through.get(id(a), 0)
                made_by.beside[cut] = max(made_by.beside.get(cut, -1), self.segment)
                maker = self._before.get(maker)
        self._open.append(call)
        entered = func in self._composites
        if entered:
            with self:
                out = self._composites[func](*args, **kwargs)
        elif name != "__get__":
            out = self._run(func, name, args, kwargs)
        made = list(tensors(out))
        call.floats = any(map(floating, made))
        if name in RANDOM:
            for one in self._open:
                one.drawn = True
        drawn = call.drawn or any(id(a) in self._drawn for a in given)
        if given and _writes(name):
            self._written(given[0], data, drawn)
        self._note_selection(name, given, made)
        if drawn:
            self._drawn |= {id(m) for m in made if not m.requires_grad}
        self._kept += [*made, *given]
        if not entered:
            self._meet(name, given, made, data)
        self._open.pop()
        if data:
            self._data |= {id(m) for m in made}
            if not torch.is_grad_enabled() and any(map(floating, given)) and call.floats:
                self.silent.append(name)
        for m in made:
            if _writes(name) and id(m) in self._born:  # who made it is read too
                self._before[number] = self._born[id(m)]
            self._born[id(m)] = number
        call.end = len(self.calls)
        return out

    def _written(self, z: Tensor, data: bool, drawn: bool) -> None:
        """Note that a call writes into a tensor, and so into what it is a view of."""
        for target in (z, z._base):
            if target is None or not (data or drawn):
                continue
            self._kept.append(target)
            if data:
                self._data.add(id(target))
            if drawn and not target.requires_grad:
                self._drawn.add(id(target))
            if id(target) in self._born:
                maker = self.calls[self._born[id(target)]]
                maker.data |= data
                maker.drawn |= drawn
                maker.written = True

    def _note_selection(self, name: str, given: list[Tensor], made: list[Tensor]) -> None:
        """Note a call in which numbers of the batch, or drawn ones, decide which others go on."""
        moved = [a for a in given if id(a) in self._data and a.requires_grad]
        if not moved or not any(m.requires_grad for m in made):
            return
        if any("dropout" in call.name for call in self._open):  # reach is found without
            return
        fixed = [a for a in given if not a.requires_grad and a.dim()]
        if name in SELECTING or any(self._selects(name, a) for a in fixed):
            self.selecting.add(self.segment)

    def _selects(self, name: str, a: Tensor) -> bool:
        """Return whether a tensor without a gradient can stop, in a call, what has one."""
        adds = name.strip("_").removeprefix("i").removeprefix("r") in ADDING
        if id(a) in self._drawn:
            return not adds
        if id(a) not in self._data:
            return False
        if not a.is_floating_point():
            return not name.startswith("masked_fill") or bool(a.any())
        with torch._C.DisableTorchFunction():
            large = bool((a.detach().abs() > LARGE).any())
            return large or not (adds or bool(a.detach().all()))

    def _run(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call without writing into its arguments where that can be, and without randomness."""
        func, kwargs = unwritten(func, name, kwargs)
        out = func(*args, **kwargs)
        if name in RANDOM:
            self.random.add(self.segment)
            if floating(out):
                with torch.no_grad():
                    out.fill_(1.0)
        return out

    def _meet(self, name: str, given: list[Tensor], made: list[Tensor], data: bool) -> None:
        """Note a weight operation, a parameter-like result, and who reads an operation's output."""
        floats = [m for m in made if m.is_floating_point()]
        complexes = [m for m in made if m.is_complex()]
        own = frozenset[str]().union(*(self._parameters.get(id(a), ()) for a in given))
        found: Operation | None = None
        if own and (floats or complexes):
            key = (tuple(sorted(own)), self._count[own])
            self._count[own] += 1
            for call in self._open:
                call.used.append(own)
            role = "ignore" if name in CONSTANT else "op" if data and floats else "derive"
            found = Operation(key, role, name, self.segment)
            self.operations.append(found)
        for a in given if floats else ():
            if id(a) in self._ops:
                read = self._ops[id(a)]
                read.readers.append((name, found if found and found.role == "op" else None))
                read.leaves |= read.segment != self.segment
        for m in made:
            writes = _writes(name) and any(m is a for a in given)
            if writes and id(m) in self._ops:  # from here on it is another value
                self._ops.pop(id(m)).written = True
        if found is None:
            return
        if found.role == "derive":
            for m in (*floats, *complexes):  # a complex one meets data where it is real again
                self._parameters[id(m)] = own
        elif found.role == "op":
            found.value = floats
            for m in floats:
                self._ops[id(m)] = found


def _writes(name: str) -> bool:
    """Return whether a call of this name writes into its first argument.

    Example:
        >>> [_writes(name) for name in ("add_", "__setitem__", "__add__", "add")]
        [True, True, False, False]
    """
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
