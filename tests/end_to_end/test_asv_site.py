"""asv's site with its scripts beside it: what make asv-site writes, in a browser without a network."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.makers.paths import ROOT

asv = pytest.importorskip("asv", reason="asv is not installed")
PAGES = ROOT / "suites" / "pages"
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def publish() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish", PAGES / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page_of_asv(name: str) -> str:
    return (Path(asv.__file__).parent / "www" / name).read_text("utf-8")


def test_everything_that_asvs_page_loads_lies_beside_it(publish: ModuleType) -> None:
    """Fails after an update of asv that asks for other scripts."""
    for name in ("index.html", "error.html"):
        page = publish.beside(page_of_asv(name))
        assert not re.search(r"<(script|link)[^>]*https?://", page)
        for file in re.findall(r'"scripts/([^"]+)"', page):
            assert (PAGES / "scripts" / file).is_file() or (PAGES / file).is_file()
    with pytest.raises(FileNotFoundError, match=r"new\.js is not in"):
        publish.beside('<script src="https://example.org/new.js"></script>')


def test_scripts_are_those_that_asv_names_or_stated_to_be_others(publish: ModuleType) -> None:
    """asv states a hash of each script; the README of the folder names those that come unminified."""
    readme = (PAGES / "scripts" / "README.md").read_text("utf-8")
    tags = re.findall(r'<(?:script|link)[^>]*"https?://[^>]*>', page_of_asv("index.html"))
    assert len(tags) >= 10
    for tag in tags:
        name = re.search(r'"https?://[^"]*/([^"/]+)"', tag)[1]  # type: ignore[index]
        kind, digest = re.search(r'integrity="(sha\d+)-([^"]+)"', tag).groups()  # type: ignore[union-attr]
        content = (PAGES / "scripts" / name).read_bytes()
        same = base64.b64encode(hashlib.new(kind, content).digest()).decode() == digest
        other = (f"`{name}` (unminified)", f"`{name}` (another version)")
        assert same or any(words in readme for words in other), name
        assert f"`{name}`" in readme  # with its licence


def test_without_results_it_is_one_line(
    publish: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish.main([str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"no result of asv in {str(tmp_path)!r}; run asv run"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site of the committed results, served."""
    out = tmp_path_factory.mktemp("asv") / "html"
    command = [sys.executable, str(PAGES / "publish.py"), "-o", str(out)]
    results = ROOT / "analysis" / "records" / "history"
    done = subprocess.run([*command, str(results)], cwd=out.parent, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    handler = partial(SimpleHTTPRequestHandler, directory=str(out))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser: install Debian's chromium")
def test_graphs_show_without_a_network_and_without_an_error(address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install it")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 400):
            context = browser.new_context(viewport={"width": width, "height": 900})
            context.route(lambda url: not url.startswith(address), lambda route: route.abort())
            page, wrong = context.new_page(), []
            watch(page, wrong)
            page.goto(address)
            page.locator(
                "#summarygrid-display .benchmark-plot, #summarygrid-display canvas"
            ).first.wait_for()
            page.goto(f"{address}#quality.Estimate.track_inefficiency")
            page.locator("#main-graph canvas").first.wait_for()
            text = page.locator("body").inner_text()
            assert "1/efficiency - 1" in text  # the unit
            assert "LG-FG-A" in text  # a parameter
            assert wrong == []
            context.close()
        browser.close()


def watch(page: Any, wrong: list[str]) -> None:
    """Note errors of a page and what it failed to load."""
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
