"""Any module as a chain of modules with sites: traced once, then run by its own forward pass."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from fgbench.core.autodiff.composites import COMPOSITES
from fgbench.core.autodiff.keyed_dropout import keyed_dropout
from fgbench.core.axes import Cells, names
from fgbench.core.network import Chain, LocalModule, Pooling, Site, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.shape_trace import ShapeTrace
from fgbench.core.wrapping.buffers import Written, held
from fgbench.core.wrapping.cuts import label
from fgbench.core.wrapping.heads import Output, local_head
from fgbench.core.wrapping.listen import Listener, Stop
from fgbench.core.wrapping.operations import tensors
from fgbench.core.wrapping.reach import Reaches
from fgbench.core.wrapping.start import Start, called, examples_of, with_tensor
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.core.network import Tap
    from fgbench.core.wrapping.operations import Operation
    from fgbench.core.wrapping.survey import Survey


class Segment(LocalModule):
    """The part of a wrapped network between two cuts, as far as a chain describes its modules.

    Args:
        out_axes: axes of its output.

    Example:
        >>> Segment("b t c").mixes
        't c'
    """

    def __init__(self, out_axes: str) -> None:
        super().__init__()
        self.out_axes = out_axes
        self.mixes = " ".join(names(out_axes)[1:])


class WrappedChain(Chain):
    """A module cut into segments, whose weight operations are sites; see :func:`fgbench.core.wrapping.wrap`.

    The module is used as it is: nothing of it is rewritten, and it goes on working alone. Every pass runs its
    own forward method. A pass that begins at a cut answers the calls before it from the record of the clean
    pass, and one that ends at a cut stops there.

    Args:
        module: the network.
        survey: what tracing found.
        loss: from predictions and targets to one loss per example, ``[b]``.
        out_axes: axes of the output of every segment.

    Attributes:
        survey: what tracing found.
        lost: why Duals cannot travel through the module, "" where they can.
        masks: noise of everything that the module draws; the same masks in every pass until it is changed.

    Example:
        >>> from fgbench.core.wrapping import wrap
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> chain = wrap(net, torch.ones(3, 4), nn.functional.cross_entropy, cut=["1"], verify=False)
        >>> len(chain), list(chain.index)
        (2, ['body.0', 'body.2'])
    """

    def __init__(
        self,
        module: nn.Module,
        survey: Survey,
        loss: Callable[[Any, Any], Tensor],
        out_axes: Sequence[str],
    ) -> None:
        nn.Module.__init__(self)  # a chain's own constructor takes modules that declare their sites
        self.body = module  # type: ignore[assignment]
        self.survey = survey
        self.masks = Noise(0)
        self._step: dict[str, Any] | None = None  # of a block of buffers_held: inputs, buffers
        self._clean = False
        self.input_shape, self.classes = (), survey.prediction[-1]
        head = module.get_submodule(survey.head) if survey.head else None
        self.readouts = nn.ModuleDict({"final": Output(loss, head)})
        self._criterion = loss
        self._segments = [Segment(a) for a in out_axes]
        self._index = {
            o.name: (o.segment, Site(o.name, survey.site_axes(o), shared=survey.shared_axes(o)))
            for o in survey.sites
        }
        self._traced = ShapeTrace(
            {o.name: o.shape for o in survey.sites},
            {o.name: o.shape for o in survey.ops},
            frozenset(self._index),
            survey.outputs,
            survey.shares,
            survey.operations,
            frozenset(o.name for o in survey.sites if o.rectified),
        )
        self._priced = {}
        named = list(module.named_modules())
        self._slots = [
            (m._parameters, name, full)
            for prefix, m in named
            for name in m._parameters
            if (full := f"{prefix}.{name}" if prefix else name) in survey.parameters
        ]
        self._blanks: dict[int, Any] = {}
        self._recurrent = [m for _, m in named if isinstance(m, nn.RNNBase)]
        self._cut_modules = {
            name: module.get_submodule(name)
            for name in dict.fromkeys(c.partition("@")[0] for c in survey.cuts)
        }
        self._training = {name: m.training for name, m in module.named_modules()}
        self.lost = ""
        self._reaches = Reaches()
        self._input_shapes = [tuple(t.shape[1:]) for t in tensors(survey.example)]
        self._composites: Mapping[Any, Any] = COMPOSITES

    # what it is made of

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self._segments)

    @property
    def pieces(self) -> tuple[nn.Module, ...]:
        """The network, in one piece."""
        return (self.body,)

    @property
    def whole(self) -> bool:
        """A batch passes in one piece: what crosses a cut is recorded for all examples at once."""
        return True

    @property
    def by_forward_ad(self) -> bool:
        """Whether torch's own forward mode takes the place of Duals, one pass per direction."""
        return self.lost != ""

    def module(self, k: int) -> LocalModule:
        """Return what describes segment ``k``."""
        return self._segments[k]

    def train(self, mode: bool = True) -> WrappedChain:
        """Return the network to the mode in which it was wrapped, or set it to evaluate.

        A batch norm that was in ``eval()`` mode when the network was wrapped stays in it.
        """
        super().train(mode)
        for name, m in self.body.named_modules():
            m.training = mode and self._training[name]
        return self

    def body_parameters(
        self, modules: range | tuple[int, ...] | None = None
    ) -> dict[str, nn.Parameter]:
        """Return the estimated parameters by qualified name, of all segments or of some.

        A parameter that several segments use belongs to each of them.
        """
        wanted, homes = set(range(len(self)) if modules is None else modules), self.survey.homes
        return {
            f"body.{full}": held[name]
            for held, name, full in self._slots
            if not wanted.isdisjoint(homes.get(full, ()))
        }

    def sharing(self, updates: tuple[int, ...], window: tuple[int, int]) -> set[int]:
        """Return the other segments of a window that use parameters of updated ones."""
        own = set(updates)
        users = [homes for homes in self.survey.homes.values() if homes & own]
        return set().union(*users).intersection(range(*window)) - own

    def readout_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Return a readout's parameters by qualified name."""
        if name == "final" and self.survey.head:
            head = self.body.get_submodule(self.survey.head)
            return {
                f"body.{self.survey.head}.{n}": p
                for n, p in head.named_parameters()
                if p.requires_grad
            }
        return super().readout_parameters(name)

    def home(self, parameter: str) -> int:
        """Return the first segment that uses a parameter."""
        return min(self.survey.homes[parameter.removeprefix("body.")])

    def site_of(self, parameter: str) -> str:
        """Return the site from which a parameter's gradient is pulled, of several the first.

        Where noise does not enter after its own operation, that is the next site that takes its output.
        """
        name = parameter.removeprefix("body.")
        for operation in self.survey.ops:
            if name in operation.key[0]:
                taker: Operation | None = operation
                while taker is not None and not taker.tapped:
                    taker = next((t for _, t in taker.readers if t is not None), None)
                if taker is not None:
                    return taker.name
        return ""

    def attach(self) -> None:
        """Add a linear readout to every segment but the last.

        The heads are drawn from the global generator: call it inside ``noise.seeded``.
        """
        some = next(self.parameters())
        for k in range(len(self) - 1):
            if f"local{k}" not in self.readouts:
                head = local_head(self.survey.outputs[k], self.survey.prediction, self._axis(k))
                made = Output(self._criterion, head).to(dtype=some.dtype, device=some.device)
                self.readouts[f"local{k}"] = made

    def example(self) -> Any:
        """Return the inputs of the examples that the network was traced with."""
        return self.survey.example

    def pooling(self, k: int) -> Pooling:
        """Return how readouts take features from segment ``k``'s output, as :meth:`attach` does.

        Raises:
            UsageError: where the network predicts every pixel, or more than readouts of a segment can.
        """
        output, prediction, axis = self.survey.outputs[k], self.survey.prediction, self._axis(k)
        local_head(output, prediction, axis)  # raises where no head fits
        if len(prediction) == 3 and len(output) == 3:
            raise UsageError(
                f"auxiliary networks make one prediction per example or position, and this network predicts "
                f"{list(prediction)}"
            )
        over = tuple(i for i in range(1, len(output) + 1) if i != axis)
        return Pooling(over, output[axis - 1], axis if len(prediction) > 1 else 0)

    def _axis(self, k: int) -> int:
        """Return the axis of segment ``k``'s output along which its features lie."""
        letters = names(self.module(k).out_axes)
        return letters.index("c") if "c" in letters else self.survey.feature_axis(k)

    def outputs(self, name: str, k: int) -> int:
        """Return the size of the last axis of what a readout predicts from segment ``k``'s output."""
        return self.classes

    def predicted(self, name: str, k: int) -> tuple[int, ...]:
        """Return the shape of what a readout predicts of one example from segment ``k``'s output."""
        if isinstance(self.readouts[name], Output):
            return self.survey.prediction
        return super().predicted(name, k)

    def forward(self, x: Any) -> Any:
        """Compute the predictions by the module's own forward pass."""
        return self.survey.output(called(self.body, x.inputs if isinstance(x, Start) else x))

    # passes

    def start(self, x: Any) -> Start:
        """Return where a pass from the network's inputs begins.

        Raises:
            UsageError: if an example has another shape than those that were traced.
        """
        if isinstance(x, Start):
            return x
        start = Start(x)
        shapes = [tuple(t.shape[1:]) for t in tensors(x)]
        if shapes != self._input_shapes:
            raise UsageError(
                f"inputs of shape {_listed(shapes)} per example, and the network was traced with "
                f"{_listed(self._input_shapes)}; pad them or cut them to one shape"
            )
        return start

    def part(self, x: Any, run: slice) -> Any:
        """Return where a pass of some examples begins, from the network's input alone."""
        return (
            x
            if run == slice(None)
            else Start(examples_of(x.inputs, len(x), run, self.survey.shared))
        )

    def indivisible(self, first: int) -> str:
        """Return why a batch cannot pass in parts from segment ``first`` on, "" where it can."""
        if first > 0:
            return "what crosses a cut of an ordinary module is recorded for all examples at once"
        return "the module draws one mask for all examples" if self.survey.random else ""

    def unreplayable(self, first: int) -> str:
        """Return why a pass from segment ``first`` on is no function of tensors alone, "" where it is one."""
        if self.by_forward_ad:
            return "tangents travel by autograd's forward mode, which is not compiled"
        if self.survey.random:
            return "the module draws masks"
        if self.survey.written:
            return "the module writes its buffers"
        return "what crosses a cut of an ordinary module is recorded call by call" if first else ""

    def inputs(self, x: Any) -> Any:
        """Return the inputs of the network."""
        return x.inputs

    def unrepeatable(self) -> str:
        """Return why the modules that it is cut after cannot be run again, "" where they can."""
        if not self.survey.cuts:
            return "the module is not cut into modules that could be run again; give --cut"
        return (
            "the module draws masks, which a second run would draw anew"
            if self.survey.random
            else ""
        )

    def stretches(self, first: int, stop: int, count: int) -> list[tuple[int, int]]:
        """Return one stretch: an ordinary module runs in one piece."""
        return [(first, stop)]

    def recomputed(self, first: int, stop: int, count: int) -> float:
        """Return the share of the segments that end with a module to cut after."""
        return sum(self.shares()[first : min(stop, len(self.survey.cuts))])

    @contextmanager
    def recomputing(self, first: int, stop: int, count: int) -> Iterator[None]:
        """Keep of every module that it is cut after its inputs alone; whatever the number of stretches."""
        from torch.utils.checkpoint import checkpoint

        cuts = self.survey.cuts[first : min(stop, len(self.survey.cuts))] if count > 1 else []
        with ExitStack() as stack:
            for name in dict.fromkeys(cut.partition("@")[0] for cut in cuts):
                module = self._cut_modules[name]
                own = vars(module).get("forward")
                again = partial(
                    checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
                )
                stack.callback(_put_back, module, own)
                module.forward = again
            yield

    def entry(self, x: Any) -> Any:
        """Return the output of the segment before a start."""
        return x.f

    def reads(self, k: int) -> tuple[int, ...] | None:
        """Return the shape of what segment ``k`` reads of one example; None unless it is one real tensor."""
        if k:
            return self.survey.outputs[k - 1]
        inputs = list(tensors(self.survey.example))
        single = len(inputs) == 1 and inputs[0].is_floating_point()
        return tuple(inputs[0].shape[1:]) if single else None

    def begins(self, x: Any) -> Tensor:
        """Return the tensor that a pass from a start reads first."""
        found: Tensor = next(tensors(x.inputs)) if x.f is None else x.f
        return found

    def beginning(self, x: Any, f: Tensor) -> Any:
        """Return a start with another tensor in the place of the one that is read first."""
        if x.f is None:
            return Start(tree_map(lambda t: f if isinstance(t, torch.Tensor) else t, x.inputs))
        return Start(x.inputs, x.record, f)

    def leave(self, x: Any, k: int, f: Tensor) -> Start:
        """Return where a window from segment ``k`` begins, after a clean pass from ``x`` that recorded it."""
        return Start(x.inputs, x.left.get(k, x.record), f)

    def segments(
        self, x: Any, first: int, stop: int, tap: Tap, leaves: Collection[int] = frozenset()
    ) -> Iterator[tuple[int, Any]]:
        """Run segments ``first`` to ``stop - 1`` in one pass and yield (number, output) of each."""
        if first < stop:
            outputs = self._pass(self.start(x), first, stop, tap, leaves)
            for k in range(first, stop):
                yield k, outputs[k]

    def _pass(
        self, x: Start, first: int, stop: int, tap: Tap, leaves: Collection[int]
    ) -> dict[int, Any]:
        """Run the module from a start to a cut; return the outputs of the segments by number."""
        survey, outputs, last = self.survey, dict[int, Any](), len(self)
        leaves = [k for k in leaves if first < k <= min(stop, last - 1)]
        listener = Listener(
            self._parameters_by_name(),
            survey.plan,
            survey.calls,
            survey.bounds,
            self._composites,
            (first, stop if stop < last else last + 1),
            x.record,
            tap,
            leaves,
            self._draw_again if survey.random else None,
            self._blanks,
        )
        listens = first > 0 or bool(leaves) or tap is not untouched
        met: Counter[str] = Counter()

        def cut(name: str) -> Any:
            def after(module: nn.Module, args: Any, out: Any) -> Any:
                met[name] += 1
                at = listener.segment
                if at >= len(survey.cuts) or survey.cuts[at] != label(name, met[name]):
                    return None
                if at >= first:
                    outputs[at] = survey.tensor(out)
                return listener.cut(out, lambda y: with_tensor(y, x.f))

            return after

        def head(module: nn.Module, args: Any) -> None:
            outputs[last - 1] = args[0]
            raise Stop

        with ExitStack() as stack:
            if survey.written:  # every pass begins with the same ones
                copies = stack.enter_context(held(survey.written))
            for name, module in self._cut_modules.items():
                stack.callback(module.register_forward_hook(cut(name)).remove)
            if survey.head and stop == last:
                module = self.body.get_submodule(survey.head)
                stack.callback(module.register_forward_pre_hook(head).remove)
            if self._recurrent:
                stack.enter_context(_unflattened(self._recurrent))
            if survey.random:
                stack.enter_context(keyed_dropout(self._seed(first)))
            if listens:
                stack.enter_context(listener)
            with suppress(Stop):
                outputs[last - 1] = survey.output(called(self.body, x.inputs))
                if survey.written and first == 0 and self._clean:
                    self._note_written(x, Written.of(survey.written, copies))
        if stop - 1 not in outputs:
            raise UsageError("the module ended before a cut that it reached when it was traced")
        wanted = sum(first <= o.segment < stop for o in survey.ops)
        if listens and listener.met != wanted:
            raise UsageError(
                f"the module made {listener.met} weight operations and {wanted} when it was traced; its "
                "control flow may depend on data"
            )
        x.left.update(listener.left)
        return outputs

    def _parameters_by_name(self) -> dict[str, Any]:
        """Return what stands in the place of every traced parameter now, tensors or Duals."""
        return {full: held[name] for held, name, full in self._slots}

    def redraw(self, noise: Noise) -> None:
        """Draw masks from this noise in all passes until the next call."""
        self.masks = noise

    @contextmanager
    def buffers_held(self) -> Iterator[None]:
        """Let no call inside the block write the buffers, such as a checkpoint that runs a module again."""
        self._step = {}
        with held(self.survey.written):
            yield

    @contextmanager
    def clean_pass(self) -> Iterator[None]:
        """Note what a pass inside the block writes into the buffers, where it runs the whole module."""
        before, self._clean = self._clean, True
        try:
            yield
        finally:
            self._clean = before

    def _note_written(self, x: Start, written: Written | None) -> None:
        """Keep what the first clean pass of a step has written."""
        if self._step == {} and written is not None:
            self._step = {"inputs": x.inputs, "written": written}

    def advance_buffers(self, x: Any) -> bool:
        """Let the module write its buffers once: counters, running means; as a step of backprop does.

        What the first clean pass of the step wrote is kept, where one has run the module on these inputs.
        Otherwise the module runs once more.

        Args:
            x: inputs of the step's batch.

        Returns:
            Whether a forward pass was made for them.
        """
        step, self._step = self._step or {}, None
        if not self.survey.written:
            return False
        if step and step["inputs"] is (x.inputs if isinstance(x, Start) else x):
            step["written"].put(self.survey.written)
            return False
        with torch.no_grad(), ExitStack() as stack:
            if self.survey.random:
                stack.enter_context(keyed_dropout(self._seed(0)))
            self(x)
        return True

    def _seed(self, segment: int) -> int:
        """Return the seed of what a segment draws."""
        return self.masks.key(f"segment{segment}", 0, "masks", ())

    def _draw_again(self, segment: int) -> None:
        """Seed what a segment draws, so that every pass draws the same."""
        torch.manual_seed(self._seed(segment))

    @contextmanager
    def smooth(self, stand_ins: Mapping[Any, Any]) -> Iterator[None]:
        """Run passes with other functions in place of some calls of torch inside the block."""
        before = self._composites
        self._composites = {**before, **stand_ins}
        try:
            yield
        finally:
            self._composites = before

    # credit

    def cells(self, kept: str, name: str, stop: int, *, summed: bool = True) -> Cells:
        """Return which scores credit a site or parameter: those that it reaches.

        Args:
            kept: axes of the scores.
            name: qualified name of a site or a body parameter.
            stop: end of the window whose scores they are.
            summed: has no effect: reach is found, not declared.

        Returns:
            The kept axes, and for each but the example axis which scores every index of the site reaches.
        """
        if name not in self._index:
            if name not in (known := self.body_parameters()):
                raise unknown("site or parameter", name, [*self._index, *known])
            return Cells(kept, "", "")
        return self._reaches.cells(self, kept, name, stop)


def _put_back(module: nn.Module, forward: Any) -> None:
    """Give a module its own forward method back, or that of its class where it had none."""
    if forward is None:
        del module.forward
    else:
        module.forward = forward


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    """Return shapes as a text."""
    return " and ".join(str(list(shape)) for shape in shapes)


@contextmanager
def _unflattened(layers: Sequence[nn.RNNBase]) -> Iterator[None]:
    """Let recurrent layers of torch read their parameters where others are put in their place."""
    before = [m._flat_weights for m in layers]
    try:
        for m in layers:
            m._flat_weights = [m._parameters[name] for name in m._flat_weights_names]
        yield
    finally:
        for m, old in zip(layers, before, strict=True):
            m._flat_weights = old
