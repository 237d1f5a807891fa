"""One traced pass of any module: which calls are weight operations, and what crosses a cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fgbench.core.wrapping.operations import Operation, floating, tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

KINKS = frozenset({"relu", "relu_"})
REBOUND = {
    f"__i{op}__": getattr(Tensor, f"__{op}__")
    for op in ("add", "sub", "mul", "truediv", "pow", "matmul")
}
"""Operators that write in place and bind the name anew, with the operators that do not write."""
RANDOM = frozenset(
    {"rand", "randn", "rand_like", "randn_like", "normal", "bernoulli", "bernoulli_", "uniform_"}
    | {"normal_", "multinomial", "exponential_", "randperm", "randint", "rrelu", "alpha_dropout"}
)
CONSTANT = frozenset(
    {"detach", "new_zeros", "new_ones", "new_empty", "new_full", "zeros_like", "ones_like"}
    | {"empty_like", "full_like", "rand_like", "randn_like", "data"}
)
"""Calls whose result does not depend on the numbers given, or is cut from them."""


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
        self._open: list[Call] = []
        self.operations: list[Operation] = []
        self.calls: list[Call] = []
        self.bounds: list[tuple[int, Counter[frozenset[str]]]] = []
        self.segment = 0
        self.random: set[int] = set()
        self.silent: list[str] = []

    def cut(self) -> None:
        """Note that a cut is reached."""
        self.segment += 1
        self.bounds.append((len(self.calls), Counter(self._count)))

    def made(self, z: Tensor) -> int:
        """Return the number of the call that made a tensor, -1 for none."""
        return self._born.get(id(z), -1)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the call and note what enters it."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
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
            if id(a) in self._born:
                maker = self.calls[self._born[id(a)]]
                maker.reader = max(maker.reader, self.segment)
        self._open.append(call)
        entered = func in self._composites
        if entered:
            with self:
                out = self._composites[func](*args, **kwargs)
        elif name != "__get__":
            out = self._run(func, name, args, kwargs)
        made = list(tensors(out))
        call.floats = any(map(floating, made))
        self._kept += [*made, *given]
        if not entered:
            self._meet(name, given, made, data)
        self._open.pop()
        if data:
            self._data |= {id(m) for m in made}
            if not torch.is_grad_enabled() and any(map(floating, given)) and call.floats:
                self.silent.append(name)
        for m in made:
            self._born[id(m)] = number
        call.end = len(self.calls)
        return out

    def _run(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call without writing into its arguments where that can be, and without randomness."""
        if name in REBOUND:
            return REBOUND[name](*args, **kwargs)
        if name == "relu_":
            return F.relu(*args)
        if kwargs.get("inplace"):
            kwargs["inplace"] = False
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
        own = frozenset[str]().union(*(self._parameters.get(id(a), ()) for a in given))
        found: Operation | None = None
        if own and floats:
            key = (tuple(sorted(own)), self._count[own])
            self._count[own] += 1
            for call in self._open:
                call.used.append(own)
            role = "ignore" if name in CONSTANT else "op" if data else "derive"
            found = Operation(key, role, name, self.segment)
            self.operations.append(found)
        for a in given if floats else ():
            if id(a) in self._ops:
                self._ops[id(a)].readers.append(
                    (name, found if found and found.role == "op" else None)
                )
        for m in made:
            writes = name.endswith("_") and not name.endswith("__") and any(m is a for a in given)
            if writes and id(m) in self._ops:  # from here on it is another value
                self._ops.pop(id(m)).written = True
        if found is None:
            return
        if found.role == "derive":
            for m in floats:
                self._parameters[id(m)] = own
        elif found.role == "op":
            found.value = floats
            for m in floats:
                self._ops[id(m)] = found
