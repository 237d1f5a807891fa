"""Command lines that nobody should type: a table of cases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.makers.forked import Answer

REFUSED, RUNS, EITHER = "refused", "runs", "either"
DATA = "synthetic[size=2,train=32,test=16]"
SMALL = {
    "measure": {"arch": "mlp-1x4", "data": DATA, "draws": "2", "batches": "1", "batch": "4"},
    "train": {"arch": "mlp-1x4", "data": DATA, "epochs": "1", "batch": "16", "records": "new"},
    "speed": {"arch": "mlp-1x4", "data": DATA, "rounds": "3", "batch": "4", "reference": "plain"},
    "fusion": {"groups": "1", "patches": "2", "channels": "2", "classes": "2", "batch": "2", "rounds": "3"},
    "table1": {"fan-in": "2", "fan-out": "2", "batch": "2", "laws": "gaussian", "draws": "8"},
}  # fmt: skip
"""Smallest options of each command; a case changes one of them."""
LONG = "x" * 10_000
DIGITS = "9" * 5_000
NUMBERS = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e30",
    "1.5",
    DIGITS,
    "two",
    "0x10",
    "1,2",
    "\u0663",
    "None",
    LONG,
)
COUNTS = (
    "draws",
    "inits",
    "batches",
    "batch",
    "seeds",
    "threads",
    "epochs",
    "rounds",
    "patches",
    "channels",
    "classes",
)
TEXTS = (
    "",
    " ",
    LONG,
    "nan",
    "\u202eabc",
    "\x1b[31mred",
    "\udc80",
    "a\nb",
    "--",
    "[",
    "]",
    "a[b",
    "a[=]",
    "💥",
    "../..",
    "null",
)


class Input(NamedTuple):
    """A command line and what is expected of the answer."""

    arguments: tuple[str, ...]
    expected: str = REFUSED
    files: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        shown = (a if len(a) < 40 else f"{a[:12]}...({len(a)})" for a in self.arguments)
        return " ".join(ascii(a)[1:-1] or "''" for a in shown)

    def write(self, folder: Path) -> None:
        for name, text in self.files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="surrogateescape")


def line(command: str, *methods: str, **changes: str) -> tuple[str, ...]:
    """Return a command with its smallest options, some of them changed."""
    options = {**SMALL[command], **{k.replace("_", "-"): v for k, v in changes.items()}}
    methods = methods or (("FG-A",) if command in ("measure", "train", "speed") else ())
    return (command, *methods, *(f"--{name}={value}" for name, value in options.items()))


VALID = {  # option to values that are no mistake
    "seed": ("-1", "0"), "cost": ("1.5", "1e30", "inf"), "moments": ("0", "1.5", "1,2"), "precision": (),
    "lr": ("1e30", "1.5", "0", "-1"), "memory": ("0", "1e30", "inf", "1.5", "-1"), "validation": ("0",),
}  # fmt: skip


def _options() -> Iterator[Input]:
    """Yield one bad value for each option of the commands that compute."""
    counts = {
        "measure": ("draws", "inits", "batches", "batch", "seeds", "threads", "seed", "precision", "cost",
        "moments", "jobs"),
        "train": ("epochs", "batch", "seeds", "lr", "train_size", "validation"),
        "speed": ("batch", "rounds"),
        "fusion": ("groups", "patches", "channels", "classes", "batch", "rounds", "memory"),
        "table1": ("fan_in", "fan_out", "batch", "draws"),
    }  # fmt: skip
    for command, names in counts.items():
        for name in names:
            for value in NUMBERS:
                valid = VALID.get(name, ())
                more = (
                    "1,2"
                    if name in ("groups", "fan_in", "fan_out")
                    or (command, name) == ("table1", "batch")
                    else None
                )
                expected = (
                    EITHER if value in valid or value == more or value == "\u0663" else REFUSED
                )
                yield Input(line(command, **{name: value}), expected)
    choices = {
        "measure": ("arch", "data", "along", "engine", "device", "dtype", "against"),
        "train": ("optimizer", "schedule", "graph", "set"),
        "speed": ("reference",),
        "table1": ("laws",),
    }
    for command, names in choices.items():
        for name in names:
            for value in TEXTS:
                yield Input(line(command, **{name: value}))
    for value in TEXTS:
        yield Input(line("measure", value))
        yield Input(line("measure", f"fg_a[law={value}]"))
        yield Input(line("measure", f"fg_a/{value}"), REFUSED)
        yield Input(("check", value))
        yield Input(("list", value), EITHER if value in ("", "--") else REFUSED)
        yield Input(("figure", value, "records"))
        yield Input(("sweep", value))
    for value in NUMBERS:
        yield Input(
            line("measure", f"fg_a[directions={value}]"), EITHER if value == "\u0663" else REFUSED
        )
        yield Input(
            line("measure", f"np[step={value}]"),
            EITHER if value in ("1.5", "1e30", "\u0663") else REFUSED,
        )
        yield Input(
            line("measure", arch=f"mlp-1x{value}"), EITHER if value == "\u0663" else REFUSED
        )
        yield Input(
            line("measure", arch=f"mlp-{value}x4"), EITHER if value in ("0", "\u0663") else REFUSED
        )
        yield Input(
            line("measure", data=f"synthetic[classes={value},size=2]"),
            EITHER if value == "\u0663" else REFUSED,
        )


HUGE = (
    *(f"synthetic[size={n}]" for n in (10**5, 10**9, 10**30)),
    *(f"synthetic[train={n}]" for n in (10**10, 10**18, 10**30)),
    *(f"synthetic[channels={n}]" for n in (10**9, 10**20)),
    "synthetic[classes=1]", "synthetic[classes=10000000000]", "synthetic[test=0]", "synthetic[noise=nan]",
    "synthetic[noise=inf]", "synthetic[seed=1.5]", "imagefolder", "imagefolder[root=nowhere]",
    "imagefolder[root=/dev/null]", "imagefolder[root=,size=4]", "imagefolder[size=0]",
    "imagefolder[test_fraction=2]", "imagefolder[root=\udc80]", "imagefolder[root=a\0b]",
    f"imagefolder[root={LONG}]", "mnist[size=3]", "digits[]x", "digits[[]]",
)  # fmt: skip
NETS = (
    "mlp-1x100000000000", "mlp-100000000000x4", "mlp-0x4", "mlp-1x0", "mlp-1", "mlp", "mlp-", "mlp-x",
    "MLP-1x4",
    "mlp-1x4[width=5]x", "mlp-1x4[activation=swish]", "mlp-1x4[depth=-1]", "mlp-1x4x4", "localmixer",
    "localmixer-m/8/0", "localmixer-m/8/16[channels=0]", "localmixer-s/1/1[channels=100000000000000]",
    "localmixer-s/1/1[groups=1000000000000000000000000000000]", "cnn[channels=0]", "fg_a", "bp/end",
    "./net.py",
    "./net.py:Net", "mlp-1x4/local",
)  # fmt: skip
METHODS = (
    "BPP", "bp/", "/end", "bp//end", "bp/end/end", "BP/local", "bp/end[x=1]", "bp[x=1]", "fg_a[directions]",
    "fg_a[=1]", "fg_a[directions=]", "fg_a[directions=1,directions=2]", "fg_a[directions=1", "fg_a]",
    "fg_a[[]]",
    "fg_a[directions=1]x", "fg_a[law=gauss]", "fg_a/lokal", "fg_a/interlocking[n=0]",
    "fg_a/interlocking[n=-1]",
    "fg_a/interlocking[n=1000000]", "fg_a/local[keep=q]", "fg_a/local[keep=]", "np[step=0]", "np[step=-1]",
    "np[step=nan]", "np[step=inf]", "wp[step=1e-400]", "fg_w[credit=summed,credit=released]", "fa[scale=nan]",
    "dfa[scale=inf]", "fg_a[directions=1000000000000]", "fg_a[directions=1000000000000000000000]",
    "contrastive", "bp/contrastive[temperature=0]", "bp/contrastive[temperature=nan]",
    "bp/contrastive[features=0]",
    "bp/contrastive[crop=2]", "bp/contrastive[features=100000000000000]", "a b", "fg_a /end", " FG-A",
    "fg_a/./nowhere.py:L", "./nowhere.py:E/./nowhere.py:L", "cv[base=./nowhere.py:B]/end", "~nobody/x.py:A",
)  # fmt: skip
LINES: tuple[tuple[str, ...], ...] = (
    ("measure",), ("train",), ("speed",), ("sweep",), ("check",), ("figure",), ("report",), ("paper",),
    ("meazure", "FG-A"), ("--nothing",), ("measure", "FG-A", "--nothing"), ("measure", "FG-A", "--draws"),
    ("measure", "--", "--draws=3"), ("list", "estimator"), ("list", "a", "b"), ("doctor", "x"), ("demo", "x"),
    ("report", "nowhere"), ("report", "/dev/null"), ("report", ""), ("report", LONG), ("report", "a\0b"),
    ("figure", "layers", "nowhere"), ("figure", "layerz", "nowhere"), ("figure", "layers", ""),
    ("figure", "history", "nowhere"), ("figure", "layers", LONG), ("paper", "nowhere"), ("paper", ""),
    ("figure", "layers", "a\0b"), ("report", "nowhere", "--jobs", "0"), ("report", "nowhere", "--jobs",
    DIGITS),
    ("sweep", "nowhere.toml"), ("sweep", "/dev/null"), ("sweep", "."), ("sweep", LONG), ("sweep", "a\0b"),
    ("check", "fg_b"), ("check", "fg_a/lokal"), ("check", "mlp-0x0"), ("check", "digit"),
    ("check", "fg_a", "fg_w"), ("check", "./nowhere.py:E"), ("check", LONG), ("check",
    f"fg_a[directions={DIGITS}]"),
    ("doctor", "--data-dir"),
)  # fmt: skip
SETS = (
    "momentum", "momentum=", "momentum=two", "momentum=nan", "momentum=inf", "momentum=-1", "momentum=2",
    "momentom=0.9", "=1", "==", "", " ", "weight_decay=-1", "weight_decay=nan", f"momentum={DIGITS}",
    f"{LONG}=1", f"momentum={LONG}", "crop=2", "crop=-1", "crop=nan", "flip=perhaps", "blur=7", "head_lr=nan",
    "optimizer=adamm", "schedule=never", "epochs=0", "epochs=-1", "epochs=1.5", "batch=0", "lr=nan",
    "lr=text",
    "warmup=-1", "warmup=1e30", "betas=1", "steps=5", "method=BP", "seed=3",
)  # fmt: skip
SWEEPS = {
    "empty": "", "text": "hello", "not TOML": "a = = 1", "a list": "a = [1, 2]", "no grid": "title = 'x'",
    "NaN": "[[grid]]\nname='a'\nverb='measure'\nmethods=['FG-A']\narch=nan",
    "a number for methods": "[[grid]]\nname='a'\nverb='measure'\nmethods=5",
    "an empty grid": "[[grid]]", "a grid of text": "grid = 'x'", "a grid of numbers": "grid = [1]",
    "an unknown verb": "[[grid]]\nname='a'\nverb='meazure'",
    "an unknown field": "[[grid]]\nname='a'\nverb='measure'\nfoo=1",
    "null bytes": "a = '\0'", "surrogates": "a = '\udcff'", "a long line": f"a = '{LONG}",
    "a long number": f"a = {DIGITS}", "deep": "a = " + "[" * 5000, "a date": "grid = 1979-05-27",
}  # fmt: skip


def _lines() -> Iterator[Input]:
    """Yield wrong command lines, names of methods, nets and data, recipe values and sweeps."""
    for text in HUGE:
        yield Input(line("measure", data=text))
    for text in NETS:
        yield Input(
            line("measure", arch=text),
            EITHER if text in ("mlp-1x4x4", "mlp", "localmixer", "cnn[channels=0]") else REFUSED,
        )
    for text in METHODS:
        easy = text in (
            "fg_a/interlocking[n=1000000]",
            "fg_a/local[keep=]",
            "np[step=inf]",
            "fg_a[[]]",
        )
        yield Input(line("measure", text), EITHER if easy else REFUSED)
    yield Input(("check", "mlp"), EITHER)  # a name without its sizes has some
    for words in LINES:
        yield Input(words)
    for text in SETS:
        yield Input(line("train", set=text))
    for name, text in SWEEPS.items():
        yield Input(("sweep", "s.toml", "--dry-run"), files=(("s.toml", text), ("name", name)))
    for dots in ("records", "data_dir"):
        for value in ("/dev/null/x", LONG, "a\0b", "/proc/nowhere"):
            data = {"data": "mnist"} if dots == "data_dir" else {}
            yield Input(line("measure", **{dots: value}, **data))
    for figure in ("layers", "table1", "size", "history"):
        yield Input(("figure", figure, "empty"), files=(("empty/x.txt", ""),))
        yield Input(("figure", figure, "bad"), files=(("bad/x.json", "{"),))


def inputs() -> list[Input]:
    """Return every case once."""
    return list({case.name: case for part in (_options, _lines) for case in part()}.values())


def fault(case: Input, given: Answer) -> str:
    """Return why an answer is not good, "" if it is."""
    lines = given.lines
    if given.code is None:
        return f"did not end; {lines[-1:]}"
    if given.code not in (0, 1, 2) or "Traceback" in given.err + given.out:
        return f"code {given.code}; {lines[-1:]}"
    if case.expected == REFUSED and not given.code and not _skipped(given.out):
        return f"accepted: {given.out[:200]!r}"
    lines = [text for text in lines if text.startswith("fgbench: ")]
    if given.code and len(lines) != 1:
        return f"not one line: {given.lines[:4]}"
    if not given.code and lines:
        return f"lines without an error: {lines[:3]}"
    hostile = any(len(word) > 200 for word in case.arguments)
    if lines and (len(lines[0]) > (200 if hostile else 500) or not lines[0].isprintable()):
        return f"{len(lines[0])} characters, or not printable: {lines[0]!r}"
    return ""


def _skipped(out: str) -> bool:
    """Return whether a table says that a method was skipped or diverged, which is an answer too."""
    return "skipped" in out or "diverged" in out
