"""A folder of records as a static site: tables, figures, and what was damaged or old."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError
from fgbench.reporting.frames.load import load
from fgbench.reporting.site import overview, pages, pictures
from fgbench.reporting.site.facts import by_moment, facts
from fgbench.reporting.site.leaderboard import entries
from fgbench.reporting.site.paths import places
from fgbench.reporting.site.publish import publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Environment

    from fgbench.reporting.frames.select import Only
    from fgbench.reporting.site.method_docs import About

TEMPLATES = Path(__file__).parent / "templates"


def write(
    folder: Path,
    out: Path,
    about: About | None = None,
    jobs: int = 1,
    only: Only | None = None,
    tell: Callable[[str], None] = lambda said: None,
) -> Path:
    """Write the report of a folder of records.

    A page for all of it, one per method and one per architecture with its data. They need neither
    network nor server, and without scripts they show pictures and whole tables. What an earlier report
    left in the folder is replaced; files that no report wrote are never touched.

    Args:
        folder: of records.
        out: folder for the site, made if missing.
        about: what is registered, kind by kind, see `fgbench.registry.entries`: the pages say from it
            what a method is.
        jobs: processes that draw pictures; a script that asks for several needs a guarded main.
        only: the records wanted.
        tell: called with a line before each part of the work.

    Returns:
        The first page, ``out/index.html``.

    Raises:
        UsageError: the folder does not exist or holds no record that is wanted, the extra ``report`` is
            not installed, or a file that no report wrote is in the way.
    """
    tell(f"reads {folder}")
    records = load(folder)
    records = only.of(records) if only else records
    environment, script = _tools()
    found = facts(records)
    rows, laid = entries(found), places(found.methods, found.panels)
    out = Path(out)
    with tempfile.TemporaryDirectory(prefix="fgbench-report-") as temporary:
        made = Path(temporary)
        for name in ("methods", "architectures", "assets", "data"):
            (made / name).mkdir()
        tell("draws pictures")
        gallery = pictures.drawn(found, laid, made, jobs)
        numbers = by_moment(found)
        numbers.to_csv(made / "data" / "measures.csv", index=False, lineterminator="\n")
        found.curves.to_csv(made / "data" / "curves.csv", index=False, lineterminator="\n")
        (made / "assets" / "plotly.min.js").write_text(script, encoding="utf-8")
        for name in ("site.css", "site.js"):
            (made / "assets" / name).write_bytes((TEMPLATES / name).read_bytes())
        site = pages.Site(found, rows, laid, gallery, about or {})
        shown: dict[str, tuple[str, dict[str, Any]]] = {
            "index.html": ("index.html", overview.context(site))
        }
        for method, path in laid.methods.items():
            shown[path] = ("method.html", pages.method(site, method))
        for panel, path in laid.panels.items():
            shown[path] = ("architecture.html", pages.architecture(site, panel))
        for k, (path, (template, context)) in enumerate(shown.items(), 1):
            tell(f"writes page {k} of {len(shown)}")
            root = "../" * path.count("/")
            page = environment.get_template(template).render(**context, root=root, site=site)
            (made / path).write_text(page, encoding="utf-8", errors="replace", newline="\n")
        publish(made, out)
    return out / "index.html"


def _tools() -> tuple[Environment, str]:
    """Load what only the report needs: the templates' language and plotly's script."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UsageError(
            f"fgbench report needs {error.name}: pip install 'fgbench[report]'"
        ) from None
    from fgbench.reporting.site.method_docs import breakable, first_line, pieces

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pieces"] = pieces
    environment.filters |= {"parted": first_line, "broken": breakable}
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment, str(get_plotlyjs())
