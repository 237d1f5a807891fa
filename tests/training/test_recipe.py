"""Recipes: the schedule's exact values, what is refused, and which shipped rule wins."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

import fgbench.training.recipe
from fgbench import registry
from fgbench.errors import UsageError
from fgbench.training.loop import recipe_for
from fgbench.training.recipe import Recipe, When, brought_rules, default_recipe, rules
from fgbench.workload import Workload

SHIPPED = sorted(Path(fgbench.training.recipe.__file__).with_name("recipes").glob("*.toml"))


def schedule(per_epoch: int, **values: Any) -> list[float]:
    recipe = Recipe(batch=1, lr=1.0, **values)
    return [recipe.factor(step, per_epoch) for step in range(recipe.epochs * per_epoch)]


def test_linear_goes_from_one_towards_zero_in_equal_steps() -> None:
    assert schedule(2, epochs=2) == [1.0, 0.75, 0.5, 0.25]


def test_cosine_is_half_a_wave() -> None:
    found = schedule(1, epochs=4, schedule="cosine")
    assert found == pytest.approx([1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2], abs=1e-15)


def test_warm_up_rises_to_one_and_the_rest_decays() -> None:
    assert schedule(4, epochs=2, warmup_epochs=1.0) == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert schedule(4, epochs=1, warmup_epochs=0.5, schedule="constant") == [0.5, 1.0, 1.0, 1.0]


def test_staircase_drops_at_half_and_at_four_fifths() -> None:
    found = schedule(1, epochs=10, schedule="staircase")
    assert found == [1.0] * 5 + [0.1] * 3 + [0.01] * 2


def test_a_rate_for_one_batch_is_scaled_to_another() -> None:
    recipe = Recipe(epochs=1, batch=2048, lr=0.1, lr_batch=256)
    assert recipe.peak_lr == pytest.approx(0.8, rel=1e-15)
    assert recipe.but(lr_batch=0).peak_lr == recipe.lr == 0.1


def test_changes_are_checked() -> None:
    recipe = Recipe(epochs=3, batch=10, lr=0.1)
    assert recipe.but(lr=0.2, schedule="cosine").lr == 0.2
    assert recipe.lr == 0.1
    refused: dict[str, dict[str, Any]] = {
        "'momentun'; did you mean 'momentum'": {"momentun": 0.9},
        "lr=-1": {"lr": -1},
        "lr=inf": {"lr": float("inf")},
        "optimizer='sdg'.*'sgd'": {"optimizer": "sdg"},
        "warmup_epochs must be below the 3": {"warmup_epochs": 3},
        "nesterov needs sgd": {"nesterov": True, "momentum": 0.0},
        "batch=0": {"batch": 0},
        "crop=0": {"crop": 0},
        "blur=1.5": {"blur": 1.5},
        "'lars'": {"optimizer": "larss"},
    }
    for match, change in refused.items():
        with pytest.raises(UsageError, match=match) as caught:
            recipe.but(**change)
        assert "\n" not in str(caught.value)


def test_an_architecture_without_a_file_has_the_general_values() -> None:
    exact, estimate = (default_recipe("somebody-s", "theirs", e) for e in (True, False))
    assert exact.but(lr=1.0) == estimate.but(lr=1.0)
    assert exact.lr > estimate.lr


def test_narrower_rules_win_and_options_do_not_matter() -> None:
    def lr(arch: str, method: str) -> float:
        return default_recipe(arch, "mnist", exact=False, method=method).lr

    assert lr("localmixer-s/1/1", "fg_a/end") == 0.01
    assert lr("localmixer-s/1/1", "fg_a[directions=4]/local[keep=b p g]") == 0.01
    assert lr("localmixer-s/1/1[init=lecun]", "fg_a/local-pg") == 0.01
    assert lr("localmixer-m/1/16", "fg_a/local-pg") == 0.03
    assert lr("localmixer-s/1/1", "./fg_a.py:Mine/end") == 0.03


def test_one_block_one_patch_one_group_has_alike_heads() -> None:
    for method in ("fg_a/local-pg", "fg_w/local-pg"):
        recipe = default_recipe("localmixer-s/1/1", "mnist", False, method)
        assert recipe.zero_heads
        assert recipe.head_lr == recipe.final_lr == 0.1
    assert not default_recipe("localmixer-m/8/16", "cifar10", False, "fg_a/local-pg").zero_heads


@pytest.mark.parametrize("exact", [True, False])
def test_folders_of_pictures_have_the_configurations_released_for_imagenet(exact: bool) -> None:
    supervised = default_recipe(
        "localmixer-l/32/64", "imagefolder[centre=0.875]", exact, "bp/local-pg"
    )
    contrastive = default_recipe(
        "localmixer-l/32/64", "imagefolder", exact, "fg_a/contrastive-local"
    )
    both = {"momentum": 0.9, "schedule": "cosine", "warmup_epochs": 10, "weight_decay": 1e-4}
    both |= {"head_lr": 1.0, "final_lr": 0.1, "nesterov": False, "blur": 0.0, "solarise": 0.0}
    assert supervised == Recipe(
        epochs=120, batch=256, lr=0.05, crop=0.3, flip=True, colours=True, **both
    )
    assert contrastive == Recipe(
        epochs=800, batch=2048, lr=0.1, lr_batch=256, optimizer="lars", head_decay=0.0, **both
    )


def test_digits_are_never_mirrored() -> None:
    for arch in registry.names("architectures"):
        for data in ("digits", "mnist"):
            assert not default_recipe(arch, data, exact=True).flip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_rule_can_apply(path: Path) -> None:
    """A name that nobody has would make a rule silently dead."""
    known = {
        "arch": registry.names("architectures"),
        "data": registry.names("datasets"),
        "method": [
            f"{estimator}/{locality}"
            for estimator in registry.names("estimators")
            for locality in registry.names("localities")
        ],
    }
    recipe = Recipe(epochs=10**6, batch=1, lr=1.0)
    assert path.stem in {"general", *registry.entries("architectures")}
    assert rules(path.stem)
    for rule in rules(path.stem):
        assert rule.set
        recipe.but(**rule.set)
        assert dead(rule, known, path.stem) == []


def dead(rule: fgbench.training.recipe.Rule, known: dict[str, list[str]], family: str) -> list[str]:
    """The patterns of a rule that fit no registered name."""
    patterns = {part: getattr(rule.when, part) for part in known}
    made = [f"{family}-{depth}x{width}" for depth in (2, 3) for width in (64, 256)]  # by a pattern
    examples = {**known, "arch": [*known["arch"], *made]}
    return [
        pattern
        for part, pattern in patterns.items()
        if not any(fnmatchcase(name, pattern) for name in examples[part])
    ]


def test_a_dead_rule_is_noticed() -> None:
    rule = fgbench.training.recipe.Rule(
        when=When(arch="localmixer-s*", data="mmist"), set={"lr": 1.0}
    )
    known = {"arch": ["localmixer-s/1/1"], "data": ["mnist"], "method": ["bp/end"]}
    assert dead(rule, known, "localmixer") == ["mmist"]


def test_rules_are_strict_about_their_own_names() -> None:
    text = '[[rule]]\nwhen = { datas = "mnist" }\nset = { lr = 0.1 }'
    with pytest.raises(ValueError, match="datas"):
        fgbench.training.recipe._File(**tomllib.loads(text))


# recipes that things bring


class Brought:
    """An estimator that brings a rate."""

    recipe: Any = {"lr": 0.02, "epochs": 7}  # noqa: RUF012


def lr_of(method: str, *things: Any, arch: str = "mlp-2x64") -> float:
    own = brought_rules(None, *things)
    return default_recipe(arch, "digits", exact=False, method=method, own=own).lr


def test_a_method_brings_its_rate_where_no_shipped_rule_names_it() -> None:
    assert lr_of("brought/end", Brought()) == 0.02
    assert lr_of("./fg_a.py:Mine/end", Brought()) == 0.02
    assert lr_of("fg_a/end", Brought()) == 0.01  # mlp.toml has a rule for it
    assert lr_of("fg_a/end", Brought(), arch="somebody-s") == 0.02
    assert lr_of("fg_w/end", Brought(), arch="somebody-s") == 0.0003
    recipe = default_recipe(
        "mlp-2x64", "digits", False, "brought/end", brought_rules(None, Brought())
    )
    assert (recipe.epochs, recipe.batch) == (7, 50)  # what it leaves out is shipped


def test_the_estimator_wins_over_the_locality_and_it_over_the_architecture() -> None:
    def make() -> None: ...

    make.recipe = {"lr": 0.5, "batch": 5, "epochs": 5}  # type: ignore[attr-defined]
    place = type("Place", (), {"recipe": {"lr": 0.4, "batch": 4}})()
    mine = type("Mine", (), {"recipe": {"lr": 0.3}})()
    own = brought_rules(make, place, mine)
    found = default_recipe("somebody", "theirs", exact=False, method="mine/place", own=own)
    assert (found.lr, found.batch, found.epochs) == (0.3, 4, 5)


def test_rules_that_are_brought_have_conditions() -> None:
    rules = [{"set": {"lr": 0.5}}, {"when": {"exact": True, "arch": "mlp-*"}, "set": {"lr": 0.7}}]
    own = brought_rules(None, type("Mine", (), {"recipe": rules})())

    def lr(arch: str, exact: bool) -> float:
        return default_recipe(arch, "digits", exact, "mine/end", own).lr

    assert (lr("mlp-2x64", True), lr("mlp-2x64", False), lr("cnn", True)) == (0.7, 0.5, 0.5)


def test_nothing_brought_changes_nothing() -> None:
    shipped = default_recipe("mlp-2x64", "digits", exact=False, method="fg_a/end")
    assert brought_rules(None, object()) == ()
    assert default_recipe("mlp-2x64", "digits", False, "fg_a/end", ()) == shipped

    @dataclass
    class Option:
        recipe: str = "fast"

    assert brought_rules(None, Option()) == ()


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (5, "Mine: recipe: expected a mapping of recipe values, or a list of rules"),
        ([5], "Mine: recipe: expected a mapping"),
        ({"lrr": 0.1}, "unknown recipe value of Mine 'lrr'; did you mean 'lr'"),
        ([{"sets": {}}], "Mine: recipe: set: Field required"),
        ([{"set": {}, "when": {"archs": "x"}}], "Mine: recipe: when.archs: Extra inputs"),
        (property(lambda self: 1 / 0), "Mine: its recipe cannot be read: ZeroDivisionError"),
    ],
)
def test_what_is_no_recipe_is_one_line(recipe: Any, told: str) -> None:
    mine = type("Mine", (), {"recipe": recipe})()
    with pytest.raises(UsageError) as caught:
        brought_rules(None, mine)
    assert told in str(caught.value)


BRINGS = """
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate
from fgbench.architectures.mlp import mlp

