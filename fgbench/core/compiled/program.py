"""A pure function of tensors as one compiled program: traced to a flat graph, compiled, compared.

The function is traced below autograd: tangents by the rules of Duals, gradients by autograd's graph and
values alike become one list of tensor operations, which a compiler fuses. Autograd's own forward mode is
never compiled: compiled functions have dropped its tangents without a word (pytorch 187284), so a call
without a rule, which forward mode would answer, is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import hypot
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten

from fgbench import errors
from fgbench.core.autodiff import dual
from fgbench.core.autodiff.tracing import traced

CLOSE = 1e-5
"""Largest relative distance of a compiled result from that of the function itself, in float32."""
EXACT = 1e-10
"""The same in float64, where no value lies within rounding of 0."""
ROUNDED = 1e-2
"""Largest distance in float32 that rounding may cause: a value near 0 changes the side of a ReLU."""

Pure = Callable[..., Any]


class Refused(Exception):
    """A function that is not run compiled, with the reason.

    Example:
        >>> try:
        ...     Program(lambda x: x + torch.randn(2), (torch.ones(2),))
        ... except Refused as why:
        ...     print(why)
        it draws random numbers by randn
    """


@dataclass(frozen=True)
class Traced:
    """A function as a flat graph.

    Args:
        graph: the graph; its inputs are the leaves of the arguments, then the constants.
        constants: tensors that the function read and was not given, such as buffers.
        out: structure of the result.

    Example:
        >>> traced = trace(lambda x: {"y": 2 * x}, (torch.ones(2),))
        >>> traced.graph(torch.ones(2))
        [tensor([2., 2.])]
    """

    graph: torch.fx.GraphModule
    constants: tuple[Tensor, ...]
    out: TreeSpec

    def key(self, leaves: list[Tensor]) -> str:
        """Return a text that is equal for functions that are the same program.

        Args:
            leaves: of the arguments.
        """
        layouts = [
            (str(t.dtype), str(t.device), tuple(t.shape), t.stride())
            for t in (*leaves, *self.constants)
        ]
        return f"{torch.get_num_threads()} {layouts} {self.graph.code}"


def trace(function: Pure, arguments: tuple[Any, ...]) -> Traced:
    """Trace a function on arguments to a flat graph.

    Args:
        function: of trees of tensors, without effects; it returns a tree of tensors.
        arguments: trees of tensors that it is run on.

    Returns:
        The graph. Values that are no tensors, among them what the function closes over, are part of it.

    Raises:
        Refused: where a replay would not repeat the function: it draws random numbers, writes into what it
            reads, looks at values, or takes tangents by autograd's forward mode.

    Example:
        >>> traced = trace(lambda x: x.sum(), (torch.ones(2),))
        >>> [node.op for node in traced.graph.graph.nodes]
        ['placeholder', 'call_function', 'output']
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    leaves, spec = tree_flatten(arguments)
    shape: list[TreeSpec] = []

    def flat(*given: Tensor) -> list[Tensor]:
        found, out = tree_flatten(function(*tree_unflatten(given, spec)))
        shape.append(out)
        return found

    versions, fallbacks = [t._version for t in leaves], dual.fallbacks.total()
    try:
        with traced():
            graph = make_fx(flat)(*leaves)
    except RuntimeError as error:
        raise Refused(f"it cannot be traced: {errors.reason(error)}") from error
    if dual.fallbacks.total() > fallbacks:
        raise Refused("a call has no rule, and autograd's forward mode is not compiled")
    for node in graph.graph.nodes:
        tags = getattr(node.target, "tags", ())
        if torch.Tag.nondeterministic_seeded in tags:
            name = str(node.target).removeprefix("aten.").partition(".")[0]
            raise Refused(f"it draws random numbers by {name}")
    constants = _lifted(graph)
    if [t._version for t in leaves] != versions:
        raise Refused("it writes into what it reads")
    return Traced(graph, constants, shape[-1])


def _lifted(graph: torch.fx.GraphModule) -> tuple[Tensor, ...]:
    """Make inputs of the constants of a graph; return them."""
    found: dict[int, tuple[Tensor, torch.fx.Node]] = {}
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    for node in list(graph.graph.nodes):
        if node.op != "get_attr":
            continue
        tensor = getattr(graph, node.target)
        if id(tensor) not in found:
            with graph.graph.inserting_after(last):
                last = graph.graph.placeholder(f"constant_{len(found)}")
            found[id(tensor)] = (tensor.detach(), last)
        node.replace_all_uses_with(found[id(tensor)][1])
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return tuple(tensor for tensor, _ in found.values())


