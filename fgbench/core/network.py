"""The parts of every architecture: taps, sites, local modules, readouts and the chain.

Architectures are ordinary PyTorch modules that call ``tap(kind, name, z)`` at three kinds of place:
``op`` (raw output of a weight operation), ``site`` (where activity noise enters) and ``out`` (after the
nonlinearity). The tap of a plain pass is the identity; others record, replace or perturb ``z``.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import nn

from fgbench.core import axes, shape_trace
from fgbench.core.axes import Cells
from fgbench.core.cost import CostCounter
from fgbench.core.losses import cross_entropy
from fgbench.core.microbatch import even
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from fgbench.core.losses import Loss
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.shape_trace import ShapeTrace


class Tap(Protocol):
    """A function called at the named places of a forward pass.

    Example:
        >>> def doubled(kind, name, z):
        ...     return 2 * z if kind == "site" else z
        >>> tap: Tap = doubled
        >>> tap("site", "l0", torch.ones(2))
        tensor([2., 2.])
    """

    def __call__(self, kind: str, name: str, z: Tensor, /) -> Tensor:
        """Return the value that the forward pass continues with in place of ``z``."""


def untouched(kind: str, name: str, z: Tensor, /) -> Tensor:
    """Return ``z``: the tap of a plain forward pass.

    Example:
        >>> untouched("op", "l0", torch.ones(2))
        tensor([1., 1.])
    """
    return z


@dataclass(frozen=True)
class Site:
    """A pre-activation where activity noise may enter.

    Args:
        name: unique within its module; the parameters ``name.*`` make its weight operation.
        axes: named axes, the example axis first, such as ``"b p (g d)"``.
        mixed_after: axes mixed between the site and its module's output.
        op_mixes: axes mixed between the weight operation's raw output and the site (a norm over all
            channels mixes groups).
        shared: axes along which the weight operation applies the same weights: patches for a layer that
            mixes channels, channels for one that mixes patches, height and width for a convolution.

    Example:
        >>> Site("l0", "b p (g d)", mixed_after="g", shared="p").axes
        'b p (g d)'
    """

    name: str
    axes: str
    mixed_after: str = ""
    op_mixes: str = ""
    shared: str = ""


class LocalModule(nn.Module):
    """A piece of the chain: an ordinary module that declares its sites and what it mixes.

    Attributes:
        sites: the places where activity noise may enter, in forward order.
        mixes: axes mixed between the module's input and its output.
        out_axes: axes of the output.
        param_axes: axes of parameters whose scores are kept apart along one of their own axes, such as
            ``{"l0.weight": "(g d) i"}``. A parameter left out is credited with the sum over all kept
            axes, which is always unbiased, and sometimes noisier.

    Example:
        >>> class Layer(LocalModule):
        ...     sites = (Site("l0", "b c"),)
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.l0 = nn.Linear(3, 2)
        ...     def forward(self, x, tap=untouched):
        ...         return tap("out", "l0", tap("site", "l0", tap("op", "l0", self.l0(x))).relu())
        >>> tuple(Layer()(torch.ones(5, 3)).shape)
        (5, 2)
    """

    sites: tuple[Site, ...] = ()
    mixes: str = ""
    out_axes: str = "b c"
    param_axes: ClassVar[dict[str, str]] = {}

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute the module's output, calling ``tap`` at every op, site and out."""
        raise NotImplementedError


class Readout(nn.Module):
    """A head: from a module's output to predictions, and its own loss per example.

    Attributes:
        holds: whether the losses compare predictions with predictions of the clean pass, which stay
            fixed while the network is moved (stopped keys), for finite differences as for tangents.
        coupled: whether the loss of an example depends on the predictions of other examples that move
            with it. The kept score of an example is the slope of its own loss, along the activities of
            all examples and not of its own alone.
        needs: name of the part of a batch that its losses compare with, beside the targets, such as the image
            itself; ``losses`` then takes it as a fourth argument ``given``, ``[b, ...]``. "" for none.
        may_start_at_zero: whether it learns from a start at zero, as recipes with ``zero_heads`` have it;
            not where the loss divides by the norm of its predictions.
        criterion: the loss per example, that of the chain it is part of; cross entropy at first.

    Example:
        >>> Readout().losses(torch.zeros(2, 4), torch.tensor([0, 1]))  # cross entropy
        tensor([1.3863, 1.3863])
    """

    holds: bool = False
    coupled: bool = False
    needs: str = ""
    may_start_at_zero: bool = True
    criterion: Loss = staticmethod(cross_entropy)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute predictions ``[b, k]`` from a module's output, calling ``tap`` at every op."""
        raise NotImplementedError

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        """Compute one loss per example, ``[b]``, by the criterion unless overridden.

        Args:
            prediction: ``[b, k]``, or as the targets need it.
            labels: the targets of the same examples, ``[b]`` or ``[b, ...]``.
            held: predictions of the clean pass for a readout that ``holds``; ``prediction`` where None.

        Returns:
            The losses.
        """
        return self.criterion(prediction, labels)


