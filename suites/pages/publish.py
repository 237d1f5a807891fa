"""Write asv's site of the tracked numbers, with the scripts that it loads from a network beside it.

``make asv-site`` runs it: asv publish of ``.asv/results``, or of the committed results of
``analysis/records/history`` where there are none, into ``.asv/html``. ``asv preview`` or any server of
files shows it, without a network.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
COMMITTED = ROOT / "analysis" / "records" / "history"
NARROW = '<link rel="stylesheet" href="scripts/narrow.css">\n'
TAG = re.compile(r"""<(script|link)\b[^>]*?\b(src|href)="(https?://[^"]+)"[^>]*>""")


def beside(page: str, scripts: Path = SCRIPTS) -> str:
    """Return a page of asv that loads its scripts and styles from the folder ``scripts``.

    Args:
        page: HTML as asv writes it.
        scripts: folder of the files.

    Returns:
        The page without any address of a network among its scripts and styles.

    Raises:
        FileNotFoundError: a script or style is not there, as after an update of asv.

    Example:
        >>> beside('<script src="https://example.org/md5.min.js" integrity="x"></script>')
        '<script src="scripts/md5.min.js"></script>'
    """

    def local(found: re.Match[str]) -> str:
        kind, attribute, address = found.groups()
        name = address.rpartition("/")[2]
        if not (scripts / name).is_file():
            raise FileNotFoundError(
                f"{address}: asv's page loads it, and {name} is not in {scripts}"
            )
        more = ' rel="stylesheet"' if kind == "link" else ""
        return f'<{kind}{more} {attribute}="scripts/{name}">'

    return TAG.sub(local, page).replace("</head>", f"{NARROW}</head>")


def branch() -> str:
    """Return the branch whose commits are shown: main, that of origin in a clone without it, else HEAD."""
    for name in ("main", "origin/main"):
        known = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
        if subprocess.run(known, capture_output=True, check=False).returncode == 0:
            return name
    return "HEAD"


def settings(results: Path, out: Path) -> dict[str, Any]:
    """Return asv's settings of this repository, for results and a site at these places."""
    lines = (ROOT / "asv.conf.json").read_text(encoding="utf-8").splitlines()
    told: dict[str, Any] = json.loads(
        "\n".join(x for x in lines if not x.lstrip().startswith("//"))
    )
    places = {
        "repo": ROOT,
        "benchmark_dir": ROOT / "suites",
        "results_dir": results,
        "html_dir": out,
    }
    return {**told, **{k: str(path) for k, path in places.items()}, "branches": [branch()]}


def main(arguments: list[str] | None = None) -> int:
    """Write the site.

    Args:
        arguments: of the command line; those of the process where None.

    Returns:
        0, or 2 where there are no results or asv fails.

    Example:
        >>> main(["nowhere"])
        2
    """
    parser = argparse.ArgumentParser("make asv-site", description="Write asv's site.")
    parser.add_argument("results", nargs="?", type=Path, help="folder of asv's results")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / ".asv" / "html")
    asked = parser.parse_args(arguments)
    usual = ROOT / ".asv" / "results"
    results = asked.results or (usual if any(usual.glob("*/machine.json")) else COMMITTED)
    if not any(results.glob("*/machine.json")) or not (results / "benchmarks.json").is_file():
        print(f"no result of asv in {str(results)!r}; run asv run", file=sys.stderr)
        return 2
    out = asked.out.resolve()
    with tempfile.TemporaryDirectory(prefix="fgbench-asv-") as folder:
        config = Path(folder) / "asv.conf.json"
        config.write_text(json.dumps(settings(results.resolve(), out)), encoding="utf-8")
        command = [sys.executable, "-m", "asv", "publish", "--no-pull", "--config", str(config)]
        if subprocess.run(command, check=False).returncode:
            print("asv publish failed, see above", file=sys.stderr)
            return 2
    for page in ("index.html", "error.html"):
        text = (out / page).read_text(encoding="utf-8")
        (out / page).write_text(beside(text), encoding="utf-8")
    shutil.copytree(SCRIPTS, out / "scripts", dirs_exist_ok=True)
    shutil.copy(SCRIPTS.parent / "narrow.css", out / "scripts")
    print(f"results of {results}; show them with: python -m http.server --directory {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
