"""Find by tracing the weight operations of a module, its sites, cuts, shapes and work."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from fgbench.core.autodiff.composites import COMPOSITES
from fgbench.core.operation_counter import OperationCounter
from fgbench.core.wrapping.buffers import buffers_kept
from fgbench.core.wrapping.cuts import chosen_cuts, label
from fgbench.core.wrapping.operations import LETTERS, Operation, example_layout
from fgbench.core.wrapping.required import require_device
from fgbench.core.wrapping.shared import shared_inputs
from fgbench.core.wrapping.start import Start, called, first_tensor, some_examples, with_tensor
from fgbench.core.wrapping.trace import KINKS, Call, Trace
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fgbench.core.wrapping.buffers import Buffer
    from fgbench.core.wrapping.operations import Key

EXAMPLES = 3
"""Examples that are traced: two passes of three and two tell the example axis."""
APART = 1e-4
"""Largest change of a prediction, over the largest prediction, that passes for rounding."""
NORMS = frozenset({"layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm"})
GAINS = frozenset({"add", "__add__", "__radd__", "mul", "__mul__", "__rmul__"})
CHOICES = ("ops", "post", "min")


@dataclass
class Survey:
    """The result of tracing a module.

    Args:
        parameters: names of the parameters that learn.
        plan: operations by key.
        calls: all calls of the traced pass.
        bounds: per cut: number of the next call, and how often each set of parameters had met.
        cuts: labels of the submodules that are cut after, in forward order.
        head: name of the last submodule where that is the readout, "" for none.
        output: from what the module returns to its prediction.
        outputs: shape of the output of every segment, for one example.
        prediction: shape of the prediction for one example.
        shares: part of the operations of every segment, adding up to 1.
        operations: floating point operations of one example.
        random: whether anything is drawn.
        crossed: per cut: whether data cross it beside the output of its submodule.
        homes: parameter to the segments that use it.
        example: inputs that were traced.
        examples: how many examples these are.
        shared: numbers of the inputs that belong to all examples.
        silent: calls on data for which no gradient is recorded.
        selecting: segments in which the numbers of the batch decide what depends on what.
        written: buffers that a pass writes.
    """

    parameters: frozenset[str]
    plan: dict[Key, Operation]
    calls: list[Call]
    bounds: list[tuple[int, Counter[frozenset[str]]]]
    cuts: list[str]
    head: str
    output: Callable[[Any], Any]
    outputs: tuple[tuple[int, ...], ...]
    prediction: tuple[int, ...]
    shares: tuple[float, ...]
    operations: int
    random: bool
    crossed: tuple[bool, ...]
    homes: dict[str, set[int]]
    example: Any
    examples: int
    shared: frozenset[int] = frozenset()
    silent: list[str] = field(default_factory=list)
    selecting: frozenset[int] = frozenset()
    written: list[Buffer] = field(default_factory=list)

    @property
    def ops(self) -> list[Operation]:
        """The weight operations of the body, in forward order."""
        return [o for o in self.plan.values() if o.role == "op" and o.segment < len(self.outputs)]

    @property
    def sites(self) -> list[Operation]:
        """The weight operations where noise enters."""
        return [o for o in self.ops if o.tapped]

    def tensor(self, out: Any) -> Any:
        """Return the tensor of a submodule's output that goes on at a cut."""
        return first_tensor(out)

    def site_axes(self, operation: Operation) -> str:
        """Return axes for an operation's output, all but the first without a name."""
        if len(operation.shape) > len(LETTERS):
            raise UsageError(
                f"{operation.owner}: an output of {1 + len(operation.shape)} axes, expected at most "
                f"{1 + len(LETTERS)}"
            )
        return " ".join(["b", *LETTERS[: len(operation.shape)]])

    def shared_axes(self, operation: Operation) -> str:
        """Return the axes along which an operation applies the same weights."""
        own = operation.channels - 1
        return " ".join(a for i, a in enumerate(LETTERS[: len(operation.shape)]) if i != own)

    def feature_axis(self, k: int) -> int:
        """Return the axis of a segment's output along which its features lie, the example axis counted."""
        dims = len(self.outputs[k])
        alike = [o for o in self.ops if o.segment == k and len(o.shape) == dims]
        return alike[-1].channels if alike else 1 if dims == 3 else dims


