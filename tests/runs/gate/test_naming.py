"""Changes of exact cells are named by their causes, each of which is planted here in made numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from fgbench.runs.gate.changes import changes
from fgbench.runs.gate.finding import Finding
from fgbench.runs.gate.naming import rows
from fgbench.runs.gate.same import unwatched

Cells = list[dict[str, Any]]
DATA = "synthetic[size=8]"


def cell(kind: str, name: str, numbers: Mapping[str, Any], **facts: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, **facts, "numbers": dict(numbers), "digest": repr(numbers)}


def estimate(
    method: str, *along: float, arch: str = "mlp-2x6", name: str = "", about: str = ""
) -> dict[str, Any]:
    numbers: dict[str, Any] = {f"body.l{k}.along": value for k, value in enumerate(along)}
    numbers |= {f"body.l{k}.square": value**2 for k, value in enumerate(along)}
    numbers |= {"ledger.forward_equivalents": 3.0, "loss": 2.0}
    named = name or f"estimate {method} on {arch}"
    return cell("estimate", named, numbers, method=method, arch=arch, data=DATA, about=about)


def test_a_higher_price_has_a_row_beside_other_numbers() -> None:
    one, other = estimate("fg_w/end", 1.0, 2.0), estimate("fg_w/end", 1.5, 2.0)
    other["numbers"]["ledger.forward_equivalents"] = 6.0
    other["digest"] = "other"
    found = [row.finding for row in rows(changes([one], [other]), (), set())]
    assert [f.kind for f in found] == ["estimate", "ledger"]
    assert (found[1].before, found[1].after, found[1].verdict) == (3.0, 6.0, "changed")
    other["numbers"]["ledger.forward_equivalents"] = 2.0
    (cheaper,) = rows(changes([one], [other]), (), set())
    assert cheaper.finding.kind == "estimate"


def measured(method: str, **numbers: float) -> dict[str, Any]:
    found = {
        "relative_variance.value": 40.0,
        "relative_variance.low": 30.0,
        "relative_variance.high": 60.0,
    }
    found |= {"scale.value": 1.0, "cost.forward_equivalents": 3.0}
    found |= {name.replace("__", "."): value for name, value in numbers.items()}
    return cell(
        "estimate",
        f"measure {method}",
        found,
        method=method,
        arch="mlp-2x6",
        data=DATA,
        about="measure",
    )


def trained(about: str, *losses: float, method: str = "bp/end") -> dict[str, Any]:
    numbers = {f"history.{k}.train_loss": loss for k, loss in enumerate(losses)}
    return cell(
        "training",
        f"train {method}: {about}",
        numbers,
        method=method,
        arch="mlp-2x6",
        data=DATA,
        about=about,
    )


ESTIMATORS = ("fg_a", "fg_w", "np", "fa", "dfa", "bp")
VARIANTS = (
    *("plain", "optimizer adam", "decay sgd", "decay adamw"),
    *("schedule linear", "schedule cosine"),
)


def estimates(each: Mapping[str, Any], start: str) -> bool:
    """Whether a cell is an estimate of methods whose name begins so."""
    return each["kind"] == "estimate" and each["method"].startswith(start)


def tree() -> Cells:
    """Return the cells of a small tree."""
    return [
        cell("data", "data digits", {"train_x.along": 1.0, "train_y.along": 2.0}, data="digits"),
        cell("data", "data synthetic", {"train_x.along": 3.0, "train_y.along": 4.0}, data="synthetic"),
        cell("data", "data wine", {"train_x.along": 5.0, "train_y.along": 6.0}, data="wine"),
        cell("weights", "weights mlp-2x6", {"l0.along": 0.5}, arch="mlp-2x6"),
        cell("draws", "draws gaussian", {"w.along": 1.5, "v.along": -0.7}, about="gaussian"),
        cell("draws", "draws primitives", {"normal.along": 2.5, "seeded.along": 0.3}, about="primitives"),
        *(estimate(f"{name}/{where}", 1.0, -2.0) for name in ESTIMATORS for where in ("end", "local-pg")),
        estimate("np/end", 1.003, -2.006, name="step np times 4"),
        estimate("np/end", 1.015, -2.03, name="step np times 16"),
        measured("fg_a/end"),
        *(trained(about, 1.0, 0.9, 0.8) for about in VARIANTS),
        trained("method", 1.0, 0.9, 0.8, method="fg_w/end"),
        trained("recipe", 1.0, 0.9, 0.8),
        cell("intervals", "intervals mean", {"low": 1.0, "high": 3.0, "value": 2.0}, about="mean"),
    ]  # fmt: skip


def changed(how: Callable[[dict[str, Any]], Mapping[str, Any] | None]) -> list[Finding]:
    """Return the findings where some cells have other numbers."""
    after = tree()
    for each in after:
        numbers = how(each)
        if numbers is not None:
            each["numbers"] = {**each["numbers"], **numbers}
            each["digest"] = repr(each["numbers"])
    return [row.finding for row in rows(changes(tree(), after))]


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


def scaled(each: Mapping[str, Any], factor: float, start: str = "body") -> dict[str, Any]:
    powers = {"along": 1, "square": 2}
    return {
        path: value * factor ** powers[path.rpartition(".")[2]]
        for path, value in each["numbers"].items()
        if path.startswith(start)
    }


def test_equal_numbers_have_no_rows() -> None:
    assert changed(lambda each: None) == []


def test_a_scale_is_named_with_its_number_and_its_trainings() -> None:
    found = only(changed(
        lambda each: scaled(each, 0.98) if estimates(each, "fg_w/")
        else {"history.1.train_loss": 0.91} if each.get("method") == "fg_w/end" else None
    ))  # fmt: skip
    assert (found.kind, found.what) == ("scale", "scale .9800 of the gradient; 1 cell follows")
    assert found.where.startswith("fg_w, end, local-pg")
    assert found.after == 0.98


def test_one_layer_out_of_scale_is_no_scale() -> None:
    found = only(changed(
        lambda each: {"body.l0.along": 0.98} if estimates(each, "fg_w/end") else None
    ))  # fmt: skip
    assert found.kind == "estimate"
    assert "scale" not in found.what


def is_np(each: dict[str, Any]) -> bool:
    return each.get("method", "").startswith("np/") and each["kind"] == "estimate"


def differences(each: dict[str, Any], step: float) -> dict[str, float]:
    """Numbers of a difference with an error in proportion to its step."""
    length = {"step np times 4": 4, "step np times 16": 16}.get(each["name"], 1)
    return {f"body.l{k}.along": g * (1 + step * length) for k, g in enumerate((1.0, -2.0))}


def named(step: float, factor: float) -> Finding:
    """The finding on differences of step 1e-3 that become ones of another step, times a factor."""
    before = tree()
    for each in filter(is_np, before):
        each["numbers"] |= differences(each, 1e-3)
    after = []
    for each in before:
        moved = {k: factor * v for k, v in differences(each, step).items()} if is_np(each) else {}
        numbers = {**each["numbers"], **moved}
        after.append(each | {"numbers": numbers, "digest": repr(numbers)})
    return only([row.finding for row in rows(changes(before, after))])


def test_a_factor_of_every_step_is_a_scale_and_no_longer_step() -> None:
    found = named(1e-3, 1.03)
    assert (found.kind, found.what) == ("scale", "scale 1.0300 of the gradient")


@pytest.mark.parametrize("factor", [2.0, 0.5, 10.0])
def test_the_finite_difference_step_is_read_from_its_error(factor: float) -> None:
    found = named(1e-3 * factor, 1.0)
    assert found.what == f"finite-difference step {factor:.3g} times as long"
    assert found.where.startswith("np")


def test_pixels_are_the_cause_of_all_that_is_computed_on_them() -> None:
    found = only(changed(
        lambda each: {"train_x.along": 3.1} if each.get("data") == "synthetic"
        else {"body.l0.along": 1.1} if each["kind"] == "estimate" and "body.l0.along" in each["numbers"]
        else {"history.0.train_loss": 1.1} if each["kind"] == "training" else None
    ))  # fmt: skip
    assert found.kind == "data"
    assert found.where == "synthetic"
    assert found.what.startswith("inputs differ; ")


def test_a_reseed_is_named_as_draws() -> None:
    found = only(changed(
        lambda each: {name: value + 0.25 for name, value in each["numbers"].items()}
        if each["kind"] != "intervals" and each["name"] not in ("data digits", "data synthetic")
        and each.get("method", "")[:3] != "bp/" else None
    ))  # fmt: skip
    assert (found.kind, found.where, found.verdict) == ("draws", "all laws", "changed")
    assert "other random numbers" in found.what


def test_one_law_that_is_louder() -> None:
    louder = {"w.along": 1.65, "v.along": -0.77}
    found = changed(lambda each: louder if each.get("about") == "gaussian" else None)
    assert only(found).what == "random numbers 1.1 times as large"
    assert only(found).where == "gaussian"


@pytest.mark.parametrize(
    ("abouts", "where"),
    [
        (("decay sgd", "decay adamw"), "weight decay (sgd, adamw)"),
        (("schedule linear", "schedule cosine", "recipe"), "schedule (linear, cosine)"),
        (("plain", "decay sgd", "schedule linear", "schedule cosine", "recipe"), "optimizer sgd"),
    ],
)
def test_a_training_is_named_by_the_variants_that_moved(
    abouts: tuple[str, ...], where: str
) -> None:
    found = only(
        changed(
            lambda each: {"history.1.train_loss": 0.95} if each.get("about") in abouts else None
        )
    )
    assert (found.kind, found.where) == ("training", where)
    assert "from step 2 on" in found.what


WRAPPED = ("residual", "attention", "recurrent")


def wrapped(network: str, about: str, *along: float) -> dict[str, Any]:
    made = estimate("", *along, arch=f"wrapped {network}", name=f"wrapped {network}: {about}")
    return made | {"method": "", "data": "", "about": about}


def wrapped_tree(scale: float, fg_a: float, networks: Sequence[str] = WRAPPED) -> Cells:
    """Return estimates of two methods on ordinary modules, some scaled, and on a network of fgbench."""
    found = [estimate("fg_a/end", fg_a, -2.0 * fg_a), estimate("bp/end", 1.0, -2.0)]
    for network in WRAPPED:
        own = scale if network in networks else 1.0
        found += [wrapped(network, "bp/end", own, -2.0 * own)]
        found += [wrapped(network, "fg_a/local", own * fg_a, -3.0 * own * fg_a)]
    return found


@pytest.mark.parametrize("networks", [WRAPPED, WRAPPED[:1]])
def test_what_ordinary_modules_alone_show_is_the_wrapping(networks: Sequence[str]) -> None:
    before, after = wrapped_tree(1.0, 1.0), wrapped_tree(0.9, 1.0, networks)
    files = [
        f"fgbench/{name}"
        for name in ("core/axes.py", "core/wrapping/listen.py", "estimators/bp.py")
    ]
    found = only([row.finding for row in rows(changes(before, after), files)])
    assert found.kind == "scale"
    assert found.where == f"wrapped networks: {', '.join(networks)}"
    assert found.what == "scale .9000 of the gradient of bp, fg_a"
    assert found.suspects[0] == "fgbench/core/wrapping/listen.py"


def test_an_estimator_that_changed_is_named_once_with_what_it_gives_on_ordinary_modules() -> None:
    before, after = wrapped_tree(1.0, 1.0), wrapped_tree(1.0, 0.9)
    found = only([row.finding for row in rows(changes(before, after))])
    assert (found.kind, found.what) == ("scale", "scale .9000 of the gradient")
    assert found.where.startswith("fg_a")
    assert "wrapped" not in found.where


def test_an_ordinary_module_without_numbers_is_listed() -> None:
    cell = {"kind": "estimate", "name": "x", "arch": "wrapped residual", "about": "bp/end"}
    why = "this tree has no fgbench.wrap"
    assert unwatched([cell | {"n/a": why}]) == {"network wrapped residual": why}
    assert unwatched([cell | {"numbers": {"x": 1.0}}]) == {}


def test_narrower_intervals_are_no_other_method() -> None:
    found = only(changed(
        lambda each: {"low": 1.2, "high": 2.8} if each["kind"] == "intervals"
        else {"relative_variance.low": 32.0, "relative_variance.high": 56.0}
        if each["name"] == "measure fg_a/end" else None
    ))  # fmt: skip
    assert found.kind == "intervals"
    assert found.what.startswith("intervals 0.8 times as wide")


def test_what_a_quantile_decides_beside_the_ends_of_intervals_follows_from_it() -> None:
    found = only(changed(
        lambda each: {"low": 1.2, "high": 2.8} if each["kind"] == "intervals"
        else {"efficiency.value": 0.1} if each["name"] == "measure fg_a/end" else None
    ))  # fmt: skip
    assert (found.kind, found.verdict) == ("intervals", "changed")
    assert found.what.endswith("; 1 cell follows")


def test_more_noise_is_shown_with_its_numbers() -> None:
    found = only(changed(
        lambda each: {"relative_variance.value": 48.4} if each["name"] == "measure fg_a/end"
        else {"body.l0.along": 1.2} if estimates(each, "fg_a/") else None
    ))  # fmt: skip
    assert (found.before, found.after, found.unit) == (40.0, 48.4, "relative variance")
    assert "1.21 times" in found.what


def test_many_estimators_share_a_row() -> None:
    found = only(changed(
        lambda each: {"body.l0.along": 1.5} if each.get("method", "").endswith("/local-pg") else None
    ))  # fmt: skip
    assert found.where == "fg_a, fg_w, np and 3 more estimators, local-pg, mlp-2x6"


def test_another_price_alone() -> None:
    found = only(changed(
        lambda each: {"ledger.forward_equivalents": 5.0} if each.get("method", "").startswith("fa/") else None
    ))  # fmt: skip
    assert (found.kind, found.before, found.after) == ("ledger", 3.0, 5.0)


def test_rounding_alone_passes() -> None:
    found = only(changed(
        lambda each: {"body.l0.along": 1.0 + 1e-13} if estimates(each, "bp/end") else None
    ))  # fmt: skip
    assert found.verdict == "same"
    assert found.what.startswith("rounding alone")


def test_nan_on_one_side_is_an_alarm_and_on_both_none() -> None:
    found = only(
        changed(
            lambda each: (
                {"body.l0.along": math.nan}
                if each["name"] == "estimate fa/end on mlp-2x6"
                else None
            )
        )
    )
    assert (found.verdict, found.what, found.alarms) == ("worse", "a number became NaN", True)
    one, other = (
        [cell("estimate", "x", {"a": math.nan, "b": b}, method="fa/end")] for b in (1.0, 1.0)
    )
    other[0]["digest"] = "another"
    assert changes(one, other) == []


def test_cells_that_fail_are_gone_or_new() -> None:
    before, after = tree(), tree()
    del after[5]["numbers"], before[7]["numbers"]
    after[5] |= {"failed": "KeyError: no", "digest": "f"}
    before[7] |= {"n/a": "unknown estimator", "digest": "n"}
    gone = after.pop(9)
    found = [row.finding for row in rows(changes(before, after))]
    assert [(f.kind, f.verdict) for f in found] == [
        ("failed", "failed"),
        ("n/a", "changed"),
        ("n/a", "not judged"),
    ]
    assert found[0].what == "KeyError: no"
    assert gone["method"].partition("/")[0] in found[1].where


def test_what_raises_in_both_trees_is_no_change() -> None:
    one, other = tree(), tree()
    for side in (one, other):
        del side[5]["numbers"]
        side[5] |= {"failed": "KeyError: no", "digest": "f"}
    assert changes(one, other) == []


def test_a_cause_of_its_own_stands_beside_a_reseed_of_others() -> None:
    found = changed(
        lambda each: {"w.along": 9.0} if each.get("about") == "gaussian"
        else {"low": 1.2, "high": 2.8} if each["kind"] == "intervals" else None
    )  # fmt: skip
    assert [f.kind for f in found] == ["draws", "intervals"]


def test_unwatched_names_what_no_cell_has_numbers_of() -> None:
    cells: Cells = [
        {"kind": "estimate", "name": "a", "method": "cge/end", "n/a": "too dear"},
        {"kind": "estimate", "name": "b", "method": "bp/end", "numbers": {}},
        {"kind": "estimate", "name": "c", "method": "bp/noprop_dt", "n/a": "needs noprop"},
        {"kind": "data", "name": "d", "data": "mnist", "n/a": "no files"},
    ]
    assert unwatched(cells) == {
        "estimator cge": "too dear", "locality noprop_dt": "needs noprop", "data mnist": "no files",
    }  # fmt: skip
