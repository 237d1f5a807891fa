"""A pass through a module that is tapped at its weight operations, and may begin and end at cuts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from fgbench.core.autodiff.dual import Dual, value
from fgbench.core.wrapping.operations import Layout, floating, tensors, unwritten
from fgbench.core.wrapping.trace import KINKS
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from fgbench.core.network import Tap
    from fgbench.core.wrapping.operations import Key, Operation
    from fgbench.core.wrapping.trace import Call

CHANGED = (
    "makes other calls than when it was traced ({what}); its control flow may depend on data or on state "
    "that an earlier pass left, which forward mode cannot follow"
)


class Stop(BaseException):
    """The end of a window: what follows is not run."""


class Listener(TorchFunctionMode):
    """Taps the output of every weight operation of a pass, whether tensors or Duals travel.

    Calls on data before the window are not run: each is answered with its recorded value where something in
    or after the window reads it, else with zeros of its shape that take no memory. Calls on parameters alone
    are run everywhere, so that a gradient reaches what is made of them.

    Args:
        parameters: the parameters in this pass, tensors or Duals, by name.
        plan: operations by key.
        calls: the traced calls.
        bounds: per cut: number of the next call, and how often each set of parameters had met.
        composites: calls that are entered.
        window: first segment that runs, and the one before which the pass ends.
        record: what stands for the calls before the window, by number.
        tap: called at op, site and out of every operation in the window.
        leaves: cuts at which it is recorded what a later window starts from.
        begin: called with the number of a segment before its first call.
        blanks: what stood for calls that nothing later reads, by number; earlier passes have made it.

    Attributes:
        left: per cut in ``leaves``: the record up to there.
        met: number of operations that were tapped.
        segment: number of cuts reached.
    """

    follows_duals = True

    def __init__(
        self,
        parameters: Mapping[str, Any],
        plan: Mapping[Key, Operation],
        calls: Sequence[Call],
        bounds: Sequence[tuple[int, Counter[frozenset[str]]]],
        composites: Mapping[Any, Any],
        window: tuple[int, int],
        record: Sequence[Any],
        tap: Tap,
        leaves: Collection[int] = (),
        begin: Callable[[int], None] | None = None,
        blanks: dict[int, Any] | None = None,
    ) -> None:
        super().__init__()
        self._names = {id(p): frozenset([name]) for name, p in parameters.items()}
        self._kept: list[Any] = [parameters]
        self._plan, self._calls, self._bounds = plan, calls, bounds
        self._composites, self._tap = composites, tap
        self._first, self._stop = window
        self._record, self._entries = list(record), list[Any]()
        self._recording = any(k > self._first for k in leaves)
        self._leaves, self._begin = leaves, begin
        self._blanks = {} if blanks is None else blanks
        self._count: Counter[frozenset[str]] = Counter()
        self._pending: dict[int, tuple[Operation, str, Any]] = {}
        self._depth, self._number = 0, 0
        self.left: dict[int, list[Any]] = {}
        self.met, self.segment = 0, 0

    def cut(self, out: Any, replaced: Callable[[Any], Any]) -> Any:
        """Note that a cut is reached; return the output that the pass continues with.

        Args:
            out: the output of the module at the cut.
            replaced: puts the start of the window in place of its tensor.

        Returns:
            The output, replaced at the start of the window.

        Raises:
            Stop: at the end of the window.
        """
        self.segment += 1
        number, _ = self._bounds[self.segment - 1]
        if self.segment <= self._first or self._recording:
            self._require(self._number == number, f"{self._number} for {number} before a cut")
        if self.segment in self._leaves and self.segment > self._first:
            with torch._C.DisableTorchFunction():  # calls made here are none of the module's
                self.left[self.segment] = self._needed([*self._record, *self._entries])
        if self.segment == self._first:
            out = replaced(out)
        if self.segment == self._stop:
            raise Stop
        if self.segment >= self._first and self._begin is not None:
            self._begin(self.segment)
        return out

    def _needed(self, entries: list[Any]) -> list[Any]:
        """Return a record without the values that nothing after this cut reads."""
        return [
            tree_map(_copy, e)
            if e is not None and self._calls[i].written
            else e
            if e is None or self._calls[i].lasts >= self.segment or e is self._blanks.get(i)
            else self._blank(i, e)
            for i, e in enumerate(entries)
        ]

    def _require(self, holds: bool, what: str) -> None:
        """Refuse a pass that differs from the traced one."""
        if not holds:
            raise UsageError(f"the module {CHANGED.format(what=what)}")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the call, or answer it from the record, and tap what it makes."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__iter__":  # as in the traced pass
            with self:
                return iter(args[0].unbind(0))
        if name == "__get__":
            out = func(*args, **kwargs)
            if not floating(out):
                return out
            return self._done(self._number_next(), self._met(name, args, kwargs, out))
        number = self._number_next()
        if self.segment < self._first:
            self._require(number < len(self._calls), f"call {number + 1}, {name}")
            call = self._calls[number]
            if (call.data or call.drawn) and self._depth == 0:
                same = call.name in (name, "__get__")
                self._require(same, f"{name} for {call.name}")
                self._number = call.end
                self._count.update(call.used)
                if call.written:
                    self._record[number] = tree_map(_copy, self._record[number])
                return self._record[number]
        if func in self._composites:
            self._depth += 1
            with self:
                out = self._composites[func](*args, **kwargs)
            self._depth -= 1
            if number < len(self._calls):  # what is inside may be other calls
                self._number = self._calls[number].end
            return self._done(number, out)
        return self._done(
            number, self._met(name, args, kwargs, self._run(func, name, args, kwargs))
        )

    def _number_next(self) -> int:
        """Return the number of this call."""
        self._number += 1
        return self._number - 1

    def _run(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run a call on tensors or Duals, without writing into its arguments where that can be."""
        func, kwargs = unwritten(func, name, kwargs)
        if args and type(args[0]) is Dual:
            return Dual.__torch_function__(func, (), args, kwargs)
        return func(*args, **kwargs)

    def _done(self, number: int, out: Any) -> Any:
        """Record what a later window reads of a call, and return its value."""
        if self._recording and self._depth == 0 and self.segment >= self._first:
            known = number < len(self._calls)
            later = known and self._calls[number].lasts > self.segment
            self._entries += [None] * (number - len(self._record) - len(self._entries))
            self._entries.append(
                tree_map(_clean, out, is_leaf=_is_dual) if later else self._blank(number, out)
            )
        return out

    def _blank(self, number: int, out: Any) -> Any:
        """Return what stands for a call that nothing later reads; one of an earlier pass where it fits."""
        known = self._blanks.get(number)
        if isinstance(known, Tensor) and floating(known) and isinstance(out, Tensor | Dual):
            z = value(out)  # what is no number is kept as it is, of each pass its own
            if z.shape == known.shape and z.dtype == known.dtype and z.device == known.device:
                return known
        made = self._blanks[number] = tree_map(_blank, out, is_leaf=_is_dual)
        return made

    def _met(self, name: str, args: Any, kwargs: Any, out: Any) -> Any:
        """Follow parameters through a call, and tap a weight operation's output."""
        own = None
        names = self._names
        for a in args:
            found = names.get(id(a))
            if found is None and type(a) in (list, tuple):
                for b in a:
                    if id(b) in names:
                        own = names[id(b)] if own is None else own | names[id(b)]
            elif found is not None:
                own = found if own is None else own | found
        for a in kwargs.values():
            if id(a) in names:
                own = names[id(a)] if own is None else own | names[id(a)]
        first = args[0] if args else kwargs.get("input")
        if self._pending and name in KINKS and id(first) in self._pending:
            operation, site, _ = self._pending.pop(id(first))
            return self._laid(operation, out, ("out",), site)
        if own is None or not any(map(_numbers, tensors(out))):
            return out
        key = (tuple(sorted(own)), self._count[own])
        self._count[own] += 1
        planned = self._plan.get(key)
        if planned is None:
            self._require(False, f"{name} on {', '.join(key[0])}")
        assert planned is not None
        if planned.role == "derive":
            for made in tensors(out):
                names[id(made)] = own
                self._kept.append(made)
            return out
        if planned.role != "op" or planned.segment < self._first:
            return out
        self.met += 1
        return self._tapped(planned, out)

    def _tapped(self, operation: Operation, out: Any) -> Any:
        """Tap each floating tensor of an operation's output."""
        if isinstance(out, Tensor | Dual):
            return self._one(operation, out, operation.name)
        made = [
            self._one(operation, z, f"{operation.name}:{i}" if i else operation.name)
            if floating(z)
            else z
            for i, z in enumerate(out)
        ]
        return type(out)(*made) if hasattr(out, "_fields") else type(out)(made)

    def _one(self, operation: Operation, z: Any, site: str) -> Any:
        """Tap one output; the out of a rectified site waits for its ReLU."""
        kinds: tuple[str, ...] = ("op",)
        if operation.tapped:
            kinds = ("op", "site") if operation.rectified else ("op", "site", "out")
        z = self._laid(operation, z, kinds, site)
        if operation.written and isinstance(z, Tensor):
            z = z.clone()  # what writes into it must not write into what a graph has seen
        if operation.tapped and operation.rectified:
            self._pending[id(z)] = operation, site, z
        return z

    def _laid(self, operation: Operation, z: Any, kinds: tuple[str, ...], site: str) -> Any:
        """Call the tap with the example axis first."""
        layout: Layout = operation.layout
        moved = layout.kind != "moved" or layout.at
        z = layout.split(z) if moved else z
        for kind in kinds:
            z = self._tap(kind, site, z)
        return layout.join(z) if moved else z


def _is_dual(x: Any) -> bool:
    """Return whether a value is a Dual, whose parts are not looked into."""
    return type(x) is Dual


def _numbers(x: Any) -> bool:
    """Return whether a tensor or Dual holds real or complex numbers."""
    return floating(x) or bool(value(x).is_complex())


def _copy(x: Any) -> Any:
    """Return a tensor that nobody writes into, and anything else as it is."""
    return x.clone() if isinstance(x, Tensor) else x


def _clean(x: Any) -> Any:
    """Return the value of a tensor or Dual without graph, and anything else as it is."""
    return value(x).detach() if isinstance(x, Tensor | Dual) else x


def _blank(x: Any) -> Any:
    """Return zeros of a floating tensor's shape that take no memory, and anything else as it is."""
    if not isinstance(x, Tensor | Dual):
        return x
    z = value(x).detach()
    return z.new_zeros(()).expand(z.shape) if z.is_floating_point() else z