def survey(
    module: nn.Module,
    batch: Any,
    cut: str | Sequence[str],
    sites: str,
    head: str,
    output: Callable[[Any], Any],
) -> Survey:
    """Trace a module on some examples of a batch; see :func:`fgbench.core.wrapping.wrap`.

    Args:
        module: the network.
        batch: its inputs, of at least two examples.
        cut: where it is cut.
        sites: where noise enters.
        head: the last submodule, where that is the readout.
        output: from what it returns to its prediction.

    Returns:
        What is found.

    Raises:
        UsageError: for a name that does not exist, or a module that cannot be wrapped.

    Cost: two forward passes of three and two examples.
    """
    start = Start(batch)
    for name, p in module.named_parameters():
        if p.requires_grad and p.is_complex():
            raise UsageError(
                f"{name} holds complex numbers, and directions are real: keep both parts in one real "
                "parameter, and use torch.view_as_complex"
            )
    require_device(module, batch)
    if len(start) < 2:
        raise UsageError(
            "a batch of one example was given; wrapping needs two, to tell the example axis"
        )
    count = min(len(start), EXAMPLES)
    shared = shared_inputs(module, batch, len(start), output)
    some = some_examples(batch, len(start), count, shared)
    cuts = chosen_cuts(module, cut)
    if head and head not in dict(module.named_modules()):
        raise unknown("submodule as head", head, [n for n, _ in module.named_modules() if n])
    cuts = [name for name in cuts if name != head]  # nothing learns after the head
    if inside := next((name for name in cuts if head and name.startswith(f"{head}.")), ""):
        raise UsageError(
            f"cut {inside!r} lies within the head {head!r}, whose parameters have one loss; cut before it"
        )
    with buffers_kept(module) as written:  # every pass begins with the same ones
        whole = _traced(module, some, cuts, head, output)
    with buffers_kept(module):
        fewer = _traced(module, some_examples(some, count, count - 1, shared), cuts, head, output)
    if [o.key for o in whole.trace.operations] != [o.key for o in fewer.trace.operations]:
        raise UsageError("the module makes other calls for a batch of another size")
    body = [o for o in whole.trace.operations if o.role == "op" and o.segment <= len(cuts)]
    if not body:
        raise UsageError("no parameter that learns meets data in this module")
    if cuts and all(o.segment < len(cuts) for o in body):  # nothing learns after the last cut
        cuts = cuts[:-1]
    last = len(cuts) + 1
    for number, (a, b) in enumerate(
        zip(whole.trace.operations, fewer.trace.operations, strict=True)
    ):
        if a.role == "op":
            try:
                a.layout = example_layout(a, a.value[0], b.value[0], count)
            except UsageError as error:
                with buffers_kept(module):
                    again = _traced(module, some, cuts, head, output).trace.operations[number]
                if not torch.equal(again.value[0], a.value[0]):
                    raise UsageError(
                        f"{a.owner}: the output of {a.call} differs between two passes on the same inputs"
                        ": the module draws at random in a way that cannot be repeated, or keeps state"
                    ) from None
                raise UsageError(f"{error}{_coupling(module)}") from None
            a.shape = tuple(a.layout.split(a.value[0]).shape[1:])
        a.segment = a.segment if a.segment < last else last + (a.segment > len(whole.outputs) - 1)
    _require_apart(whole.prediction, fewer.prediction)
    found = _surveyed(module, whole, cuts, head, output, sites, some, count, shared)
    return replace(found, written=written)


