"""Estimators in files that do what they should not: a table of cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.makers.forked import Answer

REFUSED, RUNS, EITHER = "refused", "runs", "either"
"""One line that names the file; the case is legitimate; or both would be right."""

NET = ["--arch", "mlp-1x4", "--data", "synthetic[size=2,train=32,test=16]", "--device", "cpu"]
COMMANDS = {
    "measure": [*NET, "--draws", "2", "--batches", "1", "--batch", "4", "--json"],
    "train": [*NET, "--epochs", "1", "--batch", "16", "--records", "records", "--json"],
    "speed": f"{' '.join(NET)} --rounds 3 --batch 4 --reference plain --no-baselines --json".split(),
}
HEAD = """import sys, os, threading, time, torch
from dataclasses import dataclass, field, InitVar
from typing import TYPE_CHECKING, Annotated, Any, Literal
from fgbench import Claims, Defaults, Estimate, UsageError, register
"""
METHODS = {
    "claims(self, task)": "return Claims(bias='none', backward='segment', slopes_only=True)",
    "supports(self, task)": "return ''",
    "init_state(self, task, noise)": "return {}",
    "predicted_variance(self, view, state)": "return None",
    "__call__(self, view, noise, state)": (
        "u = noise.directions(view.sites, self.n); s = view.slopes(u); c = view.credit(s, u); "
        "return Estimate(credit=c)"
    ),
}
PLACES = {name.partition("(")[0]: name for name in METHODS}


class Plugin(NamedTuple):
    """A file, how it is used, and what is expected of the answer."""

    name: str
    source: str | bytes
    expected: str = REFUSED
    command: str = "measure"
    text: str = "./mine.py:Mine"
    more: tuple[str, ...] = ()
    seconds: float = 60.0
    files: tuple[tuple[str, str], ...] = ()

    @property
    def arguments(self) -> list[str]:
        return [self.command, self.text, "FG-A", *COMMANDS[self.command], *self.more]

    def write(self, folder: Path) -> None:
        for name, text in self.files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        source = self.source
        (folder / "mine.py").write_bytes(source if isinstance(source, bytes) else source.encode())


def estimator(
    head: str = "", top: str = "", bases: str = "Defaults", deco: str = "", **bodies: str
) -> str:
    """Return an estimator that works, with other bodies for some of its methods.

    Args:
        head: module-level code before the class.
        top: code in the class before its methods.
        bases: of the class.
        deco: decorators.
        bodies: name of a method to its body on one line.
    """
    deco = deco or "@dataclass(frozen=True)"
    lines = [HEAD, head, deco, f"class Mine({bases}):", "    n: int = 1"]
    lines += [f"    {line}" for line in top.splitlines()]
    for name, signature in PLACES.items():
        body = bodies.get(name, METHODS[signature])
        lines += [f"    def {signature}:", *(f"        {line}" for line in body.splitlines())]
    return "\n".join(lines) + "\n"


RAISES = {
    "ValueError": "raise ValueError('no such thing')",
    "exit 0": "sys.exit(0)",
    "exit text": "sys.exit('enough')",
    "GeneratorExit": "raise GeneratorExit",
    "own BaseException": "raise type('Own', (BaseException,), {})('mine')",
    "mute": "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "mute base": "raise type('Mute', (BaseException,), {'__str__': lambda self: sys.exit(3)})()",
    "str is no text": "raise type('Odd', (Exception,), {'__str__': lambda self: 5})()",
    "surrogates": "raise ValueError('a \\udc80 b \\ud800')",
    "escapes": "raise ValueError('a\\x1b[31m\\x00\\x07\\u202e b')",
    "long": "raise ValueError('x' * 100_000)",
    "long words": "raise ValueError('many words ' * 10_000)",
    "lines": "raise ValueError('a\\nb\\r\\nc\\u2028d\\x85e')",
    "no message": "raise AssertionError",
    "StopIteration": "raise StopIteration",
    "recursion": "f = lambda g: g(g)\nf(f)",
    "memory": "raise MemoryError",
    "huge list": "[0] * 10**15",
    "usage subclass": "raise type('Mine', (UsageError,), {'__str__': lambda self: 1 / 0})('x')",
    "named by a metaclass": (
        "M = type('M', (type,), {'__name__': property(lambda c: 1 / 0)})\n"
        "raise M('E', (Exception,), {})('x')"
    ),
    "group": "raise BaseExceptionGroup('two', [ValueError('a'), SystemExit(1)])",
    "OSError": "open('/no/such/file')",
    "broken pipe": "raise BrokenPipeError(32, 'Broken pipe')",
    "unicode": "b'\\xff'.decode()",
    "cancelled": "import asyncio\nraise asyncio.CancelledError",
    "timeout": "raise TimeoutError",
    "interrupt subclass": "raise type('Ctrl', (KeyboardInterrupt,), {})('x')",
    "chain": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError(('a', 1)) from e",
}
FEW = ("ValueError", "own BaseException", "mute", "GeneratorExit", "surrogates", "exit text")


def _raising() -> Iterator[Plugin]:
    """Yield estimators that raise, at every place where their code runs."""
    for what, body in RAISES.items():
        yield Plugin(f"call raises: {what}", estimator(__call__=body))
        yield Plugin(f"import raises: {what}", f"{HEAD}{body}\n" + estimator())
        post = "\n".join(["def __post_init__(self):", *(f"    {x}" for x in body.splitlines())])
        yield Plugin(f"construction raises: {what}", estimator(top=post))
    for what in FEW:
        for place in ("claims", "supports", "init_state", "predicted_variance"):
            yield Plugin(f"{place} raises: {what}", estimator(**{place: RAISES[what]}))
        for place in ("claims", "init_state", "__call__"):
            source = estimator(**{place: RAISES[what]})
            yield Plugin(f"{place} raises in train: {what}", source, command="train")
        yield Plugin(
            f"call raises in speed: {what}", estimator(__call__=RAISES[what]), command="speed"
        )


LOOPS = {
    "busy": "while True: pass",
    "sleep": "time.sleep(100)",
    "swallows": "while True:\n    try:\n        time.sleep(0.01)\n    except Exception:\n        pass",
    "waits": "threading.Event().wait(100)",
}


def _endless() -> Iterator[Plugin]:
    """Yield estimators that do not end, with a time limit."""
    for what, body in LOOPS.items():
        limited: dict[str, object] = {"more": ("--timeout", "1"), "seconds": 40.0}
        yield Plugin(f"import never ends: {what}", f"{HEAD}{body}\n" + estimator(), **limited)  # type: ignore[arg-type]
        yield Plugin(f"call never ends: {what}", estimator(__call__=body), **limited)  # type: ignore[arg-type]
    for place in ("claims", "supports", "init_state", "predicted_variance"):
        source = estimator(**{place: "while True: pass"})
        yield Plugin(f"{place} never ends", source, more=("--timeout", "1"), seconds=40.0)
    post = "def __post_init__(self):\n    while True: pass"
    yield Plugin(
        "construction never ends", estimator(top=post), more=("--timeout", "1"), seconds=40.0
    )


def _values(place: str, values: dict[str, str], **more: str) -> Iterator[Plugin]:
    """Yield estimators one of whose methods returns something else."""
    for what, value in values.items():
        expected = more.get(what, REFUSED)
        yield Plugin(f"{place} returns {what}", estimator(**{place: f"return {value}"}), expected)


CREDIT = (
    "u = noise.directions(view.sites, self.n); s = view.slopes(u)\n"
    "c = dict(view.credit(s, u)); k = next(iter(c))\n"
)
GRADS = "g = {k: torch.zeros(s) for k, s in view.shapes.items()}; k = next(iter(g))\n"
ESTIMATES = {
    "credit is None": (CREDIT, "credit=None", REFUSED),
    "credit is a list": (CREDIT, "credit=[c[k]]", REFUSED),
    "credit is a tensor": (CREDIT, "credit=c[k]", REFUSED),
    "credit is empty": (CREDIT, "credit={}", REFUSED),
    "credit of another name": (CREDIT, "credit={**c, 'nope': c[k]}", REFUSED),
    "credit keyed by a number": (CREDIT, "credit={5: c[k]}", REFUSED),
    "credit keyed by a triple": (CREDIT, "credit={('site', k, 'x'): c[k]}", REFUSED),
    "credit keyed by an unknown kind": (CREDIT, "credit={('spot', k): c[k]}", REFUSED),
    "credit keyed by None": (CREDIT, "credit={None: c[k]}", REFUSED),
    "credit without values": (CREDIT, "credit={k: None}", REFUSED),
    "credit of numbers": (CREDIT, "credit={k: 1.0}", REFUSED),
    "credit of arrays": (CREDIT, "credit={k: c[k].numpy()}", REFUSED),
    "credit of lists": (CREDIT, "credit={k: c[k].tolist()}", REFUSED),
    "credit of another shape": (CREDIT, "credit={k: c[k][:1]}", REFUSED),
    "credit transposed": (CREDIT, "credit={k: torch.zeros(c[k].shape[::-1] + (1,))}", REFUSED),
    "credit of whole numbers": (CREDIT, "credit={k: c[k].long()}", REFUSED),
    "credit of booleans": (CREDIT, "credit={k: c[k] > 0}", REFUSED),
    "credit of complex numbers": (CREDIT, "credit={k: c[k] + 1j}", REFUSED),
    "credit of doubles": (CREDIT, "credit={k: c[k].double()}", EITHER),
    "credit of halves": (CREDIT, "credit={k: c[k].half()}", EITHER),
    "credit on no device": (CREDIT, "credit={k: c[k].to('meta')}", REFUSED),
    "credit that is sparse": (CREDIT, "credit={k: c[k].to_sparse()}", REFUSED),
    "credit with a graph": (CREDIT, "credit={k: c[k].requires_grad_() * 1}", EITHER),
    "credit is NaN": (CREDIT, "credit={k: c[k] * float('nan')}", RUNS),
    "credit is infinite": (CREDIT, "credit={k: c[k] / 0}", RUNS),
    "credit is huge": (CREDIT, "credit={k: c[k] * 1e38}", RUNS),
    "credit expanded": (CREDIT, "credit={k: c[k][:1].expand_as(c[k])}", RUNS),
    "both": (CREDIT + GRADS, "credit=c, grads=g", REFUSED),
    "grads are a list": (GRADS, "grads=[g[k]]", REFUSED),
    "grads are empty": (GRADS, "grads={}", REFUSED),
    "grads lack one": (GRADS, "grads={k: g[k]}", REFUSED),
    "grads of another name": (GRADS, "grads={**g, 'nope': g[k]}", REFUSED),
    "grads of None": (GRADS, "grads={n: None for n in g}", REFUSED),
    "grads of another shape": (GRADS, "grads={n: v[None] for n, v in g.items()}", REFUSED),
    "grads of arrays": (GRADS, "grads={n: v.numpy() for n, v in g.items()}", REFUSED),
    "grads of whole numbers": (GRADS, "grads={n: v.long() for n, v in g.items()}", REFUSED),
    "grads of complex numbers": (GRADS, "grads={n: v + 1j for n, v in g.items()}", REFUSED),
    "grads on no device": (GRADS, "grads={n: v.to('meta') for n, v in g.items()}", REFUSED),
    "grads that are sparse": (GRADS, "grads={n: v.to_sparse() for n, v in g.items()}", REFUSED),
    "grads are NaN": (GRADS, "grads={n: v / 0 for n, v in g.items()}", RUNS),
    "grads are zero": (GRADS, "grads=g", EITHER),
    "readouts of another name": (GRADS, "grads=g, readouts={'nope': g[k]}", REFUSED),
    "readouts are a list": (GRADS, "grads=g, readouts=[1]", REFUSED),
    "readouts are a number": (GRADS, "grads=g, readouts=5", REFUSED),
}
STATES = {
    "state_grads of another name": ("grads=g, state_grads={'nope': g[k]}", REFUSED),
    "state_grads are a number": ("grads=g, state_grads=5", REFUSED),
    "state_grads of another shape": ("grads=g, state_grads={'w': torch.zeros(7)}", REFUSED),
    "state_grads are None": ("grads=g, state_grads={'w': None}", REFUSED),
    "new_state is a list": ("grads=g, new_state=[1]", REFUSED),
    "new_state of another name": ("grads=g, new_state={'nope': torch.zeros(2)}", REFUSED),
    "new_state of None": ("grads=g, new_state={'w': None}", REFUSED),
    "new_state of another shape": ("grads=g, new_state={'w': torch.zeros(9)}", EITHER),
    "new_state of text": ("grads=g, new_state={'w': 'x'}", REFUSED),
}


def _returning() -> Iterator[Plugin]:
    """Yield estimators whose methods return something else than they should."""
    odd = {
        "None": "None", "a number": "5", "a text": "'x'", "a list": "[1]", "an object": "object()",
        "its class": "Mine", "a tensor": "torch.ones(3)", "NotImplemented": "NotImplemented",
    }  # fmt: skip
    yield from _values(
        "claims", {**odd, "a dict": "{'bias': 'none'}", "the class Claims": "Claims"}
    )
    yield from _values(
        "claims",
        {
            "an unknown bias": "Claims(bias='little')",
            "a bias that is None": "Claims(bias=None)",
            "a bias that is a list": "Claims(bias=[])",
            "deterministic='yes'": "Claims(deterministic='yes')",
            "deterministic=tensor": "Claims(deterministic=torch.ones(3))",
            "slopes_only=None": "Claims(slopes_only=None)",
            "why=5": "Claims(why=5)",
            "why=object": "Claims(why=object())",
            "a long why": "Claims(why='x' * 10_000)",
        },
        **{"a long why": RUNS},
    )
    yield from _values(
        "supports",
        {
            "None": "None", "True": "True", "a number": "5", "bytes": "b'no'", "a list": "['no']",
            "an object": "object()", "a tensor": "torch.ones(3)", "a reason": "'not here'",
            "a long reason": "'no ' * 10_000", "surrogates": "'no \\udc80'", "lines": "'a\\nb'",
        },
        **{"a reason": RUNS, "a long reason": RUNS, "surrogates": RUNS, "lines": RUNS, "None": EITHER},
    )  # fmt: skip
    yield from _values(
        "init_state",
        {
            **odd,
            "another objective": "{'nope': {'w': torch.zeros(2)}}",
            "a state that is a list": "{'end': [1]}",
            "a state of text": "{'end': {'w': 'x'}}",
            "a state of None": "{'end': {'w': None}}",
            "a state that is None": "{'end': None}",
            "a state on no device": "{'end': {'w': torch.zeros(2, device='meta')}}",
        },
    )
    yield from _values("__call__", {**odd, "an empty estimate": "Estimate()", "a dict": "{}"})
    yield from _values(
        "predicted_variance",
        {
            **odd,
            "another name": "{'nope': torch.ones(())}",
            "an empty dict": "{}",
            "texts": "{k: 'x' for k in view.shapes}",
            "wrong shapes": "{k: torch.ones(s) for k, s in view.shapes.items()}",
            "NaN": "{k: torch.tensor(float('nan')) for k in view.shapes}",
            "infinity": "{k: torch.tensor(float('inf')) for k in view.shapes}",
            "negative": "{k: torch.tensor(-1.0) for k in view.shapes}",
            "numbers": "{k: 1.0 for k in view.shapes}",
        },
        **{"None": RUNS, "NaN": EITHER, "infinity": EITHER, "negative": EITHER, "numbers": EITHER},
    )
    for what, (before, value, expected) in ESTIMATES.items():
        yield Plugin(what, estimator(__call__=f"{before}return Estimate({value})"), expected)
    start = "return {'end': {'w': torch.zeros(2)}}"
    for what, (value, expected) in STATES.items():
        source = estimator(init_state=start, __call__=f"{GRADS}return Estimate({value})")
        yield Plugin(what, source, expected, command="train")


WORKS = METHODS["__call__(self, view, noise, state)"]
SIDE_EFFECTS = {
    "prints": "print('hello')",
    "writes bytes to stdout": "os.write(1, b'hello')",
    "closes stdout": "sys.stdout = None",
    "warns": "import warnings; warnings.warn('careful')",
    "logs": "import logging; logging.error('careful')",
    "changes the folder": "os.chdir('/')",
    "sets float64": "torch.set_default_dtype(torch.float64)",
    "disables gradients": "torch.set_grad_enabled(False)",
    "seeds torch": "torch.manual_seed(0)",
    "starts a thread": "threading.Thread(target=lambda: time.sleep(0.1), daemon=True).start()",
    "starts a thread that raises": "threading.Thread(target=lambda: 1 / 0).start(); time.sleep(0.05)",
    "leaves a thread": "threading.Thread(target=lambda: time.sleep(100)).start()",
    "registers an exit that raises": "import atexit; atexit.register(lambda: 1 / 0)",
    "collects no garbage": "import gc; gc.disable()",
    "lowers the recursion limit": "sys.setrecursionlimit(150)",
    "ignores the alarm": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "has an object that raises when it goes": (
        "type('Gone', (), {'__del__': lambda self: 1 / 0})()"
    ),
    "removes itself from the modules": "sys.modules.pop(__name__, None)",
    "changes the view's parameters": "[p.data.fill_(0) for p in view.chain.parameters()]",
    "changes the labels": "view.labels.fill_(0)",
    "deletes an attribute of the view": "del view.chain",
    "draws a huge tensor": "noise.normal('x', (10**7, 10**7))",
    "draws huge directions": "dict(noise.directions({'a': (10**6, 10**6)}, 4).items())",
    "draws a negative shape": "noise.normal('x', (-1,))",
    "asks for no directions": "noise.directions(view.sites, 0)",
    "asks for half a direction": "noise.directions(view.sites, 1.5)",
    "asks for an unknown law": "noise.directions(view.sites, 1, 'cauchy')",
    "asks the view for nothing": "view.slopes({})",
    "asks the view for None": "view.slopes(None)",
    "asks for an unknown oracle": "view.hessian()",
    "uses reverse mode": "view.reverse()",
    "uses autograd": "torch.ones(2, requires_grad=True).sum().backward()",
}
HARMLESS = (
    "prints", "warns", "logs", "starts a thread", "registers an exit that raises", "collects no garbage",
    "ignores the alarm", "seeds torch", "has an object that raises when it goes",
    "removes itself from the modules", "sets float64", "disables gradients", "changes the folder",
    "closes stdout", "starts a thread that raises", "leaves a thread", "writes bytes to stdout",
)  # fmt: skip


def _side_effects() -> Iterator[Plugin]:
    """Yield estimators that reach outside themselves."""
    for what, body in SIDE_EFFECTS.items():
        for place in ("__call__", "import"):
            if place == "import" and ("view" in body or "noise" in body):
                continue
            source = f"{HEAD}{body}\n" + estimator()
            if place == "__call__":
                source = estimator(__call__=f"{body}\n{WORKS}")
            expected = (
                EITHER if what in HARMLESS or "changes" in what or "lowers" in what else REFUSED
            )
            if place == "import" and what == "uses autograd":
                expected = RUNS
            yield Plugin(f"{place}: {what}", source, expected, seconds=40.0)


META_BASES = "Defaults, metaclass=Meta"
META = "class Meta(type):\n    {}\n"
OPTIONS: dict[str, tuple[str, str, str]] = {  # class body, options as typed, expected
    "NaN by default": ("x: float = float('nan')", "", RUNS),
    "infinity by default": ("x: float = float('inf')", "", RUNS),
    "NaN": ("x: float = 1.0", "x=nan", EITHER),
    "infinity": ("x: float = 1.0", "x=inf", EITHER),
    "a number beyond all": ("x: float = 1.0", "x=1e400", EITHER),
    "5,000 digits": ("x: int = 1", f"x={'9' * 5000}", REFUSED),
    "500 digits": ("x: int = 1", f"x={'9' * 500}", EITHER),
    "5,000 characters": ("x: str = ''", f"x={'a' * 5000}", RUNS),
    "surrogates": ("x: str = ''", "x=\udc80", RUNS),
    "control characters": ("x: str = ''", "x=\x1b[31m", REFUSED),
    "None for a float": ("x: float | None = 1.0", "x=None", RUNS),
    "none for an int": ("x: int | None = 1", "x=none", RUNS),
    "None for a float that is none": ("x: float = 1.0", "x=None", REFUSED),
    "nothing": ("x: float = 1.0", "x=", REFUSED),
    "a type for type checkers": ("x: 'Nowhere' = 1", "x=1", REFUSED),
    "a type that raises": ("x: '1 / 0' = 1", "x=1", REFUSED),
    "a type that is no type": ("x: 5 = 1", "x=1", REFUSED),
    "a tensor": ("x: torch.Tensor = None", "x=1", REFUSED),
    "a tensor by default": ("x: Any = field(default_factory=lambda: torch.ones(2))", "", EITHER),
    "a function by default": ("x: Any = len", "", RUNS),
    "an object that cannot be shown": (
        "x: Any = type('Q', (), {'__repr__': lambda self: 1 / 0})()", "", REFUSED),
    "an object shown as no text": (
        "x: Any = type('Q', (), {'__repr__': lambda self: 5})()", "", REFUSED),
    "a value without default": ("x: float = field(kw_only=True)", "", REFUSED),
    "a field that is never set": ("x: float = field(init=False)", "", REFUSED),
    "a property that raises": ("@property\ndef directions(self): return 1 / 0", "", EITHER),
    "directions of text": ("directions: str = 'many'", "", EITHER),
    "directions of a list": ("directions: Any = field(default_factory=list)", "", EITHER),
    "an optimizer of a misspelt name": ("state_optimizer = ('sdg', 1.0)", "", EITHER),
    "an optimizer of a number": ("state_optimizer = 5", "", EITHER),
    "an optimizer that raises": ("@property\ndef state_optimizer(self): return 1 / 0", "", EITHER),
    "a validator that raises": (
        "x: Annotated[int, __import__('pydantic').AfterValidator(lambda v: 1 / 0)] = 1", "x=1", REFUSED),
    "a validator that exits": (
        "x: Annotated[int, __import__('pydantic').AfterValidator(lambda v: sys.exit(1))] = 1", "x=1",
        REFUSED),
}  # fmt: skip
CLASSES: dict[str, tuple[dict[str, str], str]] = {  # arguments of estimator, expected
    "a docstring that is a number": ({"top": "__doc__ = 5"}, RUNS),
    "a docstring that is a list": ({"top": "__doc__ = ['a']"}, RUNS),
    "a docstring that is bytes": ({"top": "__doc__ = b'a'"}, RUNS),
    "a docstring that raises": ({"top": "@property\ndef __doc__(self): return 1 / 0"}, RUNS),
    "a docstring of surrogates": ({"top": "__doc__ = 'a \\udc80'"}, REFUSED),  # by Python
    "a docstring of a megabyte": ({"top": "__doc__ = 'a ' * 500_000"}, RUNS),
    "claims whose docstring is a number": (
        {"head": "class Odd(Defaults): pass\n", "top": "pass", "deco": "@dataclass(frozen=True)",
         "claims": "return Claims()"}, RUNS),
    "no module": ({"top": "__module__ = None"}, EITHER),
    "a module that is a number": ({"top": "__module__ = 5"}, EITHER),
    "a module that does not exist": ({"top": "__module__ = 'nowhere'"}, EITHER),
    "a qualified name that is odd": ({"top": "__qualname__ = 'a\\nb'"}, EITHER),
    "slots": ({"deco": "@dataclass(frozen=True, slots=True)"}, RUNS),
    "a class that is not frozen": ({"deco": "@dataclass"}, RUNS),
    "no dataclass": ({"deco": "@(lambda c: c)"}, RUNS),
    "equality that raises": ({"top": "def __eq__(self, other): return 1 / 0",
    "deco": "@dataclass(eq=False)"}, RUNS),
    "truth that raises": ({"top": "def __bool__(self): return 1 / 0"}, RUNS),
    "a length of zero": ({"top": "def __len__(self): return 0"}, RUNS),
    "a text that raises": ({"top": "def __repr__(self): return 1 / 0\n__str__ = __repr__"}, RUNS),
    "copies that raise": ({"top": "def __reduce_ex__(self, p): return 1 / 0"}, EITHER),
    "attributes that raise": (
        {"top": "def __getattribute__(self, name): raise RuntimeError('no ' + name)"}, REFUSED),
    "attributes of every name": ({"top": "def __getattr__(self, name): return self"}, EITHER),
    "a class that lies": ({"top": "__class__ = property(lambda self: int)"}, EITHER),
    "an end that raises": ({"top": "def __del__(self): return 1 / 0"}, EITHER),
    "a metaclass that refuses instances": (
        {"head": META.format("def __call__(cls, *a, **k): return 1 / 0"), "bases": META_BASES},
        REFUSED),
    "a metaclass that makes numbers": (
        {"head": META.format("def __call__(cls, *a, **k): return 5"), "bases": META_BASES},
        REFUSED),
    "a metaclass whose attributes raise": (
        {"head": META.format("def __getattribute__(cls, name): raise RuntimeError('no')"),
         "bases": META_BASES, "deco": "@(lambda c: c)"}, REFUSED),
    "a metaclass with another name": (
        {"head": META.format("__name__ = property(lambda c: 1 / 0)"),
         "bases": META_BASES, "deco": "@(lambda c: c)"}, EITHER),
    "a metaclass whose signature raises": (
        {"head": META.format("__signature__ = property(lambda c: 1 / 0)"),
         "bases": META_BASES}, EITHER),
    "a metaclass whose signature is a number": (
        {"head": META.format("__signature__ = 5"), "bases": META_BASES}, EITHER),
    "a metaclass that says it holds everything": (
        {"head": META.format("def __instancecheck__(cls, x): return 1 / 0"),
         "bases": META_BASES}, EITHER),
    "no defaults": ({"bases": "object"}, RUNS),
    "an abstract method": (
        {"head": "import abc", "bases": "Defaults, abc.ABC",
         "top": "@abc.abstractmethod\ndef more(self): pass"}, REFUSED),
    "init with any arguments": ({"deco": "@(lambda c: c)", "top": "def __init__(self, *a, **k): pass"}, RUNS),
    "init without self": ({"deco": "@(lambda c: c)", "top": "def __init__(): pass"}, REFUSED),
    "new that returns None": ({"deco": "@(lambda c: c)", "top": "def __new__(cls): return None"}, REFUSED),
}  # fmt: skip
DELETED = ("claims", "supports", "init_state", "__call__")


def _classes() -> Iterator[Plugin]:
    """Yield estimators with odd options, odd classes, and missing parts."""
    for what, (body, typed, expected) in OPTIONS.items():
        text = f"./mine.py:Mine[{typed}]" if typed else "./mine.py:Mine"
        yield Plugin(f"option: {what}", estimator(top=body), expected, text=text)
    for what, (arguments, expected) in CLASSES.items():
        yield Plugin(f"class: {what}", estimator(**arguments), expected)
    for name in DELETED:
        source = estimator(bases="object") + f"\ndel Mine.{name}\n"
        yield Plugin(f"class without {name}", source)
        yield Plugin(f"class whose {name} is a number", estimator() + f"\nMine.{name} = 5\n")


WHOLE: dict[str, tuple[str | bytes, str]] = {  # the file, expected
    "an empty file": ("", REFUSED),
    "null bytes": (b"\0" * 100, REFUSED),
    "random bytes": (bytes(range(256)) * 4, REFUSED),
    "UTF-16": (estimator().encode("utf-16"), REFUSED),
    "a BOM": (b"\xef\xbb\xbf" + estimator().encode(), RUNS),
    "Latin-1 without a declaration": (("# \xe9\n" + estimator()).encode("latin-1"), EITHER),
    "Latin-1 with a declaration": (
        ("# -*- coding: latin-1 -*-\n# \xe9\n" + estimator()).encode("latin-1"), RUNS),
    "an unknown coding": (b"# -*- coding: nothing -*-\n", REFUSED),
    "a syntax error": ("class Mine(:\n", REFUSED),
    "a tab error": ("if 1:\n\tx = 1\n        y = 2\n", REFUSED),
    "an open string": ("x = '''", REFUSED),
    "brackets without end": ("(" * 5000, REFUSED),
    "a deep expression": ("x = " + "-" * 100_000 + "1\n", REFUSED),
    "old Python": ("print 'hello'\n", REFUSED),
    "Mac line ends": (estimator().replace("\n", "\r").encode(), EITHER),
    "a missing library": ("import no_such_library\n" + estimator(), REFUSED),
    "a missing name": ("from fgbench import Nothing\n", REFUSED),
    "a relative import": ("from . import other\n" + estimator(), REFUSED),
    "a missing class": (estimator().replace("class Mine", "class Yours"), REFUSED),
    "Mine is a number": ("Mine = 5\n", REFUSED),
    "Mine is None": ("Mine = None\n", REFUSED),
    "Mine is a module": ("import torch as Mine\n", REFUSED),
    "Mine is a text": ("Mine = 'bp'\n", REFUSED),
    "Mine is a built-in class": ("Mine = dict\n", REFUSED),
    "Mine is a class of torch": ("from torch.nn import Linear as Mine\n", REFUSED),
    "Mine is a function": (f"{HEAD}def Mine(): return 5\n", REFUSED),
    "Mine is a function that makes one": (
        estimator().replace("class Mine", "class Other") + "\ndef Mine(): return Other()\n", RUNS),
    "Mine is an instance": (estimator() + "\nMine = Mine()\n", REFUSED),
    "Mine is one of fgbench's": (
        "from fgbench.estimators.fg_a import ActivityForwardGradient as Mine\n", RUNS),
    "Mine is computed by the module": ("def __getattr__(name): return 1 / 0\n", REFUSED),
    "Mine is imported from beside": ("from beside import Mine\n", RUNS),
    "the module is replaced": ("import sys\nsys.modules[__name__] = 5\n" + estimator(), EITHER),
    "the module is removed": ("import sys\ndel sys.modules[__name__]\n" + estimator(), EITHER),
    "a taken name is registered": (
        estimator(deco="@register('estimators', 'bp')\n@dataclass(frozen=True)"), RUNS),
    "a free name is registered": (
        estimator(deco="@register('estimators', 'mine')\n@dataclass(frozen=True)"), RUNS),
    "a number is registered": (estimator(deco="@register('estimators', 5)\n@dataclass"), EITHER),
    "an unknown kind is registered": (estimator(deco="@register('things', 'x')\n@dataclass"), EITHER),
    "nothing is registered": (estimator(deco="@register()\n@dataclass"), REFUSED),
    "a locality's name is taken": (
        estimator(head="register('localities', 'end')(int)\n"), RUNS),
    "builtins are changed": ("import builtins\nbuiltins.len = None\n" + estimator(), EITHER),
    "names that shadow": ("str = int = list = dict = None\n" + estimator(), EITHER),
    "a star import": ("from torch import *\n" + estimator(), RUNS),
}  # fmt: skip
TYPED = {
    "no class": "./mine.py:",
    "no colon": "./mine.py",
    "two colons": "./mine.py::Mine",
    "a dotted class": "./mine.py:Mine.n",
    "a method": "./mine.py:Mine.claims",
    "a space": "./mine.py: Mine",
    "an unknown option": "./mine.py:Mine[m=1]",
    "an open bracket": "./mine.py:Mine[n=1",
    "brackets twice": "./mine.py:Mine[n=1][n=2]",
    "an option twice": "./mine.py:Mine[n=1,n=2]",
    "a negative size": "./mine.py:Mine[n=-1]",
    "an option of text": "./mine.py:Mine[n=two]",
    "an unknown locality": "./mine.py:Mine/nowhere",
    "two localities": "./mine.py:Mine/end/end",
    "a locality in a file": "./mine.py:Mine/./mine.py:Nowhere",
    "a folder": "./:Mine",
    "another ending": "./mine.txt:Mine",
    "a long path": f"./{'a' * 5000}.py:Mine",
    "a path of surrogates": "./\udc80.py:Mine",
    "a path of nothing": ".py:Mine",
    "a null byte": "./mi\0ne.py:Mine",
}


def _files() -> Iterator[Plugin]:
    """Yield files that are odd as a whole, and odd ways to name one."""
    beside = (("beside.py", estimator()),)
    for what, (source, expected) in WHOLE.items():
        yield Plugin(f"file: {what}", source, expected, files=beside)
    for what, text in TYPED.items():
        yield Plugin(f"typed: {what}", estimator(), text=text)


def plugins() -> list[Plugin]:
    """Return every case."""
    parts = (_raising, _endless, _returning, _side_effects, _classes, _files)
    return [plugin for part in parts for plugin in part()]


LONGEST = 620  # characters of a line: a reason of 500, after the method and the seed
OWN = ("careful", "hello", "UserWarning", "fgbench: a thread ended", "fgbench: an object ended")
"""Lines that the estimator itself is the cause of, beside the answer."""


def fault(plugin: Plugin, given: Answer) -> str:
    """Return why an answer is not good, "" if it is."""
    lines = [line for line in given.lines if not any(own in line for own in OWN)]
    if given.code is None:
        return f"did not end; {lines[-1:]}"
    if given.code not in (0, 1, 2) or "Traceback" in given.err + given.out:
        return f"code {given.code}; {lines[-1:]}"
    if plugin.expected == RUNS and given.code:
        return f"should run: {lines}"
    if plugin.expected == REFUSED and not given.code:
        return f"should be refused: {given.out[:200]}"
    if given.code and not (len(lines) == 1 and lines[0].startswith("fgbench: ")):
        return f"not one line: {lines[:3]}"
    if given.code and not any(
        name in lines[0] for name in (".py", "mine", "./:", "aaaa", "nowhere")
    ):
        return f"names no file: {lines}"
    if given.code and (len(lines[0]) > LONGEST or not lines[0].isprintable()):
        return f"long or not printable: {lines[0][:100]!r}"
    if not given.code and lines:
        return f"lines without an error: {lines[:3]}"
    return _record_fault(plugin, given)


def _record_fault(plugin: Plugin, given: Answer) -> str:
    """Return what is wrong with the JSON of a command that did its work, "" for nothing."""
    if given.code == 2:
        return "" if not given.out.strip() else f"half a result: {given.out[:100]}"
    try:
        records = json.loads(given.out)
    except ValueError as error:
        return f"no JSON on stdout: {error}, {given.out[:80]!r}"
    if [r["status"] for r in records[1:]] != ["ok"]:
        return f"FG-A: {[(r['status'], r['reason']) for r in records[1:]]}"
    return ""