@dataclass(frozen=True)
class Mine(Defaults):
    recipe = {"lr": 0.02}
    def claims(self, scheme):
        return Claims()
    def __call__(self, view, noise, state):
        return Estimate(grads=view.reverse())

def net(*, shape, classes):
    return mlp(shape=shape, classes=classes, width=2, depth=1)

net.recipe = {"epochs": 7, "lr": 0.5}
"""


def test_a_run_takes_what_a_file_brings(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BRINGS)
    workload = Workload.of(f"{tmp_path}/mine.py:net", "synthetic[train=64,test=32]")
    method = registry.method(f"{tmp_path}/mine.py:Mine")
    assert (recipe_for(workload, method).lr, recipe_for(workload, method).epochs) == (0.02, 7)
    other = recipe_for(workload, registry.method("BP"))
    assert (other.lr, other.epochs) == (0.5, 7)


def test_a_rule_may_ask_for_options_of_the_architecture() -> None:
    """DRTP needs units that saturate; with others its hidden layers must learn slowly."""
    own = brought_rules(None, registry.make("estimators", "drtp").thing)
    plain, tanh, gelu = (
        default_recipe(f"mlp-2x64{options}", "digits", True, "drtp/end", own)
        for options in ("", "[activation=tanh]", "[activation=gelu]")
    )
    assert (plain.lr, plain.final_lr) == (0.00003, 3000.0)
    assert (tanh.lr, tanh.final_lr) == (0.1, 1.0)
    assert gelu == plain