def _coupling(module: nn.Module) -> str:
    """Return the batch norms that use batch statistics, for a message."""
    norms = [
        name or type(m).__name__
        for name, m in module.named_modules()
        if isinstance(m, _BatchNorm) and (m.training or not m.track_running_stats)
    ]
    more = f" and {len(norms) - 3} more" if len(norms) > 3 else ""
    return f"; in train mode: {', '.join(norms[:3])}{more}" if norms else ""


def _require_apart(prediction: Tensor, fewer: Tensor) -> None:
    """Refuse predictions that change when another example leaves: between the last weights and the loss."""
    if not prediction.dim() or len(prediction) != len(fewer) + 1:
        return  # refused elsewhere, with its shape
    scale = float(prediction.detach().abs().max()) or 1.0
    off = float((prediction[:-1] - fewer).detach().abs().max()) / scale if fewer.numel() else 0.0
    if off > APART:
        raise UsageError(
            f"the prediction of one example changes by {off:.1e} when another leaves the batch, so examples "
            "see each other: compute it of each example alone"
        )


def _surveyed(
    module: nn.Module,
    whole: _Traced,
    cuts: list[str],
    head: str,
    output: Callable[[Any], Any],
    sites: str,
    some: Any,
    count: int,
    shared: frozenset[int],
) -> Survey:
    """Put together what the traced pass found."""
    trace, last = whole.trace, len(cuts) + 1
    f = whole.outputs[-1]
    outputs = (*whole.outputs[: last - 1], f)
    for k, y in enumerate(outputs):
        if not y.is_floating_point() or not y.dim() or len(y) != count:
            where = f"the submodule {cuts[k]!r} to cut after" if k < len(cuts) else "the module"
            raise UsageError(
                f"{where} returns a tensor {list(y.shape)} for {count} examples; expected numbers with the "
                "examples along the first axis"
            )
    counts = [*whole.counts[: last - 1], sum(whole.counts[last - 1 :])]
    total = sum(counts)
    body = [o for o in trace.operations if o.role == "op" and o.segment < last]
    alike: Counter[str] = Counter()
    for o in body:
        alike[o.owner] += 1
        o.name = f"body.{label(o.owner, alike[o.owner])}"
    _choose(body, sites)
    for o in trace.operations:  # of the head too: tensors in a graph cannot be copied with a chain
        o.value = None
    homes: dict[str, set[int]] = {}
    for o in body:
        for name in o.key[0]:
            homes.setdefault(name, set()).add(o.segment)
    return Survey(
        parameters=frozenset(n for n, p in module.named_parameters() if p.requires_grad),
        plan={o.key: o for o in trace.operations},
        calls=trace.calls,
        bounds=trace.bounds[: last - 1],
        cuts=cuts,
        head=head,
        output=output,
        outputs=tuple(tuple(y.shape[1:]) for y in outputs),
        prediction=tuple(whole.prediction.shape[1:]),
        shares=tuple(c / total for c in counts) if total else (1 / last,) * last,
        operations=total // count,
        random=bool(trace.random),
        crossed=tuple(whole.crossed(k) for k in range(1, last)),
        homes=homes,
        example=tree_map(lambda t: t.detach() if isinstance(t, Tensor) else t, some),
        examples=count,
        shared=shared,
        silent=trace.silent,
        selecting=frozenset(min(k, last - 1) for k in trace.selecting),
    )


def _choose(body: list[Operation], sites: str) -> None:
    """Mark the operations where noise enters, and those that nothing but a ReLU reads."""
    for o in body:
        alone = len(o.readers) == 1 and not o.written and not o.leaves
        o.rectified = alone and o.readers[0][0] in KINKS
        takers = [taker for _, taker in o.readers]
        if sites in CHOICES:
            taken = sites != "ops" and bool(takers) and all(t is not None for t in takers)
            absorbed = all(name in NORMS | GAINS for name, _ in o.readers)
            within = all(t is not None and t.segment == o.segment for t in takers)
            gain = sites == "min" and o.call in NORMS | GAINS
            o.tapped = not (taken and within and (absorbed or gain))
    if sites not in CHOICES:
        try:
            chosen = [o for o in body if re.fullmatch(sites, o.name.removeprefix("body."))]
        except re.error as error:
            raise UsageError(f"sites {sites!r} is no regular expression: {error}") from None
        if not chosen:
            raise unknown("site", sites, [*CHOICES, *(o.name.removeprefix("body.") for o in body)])
        for o in body:
            o.tapped = o in chosen