class Program:
    """A function, traced, compiled and compared with itself.

    Args:
        function: see :func:`trace`.
        arguments: trees of tensors that it is traced and compared on.
        kept: compiled graphs by :meth:`Traced.key`, which programs of equal graphs share.

    Raises:
        Refused: where it cannot be traced or compiled, or where the results differ.

    Example:
        >>> try:
        ...     Program(lambda x: {"y": x.add_(1)}, (torch.ones(2),))
        ... except Refused as why:
        ...     print(why)
        it writes into what it reads
    """

    def __init__(
        self, function: Pure, arguments: tuple[Any, ...], kept: dict[str, Any] | None = None
    ) -> None:
        kept = {} if kept is None else kept
        leaves, self._spec = tree_flatten(arguments)
        self._like = [(t.shape, t.stride(), t.dtype, t.device) for t in leaves]
        traced = trace(function, arguments)
        self._constants, self._out = traced.constants, traced.out
        key = traced.key(leaves)
        new = key not in kept
        if new:
            kept[key] = _compiled(traced.graph, [*leaves, *traced.constants])
        self._run = kept[key]
        self._compare(function, arguments, new)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns.

        Raises:
            Refused: for arguments of another structure, shape, layout, type or device than those compiled.
        """
        leaves, spec = tree_flatten(arguments)
        like = [(t.shape, t.stride(), t.dtype, t.device) for t in leaves]
        if spec != self._spec or like != self._like:
            raise Refused("it was compiled for other shapes")
        with torch.no_grad():
            found = self._run(*leaves, *self._constants)
        return tree_unflatten(list(found), self._out)

    def _compare(self, function: Pure, arguments: tuple[Any, ...], new: bool) -> None:
        """Refuse a program whose results are not those of its function.

        In float32 a value within rounding of 0 may change the side of a ReLU, which is no fault of the
        program. Results that differ by that alone agree in float64, which is tried once per graph.
        """
        off = distance(self(*arguments), function(*arguments))
        single = any(t.dtype == torch.float32 for t in tree_leaves(arguments))
        most = CLOSE if single else EXACT
        if off > (ROUNDED if single else most):
            raise Refused(f"its compiled results differ by {off:.1g}, allowed are {most:.0e}")
        if off > most and new:
            Program(function, tree_map(_double, arguments))


def _double(t: Tensor) -> Tensor:
    """Return a float32 tensor in float64, any other as it is."""
    return t.double() if t.dtype == torch.float32 else t


def distance(found: Any, expected: Any) -> float:
    """Return the largest relative distance |a − b| / |b| of the tensors of two trees.

    A tensor that is as good as 0 beside its part of the tree, such as the gradient of a bias that the next
    norm takes out, is compared with a thousandth of that part.

    Args:
        found: a tree.
        expected: another, whose first level holds its parts.

    Returns:
        The distance; infinite where structures, shapes, types or NaNs differ.

    Example:
        >>> distance(({"w": torch.tensor([1.0, 2.0])},), ({"w": torch.tensor([1.0, 2.0])},))
        0.0
    """
    if tree_flatten(found)[1] != tree_flatten(expected)[1]:
        return float("inf")
    parts = (
        zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    )
    return max((_part_distance(*part) for part in parts), default=0.0)


def _part_distance(found: Any, expected: Any) -> float:
    """Return the largest relative distance within one part."""
    pairs = list(zip(tree_leaves(found), tree_leaves(expected), strict=True))
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return float("inf")
    if any(not torch.equal(a.isnan(), b.isnan()) for a, b in pairs):
        return float("inf")
    doubles = [
        (a.detach().double().nan_to_num(), b.detach().double().nan_to_num()) for a, b in pairs
    ]
    norms = [float(b.norm()) for _, b in doubles]
    least = max(1e-3 * hypot(*norms), 1e-300)
    offs = [float((a - b).norm()) for a, b in doubles]
    return max((off / max(norm, least) for off, norm in zip(offs, norms, strict=True)), default=0.0)


def _compiled(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
    """Return a flat graph as a compiled function of its inputs; refuse it where the compiler fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the compiler itself imports
            import torch._inductor as inductor

            with torch.no_grad():
                return inductor.compile(graph, [*inputs])
    except (RuntimeError, ImportError, OSError) as error:  # of the compiler, or for want of one
        raise Refused(f"not compiled: {errors.reason(error)}") from error
