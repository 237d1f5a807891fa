"""Write a static site with the tables and figures of a folder of records."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError
from fgbench.records import interrupts
from fgbench.reporting.frames.csv_files import write_csv
from fgbench.reporting.frames.load import load
from fgbench.reporting.site import history, overview, pages, paths, pictures
from fgbench.reporting.site.facts import by_moment, facts
from fgbench.reporting.site.leaderboard import entries
from fgbench.reporting.site.publish import publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Environment

    from fgbench.reporting.frames.select import Only
    from fgbench.reporting.site.method_docs import About

TEMPLATES = Path(__file__).parent / "templates"
POLICY = {
    **dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'"),
    "script-src": "'self' file:",
    "style-src": "'self' file: 'unsafe-inline'",
    "img-src": "'self' file: data: blob:",
}
"""Content security policy of the pages: only files of the site, and no script in a page.

Firefox has no ``'self'`` for pages from the disk, hence ``file:``. Plotly writes styles into elements, and
saves a picture by ``data:`` and ``blob:``.
"""


def write(
    folder: Path,
    out: Path,
    about: About | None = None,
    jobs: int = 1,
    only: Only | None = None,
    tell: Callable[[str], None] = lambda line: None,
    tracked: Path | None = None,
) -> Path:
    """Write the site of a folder of records.

    The site has an overview, a page per method and a page per architecture and data set, and a page of
    the history of tracked numbers where results of asv are given. The pages work
    from the disk, without a server or a network; without JavaScript they show pictures and complete
    tables. An earlier site in the folder is replaced; files that no report wrote are never changed.

    Args:
        folder: records.
        out: folder of the site, created if missing.
        about: the registered estimators, localities, architectures and data sets, see
            `fgbench.registry.entries`; the pages take their descriptions from it.
        jobs: processes that draw pictures. With more than one, a script that calls this needs
            ``if __name__ == "__main__"``.
        only: which records are used; all by default.
        tell: called with a line of progress before each part of the work.
        tracked: folder of asv's results, such as ``.asv/results``, for a page of their history.

    Returns:
        The path of the overview, ``out/index.html``.

    Raises:
        UsageError: the folder does not exist, has no matching record or is ``out``, the extra ``report``
            is not installed, or the site would overwrite a file that no report wrote.

    Example:
        >>> write(Path("records"), Path("site"))  # doctest: +SKIP
        PosixPath('site/index.html')
    """
    if os.path.realpath(out) == os.path.realpath(folder):  # which ends in a loop of links too
        raise UsageError(
            f"{str(out)!r} is the folder of the records; choose another folder for the site, such as "
            f"-o {str(Path(out) / 'site')!r}"
        )
    tell(f"reading {folder}")
    records = load(folder)
    records = only.of(records) if only else records
    environment, script = _tools()
    report = facts(records)
    page_paths = paths.page_paths(report.methods, report.panels)
    out = Path(out)
    with tempfile.TemporaryDirectory(prefix="fgbench-report-") as temporary:
        new = Path(temporary)
        for name in ("methods", "architectures", "assets", "data"):
            (new / name).mkdir()
        tell("drawing figures")
        found = history.tracked(tracked, new) if tracked is not None else None
        gallery = pictures.draw_all(report, page_paths, new, jobs)
        numbers = by_moment(report)
        write_csv(numbers, new / "data" / "measures.csv")
        write_csv(report.curves, new / "data" / "curves.csv")
        (new / "assets" / "plotly.min.js").write_text(script, encoding="utf-8")
        for name in ("site.css", "site.js"):
            (new / "assets" / name).write_bytes((TEMPLATES / name).read_bytes())
        site = pages.Site(report, entries(report), page_paths, gallery, about or {}, found)
        contexts = _contexts(site)
        for k, (path, (template, context)) in enumerate(contexts.items(), 1):
            tell(f"writing page {k} of {len(contexts)}")
            root = "../" * path.count("/")
            page = environment.get_template(template).render(**context, root=root, site=site)
            (new / path).write_text(page, encoding="utf-8", errors="replace", newline="\n")
        with interrupts.whole():  # no site of which a half is new
            publish(new, out)
    return out / "index.html"


def _contexts(site: pages.Site) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the template of every page and the template's variables, by the path of the page."""
    contexts = {"index.html": ("index.html", overview.context(site))}
    for method, path in site.page_paths.methods.items():
        contexts[path] = ("method.html", pages.method(site, method))
    for panel, path in site.page_paths.panels.items():
        contexts[path] = ("architecture.html", pages.architecture(site, panel))
    if site.tracked:
        contexts[history.PAGE] = ("history.html", history.context(site.tracked))
    return contexts


def _tools() -> tuple[Environment, str]:
    """Return the template environment and plotly's JavaScript, from packages of the extra ``report``."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UsageError(
            f"fgbench report needs {error.name}: pip install 'fgbench[report]'"
        ) from None
    from fgbench.reporting.site.method_docs import breakable, first_line, split_code, unbroken

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["split_code"] = split_code
    environment.filters |= {"first_line": first_line, "breakable": breakable, "unbroken": unbroken}
    environment.globals["policy"] = "; ".join(f"{name} {of}" for name, of in POLICY.items())
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment, str(get_plotlyjs())