@dataclass
class _Traced:
    """A traced pass: outputs of the segments, operations of each, and the prediction."""

    trace: Trace
    outputs: list[Tensor]
    counts: list[int]
    prediction: Tensor
    makers: list[int]

    def crossed(self, k: int) -> bool:
        """Return whether floating data cross cut ``k`` beside the output of its submodule."""
        calls = self.trace.calls
        maker = self.makers[k - 1]
        return any(
            call.data
            and call.floats
            and call.segment < k
            and k <= (call.reader if i != maker else _last(call, k))
            for i, call in enumerate(calls)
        )


def _traced(
    module: nn.Module, batch: Any, cuts: list[str], head: str, output: Callable[[Any], Any]
) -> _Traced:
    """Run one traced pass."""
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
    trace = Trace(parameters, batch, COMPOSITES)
    outputs, counts, makers, heads = list[Tensor](), list[int](), list[int](), list[Any]()
    counter, met = OperationCounter(), Counter[str]()

    def ended(f: Any) -> None:
        outputs.append(first_tensor(f))
        counts.append(counter.number - sum(counts))
        makers.append(trace.made(outputs[-1]))
        trace.left(outputs[-1])
        trace.cut()

    def after(name: str) -> Any:
        def hook(m: nn.Module, args: Any, out: Any) -> Any:
            met[name] += 1
            if len(outputs) == len(cuts) or cuts[len(outputs)] != label(name, met[name]):
                return None
            ended(out)
            with suppress(
                UsageError
            ):  # reads of one that cannot be replaced count as beside the cut
                return with_tensor(out, trace.passed(outputs[-1]))
            return None

        return hook

    def before_head(m: nn.Module, args: Any) -> None:
        if len(outputs) == len(cuts):
            ended(args[0])

    def after_head(m: nn.Module, args: Any, out: Any) -> None:
        heads.append(out)

    with ExitStack() as stack:
        for name in dict.fromkeys(c.partition("@")[0] for c in cuts):
            stack.callback(module.get_submodule(name).register_forward_hook(after(name)).remove)
        if head:
            last = module.get_submodule(head)
            stack.callback(last.register_forward_pre_hook(before_head).remove)
            stack.callback(last.register_forward_hook(after_head).remove)
        devices = sorted(
            {p.device for p in parameters.values() if p.device.type == "cuda"}, key=str
        )
        stack.enter_context(torch.random.fork_rng(devices=devices))
        torch.manual_seed(0)
        with torch.enable_grad(), counter, trace:
            y = called(module, batch)
    prediction = output(y)
    trace.left(y, prediction)
    if not isinstance(prediction, Tensor):
        raise UsageError(
            f"output() gave {type(prediction).__name__}, expected the tensor of predictions"
        )
    if len(outputs) < len(cuts):
        missing = ", ".join(repr(c) for c in cuts[len(outputs) :])
        raise UsageError(
            f"not reached in this order: {missing}; cuts are given in the order in which the forward pass "
            "meets them"
        )
    if head and not (len(heads) == 1 and heads[0] is prediction):
        raise UsageError(
            f"head {head!r} must be the last submodule: its output is not the prediction"
        )
    if not head:
        outputs.append(prediction)
        counts.append(counter.number - sum(counts))
    return _Traced(trace, outputs, counts, prediction, makers)


def _last(call: Call, k: int) -> int:
    """Return the last segment that reads what a call made, otherwise than as the output at cut ``k``."""
    return max((last for cut, last in call.beside.items() if cut < k), default=-1)
