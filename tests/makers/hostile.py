"""Records whose texts try to be markup, scripts, formulas and paths: each payload in each field."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from tests.makers.records import WHERE, a_measure, a_train, measured

PAYLOADS = (
    "<script>hit()</script>",
    "</script><script>hit()</script>",
    "</title></style></textarea><svg onload=hit()>",
    "<!--<script>",
    "--><img src=x onerror=hit()>",
    '"><img src=x onerror=hit()>',
    "' autofocus onfocus=hit() x='",
    '" onmouseover="hit()" x="',
    "`onload=hit()`",
    "javascript:hit()",
    "data:text/html,<script>hit()</script>",
    "{{ 7 * 7 }}{% for x in y %}",
    "${hit()}\\u003cscript>",
    '\\"; hit(); //',
    "a\u2028hit()\u2029b\n=hit()\r\n",
    "&lt;script&gt;hit()&#60;",
    "%{meta.epoch[0]}<extra>%{y}</extra>",
    "$\\frac{1}{0}$ \\[hit\\]",
    "../../../../etc/passwd",
    "..\\..\\x:y|z?*\x00\x1b[31m",
    "=cmd|' /C calc'!A0",
    "-hit()",
    "@SUM(1;=2)\t+3",
    "\u202egnp.exe\u0301\U0001f600",
    "lone \ud800 <i>",
)


def _set(*path: str) -> Callable[[dict[str, Any], str], None]:
    """Return a function that puts a text at a place of a record."""

    def put(record: dict[str, Any], text: str) -> None:
        for name in path[:-1]:
            record = record.setdefault(name, {})
        record[path[-1]] = text

    return put


def _site(record: dict[str, Any], text: str) -> None:
    record["per_site"] = {text: SITES["body.0.l0"]}


def _option(record: dict[str, Any], text: str) -> None:
    record["options"] = {text: text}


def _setting(record: dict[str, Any], text: str) -> None:
    record["settings"] = {text: text, "lr": text}


FIELDS: dict[str, Callable[[dict[str, Any], str], None]] = {
    **{
        name: _set(name)
        for name in (
            *("method", "estimator", "locality", "arch", "data", "device", "commit", "started"),
            *("reason", "key", "verb", "engine", "truth"),
        )
    },
    "device_name": _set("where", "device_name"),
    "platform": _set("where", "platform"),
    "documentation": _set("about", "documentation"),
    "promises": _set("about", "promises"),
    "file": _set("about", "file"),
    "claims": _set("about", "claims", "why"),
    "claimed": _set("claimed", "why"),
    "site": _site,
    "option": _option,
    "setting": _setting,
}


def hostile(step: int = 1) -> Iterator[dict[str, Any]]:
    """Yield a record for each payload in each field, or every so many of them; some are trainings."""
    for row, (field, put) in enumerate(FIELDS.items()):
        for at, text in enumerate(PAYLOADS):
            if (row + at) % step:
                continue
            record = one(field, text, train=at % 3 == 2 and field not in ("site", "claimed"))
            put(record, text)
            yield record


def one(field: str, text: str, train: bool = False) -> dict[str, Any]:
    """Return a harmless record of its own key."""
    record = deepcopy(a_train("FG-A", epochs=2) if train else a_measure("FG-A", per_site=SITES))
    digest = hashlib.sha256(f"{field} {text}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    record |= {"key": digest, "case_key": digest, "where": {**WHERE}}
    record["about"] = {"class": "Mine", "module": "theirs", "file": "", "claims": {"bias": "some"}}
    if not train:
        record["claimed"] = {"bias": "some", "why": ""}
    return record


_NUMBERS = {"relative_variance": measured(5.0), "predicted_variance": 5.1}
SITES = {"body.0.l0": {**_NUMBERS, "bias": {**measured(0.1), "p_adjusted": 0.5, "detectable": 0.2}}}