@dataclass(frozen=True)
class Pooling:
    """The features of each example that a readout takes from a module's output.

    Args:
        over: dimensions of the output that are averaged.
        size: number of features.
        axis: dimension of the features where positions stay apart, such as tokens that each have a
            prediction; 0 flattens all dimensions that are left.

    Example:
        >>> Pooling(over=(1,), size=4)(torch.ones(2, 7, 4)).shape
        torch.Size([2, 4])
    """

    over: tuple[int, ...]
    size: int
    axis: int = 0

    def __call__(self, f: Tensor) -> Tensor:
        """Return ``[b, features]``, or ``[b, ..., features]`` where positions stay apart."""
        if self.axis:
            return f.movedim(self.axis, -1)
        return (f.mean(list(self.over)) if self.over else f).flatten(1)


class LinearReadout(Readout):
    """A linear head on features averaged over patches or pixels.

    Args:
        out_axes: axes of the module's output; the mean runs over ``p``, ``h`` and ``w``.
        features: numbers per example left after the mean.
        classes: number of classes.

    Example:
        >>> readout = LinearReadout("b p c", features=4, classes=3)
        >>> tuple(readout(torch.ones(2, 7, 4)).shape)
        (2, 3)
    """

    def __init__(self, out_axes: str, features: int, classes: int) -> None:
        super().__init__()
        self._pooled = axes.dims_within(out_axes, "p h w")
        self.linear = nn.Linear(features, classes)

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Compute ``[b, k]`` logits."""
        pooled = f.mean(self._pooled) if self._pooled else f
        return tap("op", "linear", self.linear(pooled.flatten(1)))


class _Prefixed:
    """A tap that puts a module's qualified name before the local one."""

    __slots__ = ("prefix", "tap")

    def __init__(self, tap: Tap, prefix: str) -> None:
        self.tap, self.prefix = tap, prefix

    def __call__(self, kind: str, name: str, z: Tensor, /) -> Tensor:
        """Forward to the tap under the qualified name."""
        return self.tap(kind, self.prefix + name, z)


