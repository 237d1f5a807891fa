"""The face in Python: measure, train, time, compare and check, by names or with objects.

``run`` and ``run_all`` return plain records, for suites; the others return results that print as tables.

Example:
    >>> from fgbench.api import run, train
    >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]"}
    >>> run("train", method="BP", epochs=1, batch=32, **case)["steps"]
    2
    >>> train("BP", epochs=1, batch=32, **case)["BP"].steps
    2
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.reporting.results import Result, Results
from fgbench.reporting.terminal.tables import IN_PYTHON
from fgbench.runs.against import against as compared
from fgbench.runs.against import trained_against
from fgbench.runs.baselines import beside
from fgbench.runs.given import Given
from fgbench.runs.parallel import measure_all
from fgbench.runs.run import failed, fusion, run, run_all, table1

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from fgbench.conformance.report import Report
    from fgbench.core.network import Chain

__all__ = [
    "check",
    "compare",
    "failed",
    "fusion",
    "measure",
    "run",
    "run_all",
    "speed",
    "table1",
    "train",
]

IN_PLACE = (
    "train(model=...) trains the module in place, so it takes one method and one seed; for several give "
    "arch= a function that makes the module, such as arch=lambda: copy.deepcopy(model)"
)


def measure(
    methods: Any,
    *,
    arch: str | Callable[..., Any] | None = None,
    model: nn.Module | None = None,
    data: Any = None,
    batch: Any = None,
    loss: Any = None,
    cut: str | Sequence[str] = "",
    sites: str = "",
    out_axes: str | Sequence[str] = "",
    head: str = "",
    output: Callable[[Any], Any] | None = None,
    against: Any = None,
    name: str = "",
    seed: int = 0,
    seeds: int = 1,
    jobs: int | None = 1,
    records: str | Path | None = None,
    **options: Any,
) -> Results:
    """Measure gradient estimates against true gradients, as ``fgbench measure`` does.

    Args:
        methods: METHODs such as ``FG-A``, estimators, pairs (estimator, locality), or a list of these.
        arch: architecture with options, or a function that returns a module.
        model: a PyTorch module, in place of ``arch``. It is measured as it is, and is not changed.
        data: data set with options, a data set, ``(x, y)``, ``(x, y, x_test, y_test)``, a torch ``Dataset``,
            or an iterable of batches.
        batch: one batch ``(inputs, targets)`` in place of ``data``; or examples per batch, a number.
        loss: ``cross_entropy``, ``mse``, or a function from predictions and targets to one loss per
            example; that of the data where None.
        cut: where the network is cut for local losses, see :func:`fgbench.wrap`.
        sites: where noise enters, see :func:`fgbench.wrap`.
        out_axes: letters of the axes of the modules' outputs, see :func:`fgbench.wrap`.
        head: name of the last module, where it is the readout.
        output: picks the prediction from what the network returns.
        against: a reference method, measured too; results have the ratio of each method's efficiency to it.
        name: of the network in tables and records, in place of its class or function.
        seed: of networks, batches and noise.
        seeds: how many seeds, counted up from ``seed``.
        jobs: methods and seeds measured at the same time, each in a process of its own; one per GPU or core
            where None. The numbers are the same. With more than one everything is given by name, and a
            script needs ``if __name__ == "__main__"``.
        records: folder where finished records are looked up and written.
        options: ``draws``, ``precision``, ``moments``, ``inits``, ``batches``, ``cost``, ``along`` and
            ``engine`` as of :class:`fgbench.measurement.design.Design`; ``device``, ``dtype``, ``threads``,
            ``data_dir``, ``reuse``, ``progress`` (such as ``print``) and ``timeout`` as of
            :func:`fgbench.run_all`.

    Returns:
        The results: they print as a table, ``results["FG-A"].relative_variance.value`` is a number.

    Raises:
        UsageError: for a name, object or option that does not fit, in one line.

    Example:
        >>> results = measure(["BP", "FG-A"], arch="mlp-1x4", data="digits", draws=4, batches=1, batch=8)
        >>> results["BP"].relative_variance.value
        0.0
    """
    given = Given(arch, model, data, batch, loss, None, cut, sites, out_axes, head, output, name)
    listed = registry.methods_of(methods)
    if against is not None:
        listed = registry.methods_of([*listed, registry.method_of(against)])
    if model is not None and options.get("inits", 1) != 1:
        raise UsageError(
            f"a module is one network, and inits is {options['inits']}: {_makes(model)}"
        )
    case = given.case(listed) | options
    if _few(case):
        case = {"batch": case["data"].train_size, "batches": 1} | case
    if jobs == 1:
        found = [
            record
            for each in _seeds(seed, seeds)
            for record in run_all("measure", listed, seed=each, records=records, **case)
        ]
    else:
        found = measure_all(listed, list(_seeds(seed, seeds)), jobs, records=records, **case)
    if against is not None:
        found = compared(found, registry.method_of(against).text)
    return Results(found)


def train(
    methods: Any,
    *,
    arch: str | Callable[..., Any] | None = None,
    model: nn.Module | None = None,
    data: Any = None,
    batch: int | None = None,
    loss: Any = None,
    metrics: Mapping[str, Any] | None = None,
    cut: str | Sequence[str] = "",
    sites: str = "",
    out_axes: str | Sequence[str] = "",
    head: str = "",
    output: Callable[[Any], Any] | None = None,
    against: Any = None,
    margin: float | None = None,
    name: str = "",
    seed: int = 0,
    seeds: int = 1,
    records: str | Path | None = None,
    **options: Any,
) -> Results:
    """Train by the recipe of the architecture, as ``fgbench train`` does.

    Args:
        methods: as of :func:`measure`.
        arch: as of :func:`measure`.
        model: a PyTorch module, in place of ``arch``, trained *in place* by one method: at the end its
            parameters are those that were trained. Where the run fails or diverges they stay as they were.
        data: as of :func:`measure`.
        batch: examples per step.
        loss: as of :func:`measure`.
        metrics: by name, functions from predictions and targets to one number per example, evaluated on
            both splits; those of the data where None.
        cut: as of :func:`measure`.
        sites: as of :func:`measure`.
        out_axes: as of :func:`measure`.
        head: as of :func:`measure`.
        output: as of :func:`measure`.
        against: a reference method, trained too; each result has the paired test of its method against it.
        margin: the largest difference that does not matter; that of the data set where None.
        name: as of :func:`measure`.
        seed: of initial weights, order and noise.
        seeds: how many seeds, counted up from ``seed``.
        records: folder where finished records are looked up and written, and where an interrupted training
            of names goes on.
        options: ``epochs``, ``lr``, ``optimizer``, ``schedule`` and the other fields of
            :class:`fgbench.training.recipe.Recipe`; in place of ``epochs`` one of ``forwards``, ``seconds``
            and ``steps``, see :class:`fgbench.training.length.Length`; ``train_size`` and ``validation``; and
            those of :func:`fgbench.run_all`.

    Returns:
        The results; ``results["FG-A"].model`` is the trained network.

    Raises:
        UsageError: for a name, object or option that does not fit, in one line.

    Example:
        >>> found = train(["BP", "FG-A"], arch="mlp-1x4", data="digits", epochs=1, batch=8, train_size=32)
        >>> [(r.method, r.steps) for r in found]
        [('BP', 4), ('FG-A', 4)]
    """
    given = Given(arch, model, data, batch, loss, metrics, cut, sites, out_axes, head, output, name)
    if isinstance(batch, tuple | list):
        raise UsageError(
            "train takes data=(inputs, targets); batch is the number of examples per step"
        )
    listed = registry.methods_of(methods)
    if against is not None:
        listed = registry.methods_of([*listed, registry.method_of(against)])
    if model is not None and (len(listed) > 1 or seeds > 1):
        raise UsageError(IN_PLACE)
    case = given.case(listed) | options
    networks: dict[str, Chain] = {}
    found = [
        record
        for each in _seeds(seed, seeds)
        for record in run_all(
            "train", listed, seed=each, records=records, trained=networks.__setitem__, **case
        )
    ]
    kept: list[Any] = [networks.get(record["key"]) for record in found]
    if against is not None:
        found = trained_against(found, registry.method_of(against).text, margin)
    if model is not None:
        kept = [_in_place(given.module, kept[0], found[0])]
    results = [Result(r, _own(network)) for r, network in zip(found, kept, strict=True)]
    return Results(results, "as given" if "lr" in options else IN_PYTHON)


def speed(
    methods: Any,
    *,
    arch: str | Callable[..., Any] | None = None,
    model: nn.Module | None = None,
    data: Any = None,
    batch: Any = None,
    loss: Any = None,
    cut: str | Sequence[str] = "",
    sites: str = "",
    out_axes: str | Sequence[str] = "",
    head: str = "",
    output: Callable[[Any], Any] | None = None,
    name: str = "",
    baselines: bool = True,
    seed: int = 0,
    records: str | Path | None = None,
    **options: Any,
) -> Results:
    """Time whole steps and their peak memory beside backprop's, as ``fgbench speed`` does.

    Args:
        methods: as of :func:`measure`.
        arch: as of :func:`measure`.
        model: as of :func:`measure`.
        data: as of :func:`measure`.
        batch: as of :func:`measure`.
        loss: as of :func:`measure`.
        cut: as of :func:`measure`.
        sites: as of :func:`measure`.
        out_axes: as of :func:`measure`.
        head: as of :func:`measure`.
        output: as of :func:`measure`.
        name: as of :func:`measure`.
        baselines: time BP-CKPT and BP-ACC too: backprop that computes activities again, and part by part.
        seed: of the network and the noise.
        records: folder where records are written.
        options: ``rounds``, ``compile`` (``off``, ``auto`` or ``on``) and ``reference`` (``plain``,
            ``compiled`` or ``faster``) as of
            :func:`fgbench.measurement.speed.step_costs.speed`, and those of :func:`fgbench.run_all`.

    Returns:
        The results; ``results["FG-A"].ratio_to_bp.value`` is a step over backprop's.

    Raises:
        UsageError: for a name, object or option that does not fit, in one line.

    Example:
        >>> case = {"arch": "mlp-1x4", "data": "digits", "batch": 8}
        >>> speed("FG-A", rounds=3, reference="plain", **case)["FG-A"].step_ms.n
        3
    """
    given = Given(arch, model, data, batch, loss, None, cut, sites, out_axes, head, output, name)
    listed = registry.methods_of(methods)
    if baselines:
        listed = registry.methods_of([*listed, *beside(m.locality.text for m in listed)])
    case = given.case(listed) | options
    if _few(case):
        case = {"batch": case["data"].train_size} | case
    return Results(run_all("speed", listed, seed=seed, records=records, **case))


def compare(
    methods: Any,
    *,
    arch: str,
    data: str,
    reference: str = "BP",
    budget: str = "small",
    forwards: float | None = None,
    seconds: float | None = None,
    seeds: int | None = None,
    margin: float | None = None,
    records: str | Path = "records",
    jobs: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    threads: int = 1,
    data_dir: str | None = None,
    plan: bool = False,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Results:
    """Tune methods with one budget, train them on fresh seeds and judge them, as ``fgbench compare`` does.

    Worker processes run the trainings, so a script that calls this needs ``if __name__ == "__main__"``.

    Args:
        methods: METHODs, names only: an estimator of one's own is ``./file.py:Class``.
        arch: architecture with options.
        data: data set with options.
        reference: the METHOD that all others are compared with.
        budget: ``small``, ``medium`` or ``large``: rates that every method tries, and length and number of
            the runs.
        forwards: forward equivalents of a result, in passes over the training set; by default what the
            reference spends by its recipe.
        seconds: of a result of the reference, in place of ``forwards``.
        seeds: of the results; 10 to look, 20 to publish. Those of the budget where None.
        margin: the largest difference that does not matter, an error as a fraction; that of the data set
            where None.
        records: folder of the records; the same call goes on from it.
        jobs: runs at the same time; one per GPU or core where None.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``float32`` or ``float64``.
        threads: CPU threads of each run.
        data_dir: folder of data files.
        plan: print what would be run and for how long, and run nothing.
        progress: called with one line now and then.
        options: further options of :func:`train`, the same for every method.

    Returns:
        A result per method, the reference first; they print as tables with verdicts, and
        ``found["FG-A"].results[0].against.verdict`` is one. Of a plan an empty one.

    Raises:
        UsageError: for a name or option that does not fit, in one line.

    Example:
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=640,test=32]", "device": "cpu", "jobs": 1}
        >>> len(compare("FG-A", plan=True, seeds=5, **case))  # doctest: +ELLIPSIS
        Tuning: 2 methods x 12 rates (8 over four decades, ...
        0
    """
    from fgbench.runs.compare import compare as comparing
    from fgbench.runs.compare import plan as planning
    from fgbench.runs.sweep.runner import Settings, place

    listed = [methods] if isinstance(methods, str) else list(methods)
    question = planning.Question.of(
        listed, arch, data, reference, budget=budget, forwards=forwards, seconds=seconds, seeds=seeds,
        margin=margin, options=options,
    )  # fmt: skip
    settings = Settings(Path(records), jobs, device, dtype, threads, data_dir)
    tell = progress or (lambda line: None)
    if plan:
        workers = len(place(device, jobs)[1])
        print(*planning.lines(planning.plan_of(question, settings, True, tell), workers), sep="\n")
        return Results([])
    return Results(comparing.compare(question, settings, tell=tell))


def check(
    given: Any,
    *,
    data: Any = None,
    batch: tuple[Any, Any] | None = None,
    loss: Any = None,
    cut: str | Sequence[str] = "",
    sites: str = "",
    out_axes: str | Sequence[str] = "",
    head: str = "",
    output: Callable[[Any], Any] | None = None,
    quick: bool = False,
    arch: str = "",
    timeout: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Check an estimator's claims, a locality, a data set or a network, as ``fgbench check`` does.

    Args:
        given: an estimator, (estimator, locality), a locality, a data set, a module, or the name of one.
        data: of a network: data set with options, or as of :func:`measure`.
        batch: of a network: inputs and targets, in place of ``data``.
        loss: of a module: as of :func:`measure`.
        cut: of a network: as of :func:`measure`.
        sites: of a network: as of :func:`measure`.
        out_axes: of a network: as of :func:`measure`.
        head: of a module: as of :func:`measure`.
        output: of a module: as of :func:`measure`.
        quick: use fewer draws where the bias can only be tested by sampling.
        arch: an architecture on which an estimator or a locality is checked beside small networks.
        timeout: seconds after which what was not judged is left out.
        progress: called with a line for each outcome as soon as it is known, such as ``print``.

    Returns:
        The outcomes; they print a line each, and ``.held`` is whether all that was judged held.

    Raises:
        UsageError: for an unknown name, or an object that is neither an estimator nor a module.

    Example:
        >>> check("bp/end").held
        True
    """
    from torch import nn

    from fgbench.conformance.any_architecture import check_architecture
    from fgbench.conformance.report import Report, check_any, line
    from fgbench.core.time_limit import time_limit
    from fgbench.core.wrapping import Network
    from fgbench.workload import Cuts, Workload

    tell = None if progress is None else lambda outcome: progress(line(outcome))
    how = {"cut": cut, "sites": sites, "out_axes": out_axes}
    model = given if isinstance(given, nn.Module | Network) else None
    with time_limit(timeout, "check"):
        if model is None and isinstance(data, str | None) and batch is None:
            cuts = Cuts.taken(dict(how))
            return Report(
                check_any(given, tell, quick=quick, arch=arch, data=data or "", cuts=cuts)
            )
        own = None if model is not None else given
        what = Given(own, model, data, batch, loss, None, cut, sites, out_axes, head, output)
        case = what.case([])
        workload = Workload.of(
            case["arch"], case["data"], dtype="float64", cuts=Cuts.taken(dict(how))
        )
        return Report(check_architecture(workload.arch, tell, workload=workload))


def _seeds(first: int, count: int) -> range:
    """Return seeds counted up from the first."""
    if count < 1:
        raise UsageError(f"seeds must be at least 1, got {count}")
    return range(first, first + count)


def _few(case: Mapping[str, Any]) -> bool:
    """Return whether data of one's own are one batch: fewer than a batch has by default, or given so."""
    from fgbench.measurement.design import Design

    if isinstance(case["data"], str):
        return False
    return bool(case["data"].train_size <= case.get("batch", Design.batch))


def _makes(model: nn.Module) -> str:
    """Return how several networks of a module's class are given."""
    return f"give arch= a function that makes one, such as arch=lambda: {type(model).__name__}(...)"


def _own(network: Any) -> Any:
    """Return the module of a wrapped network, any other as it is."""
    from fgbench.core.wrapping import WrappedChain

    return network.body if isinstance(network, WrappedChain) else network


def _in_place(module: nn.Module, network: Chain | None, record: Mapping[str, Any]) -> Any:
    """Copy what was trained into the given module, if the run ended well, and return the module."""
    if network is not None and record["status"] == "ok":
        trained = _own(network).state_dict()
        module.load_state_dict({name: trained[name] for name in module.state_dict()})
    return module
