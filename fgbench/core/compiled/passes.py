"""Which passes of a view run as compiled programs, and what became of the others.

A program covers the value pass, the tangents, the scores, the credit and the pull of one run of examples. It
is made from the view itself: the function that is traced makes a view of the run and asks it, so there is one
implementation of every pass. Equal blocks of a network share a compiled graph.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from time import perf_counter
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch.utils._pytree import tree_flatten

from fgbench.core import microbatch
from fgbench.core.compiled.program import Program, Refused
from fgbench.core.cost import CostCounter
from fgbench.core.left_behind import LeftBehind
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.readout_losses import Reading
from fgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fgbench.core.oracles import Oracles
    from fgbench.core.window import Window

Mode = Literal["auto", "on", "off"]
MODES = get_args(Mode)


class CompiledPasses:
    """Compiled programs of a network's passes, made when a pass is first asked for.

    Args:
        must: whether a pass that cannot be compiled is an error; else it runs as usual.

    Attributes:
        runs: how many passes ran compiled and as usual, by ``compiled`` and ``eager``.
        refused: why passes were not compiled, by objective.
        programs: the programs by what they are of; None for one that was refused.
        seconds: that tracing, compiling and comparing took.

    Example:
        >>> import torch
        >>> from fgbench import registry
        >>> from fgbench.core.noise.keyed import Noise
        >>> from fgbench.core.task import Task
        >>> chain = registry.make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing
        >>> task = Task.build(chain, registry.make("localities", "local").thing, Noise(0))
        >>> passes = CompiledPasses()
        >>> x, y = torch.ones(5, 1, 2, 2), torch.arange(5) % 3
        >>> np = registry.make("estimators", "np").thing
        >>> step = task.compiled(passes).estimate(x, y, np, Noise(0))  # differences are not compiled
        >>> passes.described()
        {'runs': {}, 'refused': {}, 'seconds': 0.0}
    """

    def __init__(self, must: bool = False) -> None:
        self.must = must
        self.runs: Counter[str] = Counter()
        self.refused: dict[str, str] = {}
        self.programs: dict[Any, Program | None] = {}
        self.seconds = 0.0
        self._kept: dict[str, Any] = {}

    def described(self) -> dict[str, Any]:
        """Return what became of the passes, as records have it: ``runs``, ``refused`` and ``seconds``."""
        runs, refused = dict(self.runs), dict(self.refused)
        return {"runs": runs, "refused": refused, "seconds": self.seconds}

    def run(
        self, view: Oracles, what: str, run: slice, given: Any, *, settings: Any = ()
    ) -> LeftBehind | None:
        """Return what a pass of some examples leaves, computed by a compiled program.

        Args:
            view: of all examples.
            what: name of a function of this module that asks a view, such as ``probe``.
            run: the examples.
            given: tree of tensors that it is asked with.
            settings: what else it is asked with; its values become part of the program.

        Returns:
            What it leaves; None where this pass is not compiled.
        """
        window = view.window
        objective = window.objective
        try:
            inputs = _inputs(window, run)
            function = partial(_pass, view, what, run, settings)
            key = (
                what,
                objective,
                tuple(id(b) for b in window.chain.buffers()),
                window.chain.training,
                window.boundaries,
                _identity(settings, view),
                *_layout((inputs, given)),
            )
            if key not in self.programs:
                self.programs[key], begin = None, perf_counter()
                try:
                    self.programs[key] = Program(function, (inputs, given), self._kept)
                finally:
                    self.seconds += perf_counter() - begin
            program = self.programs[key]
            if program is None:
                self.runs["eager"] += 1
                return None
        except Refused as why:
            self.usual(view, str(why))
            return None
        self.runs["compiled"] += 1
        answer, slopes, output, (prediction, losses, heads), outputs = program(inputs, given)
        return LeftBehind(answer, slopes, output, Reading(prediction, losses, (), heads), outputs)

    def usual(self, view: Oracles, why: str) -> None:
        """Note that a pass runs as usual, with the reason.

        Raises:
            UsageError: where every pass must be compiled.
        """
        name = view.objective.name
        if self.must:
            raise UsageError(
                f"compile 'on' was asked for, and the passes of objective {name!r} are not compiled: {why}; "
                "use auto or off"
            )
        self.refused.setdefault(name, why)
        self.runs["eager"] += 1


def checked(mode: str) -> Mode:
    """Check the option ``compile``.

    Args:
        mode: ``auto`` (what can be compiled), ``on`` or ``off``.

    Returns:
        The mode.

    Raises:
        UsageError: for another mode.

    Example:
        >>> checked("auto")
        'auto'
    """
    if mode not in MODES:
        raise unknown("compile", str(mode), MODES)
    return mode  # type: ignore[return-value]


def _pass(
    view: Oracles, what: str, run: slice, settings: tuple[Any, ...], inputs: Any, given: Any
) -> tuple[Any, ...]:
    """Ask a view of some examples, a pure function of its inputs; return the parts of :class:`LeftBehind`."""
    window, size = view.window, len(view.start)
    share = (run.stop - run.start) / size
    weight = view.objective.weight * share  # a mean over all examples
    noted: list[Tensor] = []

    def listen(_: Any, __: Any, slopes: Tensor) -> None:
        noted.append(slopes)

    made: Any = type(view)
    part = made(
        view.chain,
        replace(view.objective, weight=weight),
        view.chain.start(inputs["start"]),
        inputs["targets"],
        CostCounter(),
        inputs["params"],
        window.boundaries,
        listen=listen,
        clock=view.clock,
    )
    answer = _ASKED[what](part, given, *settings)
    read, stop = part.window.reading(), window.objective.window[1]
    heads = {name: g * share for name, g in read.grads.items()} if share != 1.0 else read.grads
    return (
        answer,
        tuple(noted),
        part.output().detach(),
        (read.prediction, read.losses, heads),
        {k: f for k, f in part.window.outputs.items() if k != stop},
    )


def _probe(
    part: Any, u: Mapping[str, Tensor], cells: Any, weigh: Any, into: str, combine: Any
) -> Any:
    """Return the gradients that directions along sites give."""
    return part.probe(FixedDirections(u), cells, weigh, into, combine)


def _slopes(part: Any, v: Mapping[str, Tensor]) -> tuple[()]:
    """Take the slopes along directions, which are noted."""
    part.slopes(FixedDirections(v))
    return ()


def _reverse(part: Any, _: Any) -> Any:
    """Return the gradient by one pass in reverse."""
    return part.reverse()


_ASKED: dict[str, Callable[..., Any]] = {"probe": _probe, "slopes": _slopes, "reverse": _reverse}


def _inputs(window: Window, run: slice) -> dict[str, Any]:
    """Return the tensors that a pass of some examples reads.

    Raises:
        Refused: where a pass is no function of tensors.
    """
    chain, objective = window.chain, window.objective
    first, stop = objective.window
    readout = chain.readout(objective.readout)
    why = {
        chain.unreplayable(first): True,
        "its losses compare an example with others": readout.holds or readout.coupled,
        "it adds losses on the way": bool(objective.aside),
        "outputs of sites are given": bool(window.outs),
    }
    if found := next((text for text, holds in why.items() if text and holds), ""):
        raise Refused(found)
    params = {**chain.body_parameters(range(first, stop)), **window.heads(), **window.moved}
    leaves = {id(p): p.detach() for p in params.values()}  # ties stay tied
    whole = run.indices(len(window.start)) == (0, len(window.start), 1)
    inputs = {
        "params": {name: leaves[id(p)] for name, p in params.items()},
        "start": chain.inputs(window.start if whole else chain.part(window.start, run)),
        "targets": window.targets if whole else microbatch.rows(window.targets, run),
    }
    if any(not isinstance(t, torch.Tensor) for t in tree_flatten(inputs)[0]):
        raise Refused("its inputs or targets are not all tensors")
    return inputs


def _layout(tree: Any) -> tuple[Any, ...]:
    """Return what tells trees of tensors of other shapes and layouts apart."""
    leaves, spec = tree_flatten(tree)
    return spec, *((t.shape, t.stride(), t.dtype, t.device) for t in leaves)


def _identity(thing: Any, view: Oracles) -> Any:
    """Return what a setting is, so that equal ones are equal: a number, a name, a function and what it holds.

    Raises:
        Refused: for anything that may change from step to step, such as a tensor or an object's method.
    """
    if thing is None or isinstance(thing, str | int | float | bool):
        return thing
    if isinstance(thing, tuple):
        return tuple(_identity(one, view) for one in thing)
    if isinstance(thing, partial):
        named = tuple(sorted(thing.keywords.items()))
        return _identity((thing.func, thing.args, named), view)
    if isinstance(thing, MethodType) and thing.__self__ is view:
        return thing.__func__  # what a view says of its places follows from the objective
    if isinstance(thing, FunctionType):
        held = tuple(cell.cell_contents for cell in thing.__closure__ or ())
        return thing.__code__, _identity((held, thing.__defaults__), view)
    raise Refused(
        f"it weighs slopes by a {type(thing).__name__}, which may change from step to step"
    )
