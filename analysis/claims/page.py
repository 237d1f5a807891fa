"""Collect the verdicts of all scripts of this folder as README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audit import HERE, number

INTRODUCTION = """\
# Claims audit

Sentences that have been published about learning without backprop, each judged by one script. A verdict is
about what the script measures, on the networks it names, and no more. `python analysis/claims/NAME.py` judges
the committed records again, with `--run` it runs the commands that made them, in one to three minutes of one
core; `python analysis/claims/page.py` writes this page. Intervals are of 95 %; n counts networks, seeds or
timed rounds. Quotations are from the abstracts, as found in public copies."""


def page() -> str:
    """Return the page."""
    claims = {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(HERE.glob("*.json"))
    }
    lines = ["| claim | verdict | measured | n |", "| :-- | :-- | --: | --: |"]
    lines += [_row(name, claim) for name, claim in claims.items()]
    parts = [
        INTRODUCTION,
        "\n".join(lines),
        *(_part(name, claim) for name, claim in claims.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _row(name: str, claim: dict[str, Any]) -> str:
    """Return the row of a claim."""
    verdict = claim["verdict"]
    cells = (f"[{claim['sentence']}](#{name.replace('_', '-')})", f"**{verdict['words']}**")
    return f"| {' | '.join((*cells, number(verdict), str(verdict['n'])))} |"


def _part(name: str, claim: dict[str, Any]) -> str:
    """Return the part of the page about a claim."""
    verdict = claim["verdict"]
    return "\n\n".join(
        (
            f"## {name.replace('_', ' ')}",
            f"> {claim['sentence']}",
            f"{claim['source']}",
            f"Measured by [{name}.py]({name}.py): {claim['measured']}",
            "\n".join(("```", *(f"fgbench {command}" for command in claim["commands"]), "```")),
            f"**{_sentence(verdict['words'])}.** {verdict['why']} {_sentence(verdict['quantity'])}: "
            f"{number(verdict)}, n = {verdict['n']}.",
            f"![{name.replace('_', ' ')}]({name}.png)",
            f"What would change it: {claim['changes']}",
        )
    )


def _sentence(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[0].upper() + text[1:]


if __name__ == "__main__":
    Path(HERE, "README.md").write_text(page(), encoding="utf-8", newline="\n")
    print("wrote README.md")