class Chain(nn.Module):
    """Local modules run one after the other, with a readout at the end and perhaps some on the way.

    Args:
        body: the modules, first to last.
        readouts: heads by name; ``final`` makes the predictions, ``local{k}`` reads module k.
        input_shape: shape of one example, such as ``(ch, H, W)``.
        classes: number of classes.

    Attributes:
        only_end: why no loss can be read between the modules, "" where one can.

    Raises:
        UsageError: if ``final`` is missing or a site's example axis is not first.

    Example:
        >>> from fgbench import registry
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> dict(chain.shapes())
        {'body.0.l0': (4,), 'body.1.l0': (4,)}
    """

    only_end: str = ""

    def __init__(
        self,
        body: list[LocalModule],
        readouts: dict[str, Readout],
        input_shape: tuple[int, ...],
        classes: int,
    ) -> None:
        super().__init__()
        if "final" not in readouts:
            raise UsageError(f"a chain needs a readout named 'final', got {sorted(readouts)}")
        self.body = nn.ModuleList(body)
        self.readouts = nn.ModuleDict(readouts)
        self.input_shape = tuple(input_shape)
        self.classes = classes
        self._criterion: Loss = cross_entropy
        self._index: dict[str, tuple[int, Site]] = {}
        for k, module in enumerate(body):
            for site in module.sites:
                if not axes.parse(site.axes) or axes.parse(site.axes)[0] != ("b",):
                    raise UsageError(f"site {site.name!r}: axes {site.axes!r} must begin with 'b'")
                self._index[f"body.{k}.{site.name}"] = (k, site)
        self._traced: ShapeTrace | None = None
        self._priced: dict[tuple[str, int], tuple[Readout, float]] = {}

    def __len__(self) -> int:
        """Return the number of modules."""
        return len(self.body)

    @property
    def criterion(self) -> Loss:
        """The loss per example of every readout that has no other: cross entropy unless set."""
        return self._criterion

    @criterion.setter
    def criterion(self, loss: Loss) -> None:
        """Give the loss to the readouts there are; those that are added later take it too."""
        self._criterion = loss
        for name in self.readouts:
            self.readout(name).criterion = loss

    @property
    def index(self) -> Mapping[str, tuple[int, Site]]:
        """Site name to (module number, site), in forward order."""
        return self._index

    def module(self, k: int) -> LocalModule:
        """Return module ``k``."""
        module = self.body[k]
        assert isinstance(module, LocalModule)
        return module

    @property
    def pieces(self) -> tuple[nn.Module, ...]:
        """The modules of the body that were written by somebody, for errors."""
        return tuple(self.body)

    @property
    def whole(self) -> bool:
        """Whether a batch passes in one piece and not in runs of examples."""
        return False

    def site_of(self, parameter: str) -> str:
        """Return the site of a body parameter's weight operation, "" where it has none."""
        site = parameter.rpartition(".")[0]
        return site if site in self.index else ""

    @property
    def by_forward_ad(self) -> bool:
        """Whether torch's own forward mode takes the place of Duals, which cannot travel here."""
        return False

    def home(self, parameter: str) -> int:
        """Return the number of the (first) module that has a body parameter, by qualified name."""
        return int(parameter.split(".")[1])

    def readout(self, name: str) -> Readout:
        """Return the readout of that name."""
        if name not in self.readouts:
            raise unknown("readout", name, self.readouts)
        module = self.readouts[name]
        assert isinstance(module, Readout)
        return module

    def local_readout(self, k: int) -> str:
        """Return the name of the readout on module ``k``: its own, or the final one for the last."""
        if f"local{k}" in self.readouts:
            return f"local{k}"
        if k == len(self) - 1:
            return "final"
        raise UsageError(f"module {k} has no readout; attach auxiliary heads first")

    def body_parameters(
        self, modules: range | tuple[int, ...] | None = None
    ) -> dict[str, nn.Parameter]:
        """Return the estimated parameters by qualified name, of all modules or of some."""
        chosen = range(len(self)) if modules is None else modules
        return {
            f"body.{k}.{name}": p for k in chosen for name, p in self.body[k].named_parameters()
        }

    def sharing(self, updates: tuple[int, ...], window: tuple[int, int]) -> set[int]:
        """Return the other modules of a window that use parameters of updated ones.

        Modules that declare their sites share none.
        """
        return set()

    def readout_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Return a readout's parameters by qualified name."""
        return {f"readouts.{name}.{n}": p for n, p in self.readouts[name].named_parameters()}

    def redraw(self, noise: Noise) -> None:
        """Let everything that the modules draw themselves, such as dropout masks, come from this noise.

        Chains of modules that declare their sites draw nothing.

        Args:
            noise: of a step; all passes until the next call draw the same.
        """

    def buffers_held(self) -> AbstractContextManager[None]:
        """Return a context in which no call writes buffers of the modules.

        Chains of modules that declare their sites have none.
        """
        return nullcontext()

    def clean_pass(self) -> AbstractContextManager[None]:
        """Return a context for a pass of a step with the parameters and activities as they are.

        What it writes into buffers is what the step leaves there.
        """
        return nullcontext()

    def advance_buffers(self, x: Any) -> bool:
        """Let the modules write their buffers once, as a step of backprop does.

        Args:
            x: inputs of the step's batch.

        Returns:
            Whether a forward pass was made for them.
        """
        return False

    def start(self, x: Any) -> Any:
        """Return where a pass from a batch of inputs begins: the batch itself."""
        return x

    def part(self, x: Any, run: slice) -> Any:
        """Return where a pass of some examples begins, given where that of all begins."""
        return x[run]

    def indivisible(self, first: int) -> str:
        """Return why a batch cannot pass in parts from module ``first`` on, "" where it can."""
        return ""

    def unreplayable(self, first: int) -> str:
        """Return why a pass from module ``first`` on is no function of tensors alone, "" where it is one."""
        return ""

    def inputs(self, x: Any) -> Any:
        """Return the tree of tensors that :meth:`start` makes a start of."""
        return x

    def unrepeatable(self) -> str:
        """Return why modules cannot be run again in a reverse pass, "" where they can."""
        return ""

    def stretches(self, first: int, stop: int, count: int) -> list[tuple[int, int]]:
        """Cut modules into stretches that are run one after the other, of about equal numbers.

        Args:
            first: the first module.
            stop: the module before which the last stretch ends.
            count: number of stretches, at most that of the modules.

        Returns:
            The first module of each, and that after its last.
        """
        return even(first, stop, count)

    def recomputed(self, first: int, stop: int, count: int) -> float:
        """Return the share of the body that is run again where a reverse pass takes such stretches."""
        return sum(self.shares()[first : self.stretches(first, stop, count)[-1][0]])

    def recomputing(self, first: int, stop: int, count: int) -> AbstractContextManager[None]:
        """Return the context in which modules are run whose activities a reverse pass computes again."""
        return nullcontext()

    def entry(self, x: Any) -> Any:
        """Return the output of the module before a start, which an empty window reads."""
        return x

    def reads(self, k: int) -> tuple[int, ...] | None:
        """Return the shape of what module ``k`` reads of one example; None unless it is one real tensor."""
        return self.out_shape(k - 1) if k else self.input_shape

    def begins(self, x: Any) -> Tensor:
        """Return the tensor that a pass from a start reads first."""
        found: Tensor = x
        return found

    def beginning(self, x: Any, f: Tensor) -> Any:
        """Return a start with another tensor in the place of the one that is read first."""
        return f

    def leave(self, x: Any, k: int, f: Tensor) -> Any:
        """Return where a window from module ``k`` begins.

        Args:
            x: where the pass began that has come there.
            k: number of the module.
            f: output of the module before, without graph.
        """
        return f

    def advance(self, x: Any, first: int, stop: int) -> Any:
        """Run modules without gradients and return where a window from module ``stop`` begins."""
        if first == stop:
            return x
        f: Any = x
        with torch.no_grad():
            for _, f in self.segments(x, first, stop, untouched, (stop,)):  # noqa: B007
                pass
        return self.leave(x, stop, f.detach())

    def segments(
        self, x: Any, first: int, stop: int, tap: Tap, leaves: Collection[int] = ()
    ) -> Iterator[tuple[int, Tensor]]:
        """Run modules ``first`` to ``stop - 1`` and yield (number, output) after each.

        Args:
            x: where the pass begins.
            first: the first module.
            stop: the module before which it ends.
            tap: called at every op, site and out.
            leaves: numbers of modules from which later windows begin, see :meth:`leave`.
        """
        for k in range(first, stop):
            x = self.body[k](x, _Prefixed(tap, f"body.{k}."))
            yield k, x

    def run(self, x: Any, first: int, stop: int, tap: Tap = untouched) -> Tensor:
        """Run modules ``first`` to ``stop - 1``; an empty window returns its start."""
        f: Tensor = self.entry(x) if first == stop else x
        for _, f in self.segments(x, first, stop, tap):  # noqa: B007
            pass
        return f

    def read(self, name: str, f: Tensor, tap: Tap = untouched) -> Tensor:
        """Run one readout on a module's output."""
        result: Tensor = self.readouts[name](f, _Prefixed(tap, f"readouts.{name}."))
        return result

    def outputs(self, name: str, k: int) -> int:
        """Return how many numbers per example a readout predicts from module ``k``'s output."""
        f = next(self.parameters()).detach().new_zeros(1, *self.out_shape(k))
        with torch.no_grad():
            return self.read(name, f).shape[1]

    def predicted(self, name: str, k: int) -> tuple[int, ...]:
        """Return the shape of what a readout predicts of one example from module ``k``'s output."""
        f = next(self.parameters()).detach().new_zeros(1, *self.out_shape(k))
        with torch.no_grad():
            return tuple(self.read(name, f).shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Compute the predictions of the final readout: ``[b, k]``."""
        return self.read("final", self.run(x, 0, len(self)))

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every site for one example, the example axis left out.

        Traced once, on one example of zeros without gradients.
        """
        return self._trace().sites

    def features(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of one example's features at every site: 1 where the weights are shared.

        The features are the entries that have weights of their own: channels for a layer that mixes
        channels, patches for one that mixes patches. A dimension counts as shared where all its axes are.
        """
        found = {}
        for name, shape in self.shapes().items():
            site = self.index[name][1]
            same = axes.dims_within(site.axes, site.shared)
            found[name] = tuple(1 if i in same else size for i, size in enumerate(shape, 1))
        return found

    def shares(self) -> tuple[float, ...]:
        """Return each module's part of the body's multiplications, adding up to 1."""
        return self._trace().shares

    def operations(self) -> int:
        """Return the operations of the body's matrix products and convolutions, per example."""
        return self._trace().operations

    def readout_share(self, name: str, k: int) -> float:
        """Return what one pass through a readout at module ``k``'s output costs, in passes of the body.

        Like :meth:`shares` it is the part of floating point operations; 0 where the body has none.
        """
        readout, body = self.readout(name), self._trace().operations
        known, share = self._priced.get((name, k), (None, 0.0))
        if known is not readout and body:
            some = next(self.parameters())
            f = torch.zeros(1, *self.out_shape(k), dtype=some.dtype, device=some.device)
            share = shape_trace.operations(lambda: readout(f)) / body
            self._priced[name, k] = readout, share
        return share

    def counter(self) -> CostCounter:
        """Return an empty counter that prices calls in forward passes of body and final readout."""
        return CostCounter(network=1.0 + self.readout_share("final", len(self) - 1))

    def cells(self, kept: str, name: str, stop: int, *, summed: bool = True) -> Cells:
        """Return which scores credit a site or parameter, see :meth:`fgbench.core.objective.Objective.cells`.

        Args:
            kept: axes of the scores.
            name: qualified name of a site or of a body parameter.
            stop: end of the window whose scores they are.
            summed: whether scores are summed over every axis mixed on the way.

        Returns:
            The kept axes, the place's axes and everything mixed in between.

        Raises:
            UsageError: for a name that is neither.
        """
        site_name = name if name in self.index else name.rpartition(".")[0]
        if site_name not in self.index:
            if name not in (known := self.body_parameters()):
                raise unknown("site or parameter", name, [*self.index, *known])
            return Cells(kept, "", "")
        k, site = self.index[site_name]
        later = range(k + 1, stop) if summed else ()
        mixed = axes.union(site.mixed_after, *(self.module(j).mixes for j in later))
        if name == site_name:
            return Cells(kept, site.axes, mixed)
        place = self.module(k).param_axes.get(name.removeprefix(f"body.{k}."), "")
        return Cells(kept, place, axes.union(mixed, site.op_mixes) if summed else mixed)

    def example(self) -> Any:
        """Return inputs of a few examples, to run the network for what it shows."""
        some = next(self.parameters())
        return torch.zeros(1, *self.input_shape, dtype=some.dtype, device=some.device)

    def rectified(self) -> frozenset[str]:
        """Return the sites that reach the loss by a ReLU alone: a unit is off where that ReLU is 0."""
        return self._trace().rectified

    def out_shape(self, k: int) -> tuple[int, ...]:
        """Return the shape of module ``k``'s output for one example."""
        return self._trace().outputs[k]

    def out_sizes(self, k: int) -> dict[str, int]:
        """Return the size of every axis of module ``k``'s output but the example axis."""
        letters = axes.names(self.module(k).out_axes)[1:]
        return dict(zip(letters, self.out_shape(k), strict=True))

    def op_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every weight operation's raw output for one example."""
        return self._trace().ops

    def raw_sites(self) -> frozenset[str]:
        """Return the sites that are the raw output of their weight operation, with no norm between."""
        return self._trace().raw

    def _trace(self) -> ShapeTrace:
        """Return the shapes and operations of one example, traced once."""
        if self._traced is None:
            self._traced = shape_trace.trace(
                lambda k, f, tap: self.run(f, k, k + 1, tap), len(self), self.example()
            )
        return self._traced

    def attach(self) -> None:
        """Add a linear readout to every module but the last that brings none.

        The heads are drawn from the global generator: call it inside ``noise.seeded``.
        """
        for k in range(len(self) - 1):
            if f"local{k}" not in self.readouts:
                self.put(f"local{k}", k, lambda have, n: LinearReadout(have, n, self.classes))

    def pooling(self, k: int) -> Pooling:
        """Return how readouts take features from module ``k``'s output: averaged over patches or pixels."""
        out_axes = self.module(k).out_axes
        over = axes.dims_within(out_axes, "p h w")
        sizes = enumerate(self.out_shape(k), 1)
        return Pooling(tuple(over), prod(n for i, n in sizes if i not in over))

    def put(self, name: str, k: int, make: Callable[[str, int], Readout]) -> None:
        """Add a readout on module ``k``, in place of one of that name.

        Args:
            name: of the readout.
            k: number of the module.
            make: from the axes of the module's output and the numbers per example left after its mean
                over patches or pixels to the readout, drawn from the global generator.
        """
        out_axes = self.module(k).out_axes
        features = 1
        for dim, size in zip(axes.parse(out_axes)[1:], self.out_shape(k), strict=True):
            features *= 1 if dim[0] in ("p", "h", "w") else size
        some = next(self.parameters())
        readout = make(out_axes, features).to(dtype=some.dtype, device=some.device)
        readout.criterion = self._criterion
        self.readouts[name] = readout
