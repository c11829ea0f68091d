"""The site builds strictly; axe and the Nu checker find no fault in it or in reports.

Needs what is no part of this project: `pip install axe-playwright-python`, a system's
chromium; and for the checker Java and the file that VNU_JAR names (`npm pack vnu-jar`,
then package/build/dist/vnu.jar out of the archive). What is missing is skipped.
"""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from fewshot_automl import Settings, fit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOOKED_AT = ("index", "how-to", "tutorial-images", "pages/zoo", "pages/commands/fit",
             "pages/api/study")  # fmt: skip
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site as `make docs` does; a warning is an error."""
    pytest.importorskip("sphinx", reason="Sphinx, of the extra `docs`, is missing")
    to = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "-b", "html", "-n", "-W", "--keep-going"]
    made = subprocess.run([*words, ROOT / "docs", to], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return [to / f"{name}.html" for name in LOOKED_AT]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Fit a few texts and a few pictures, and return the reports."""
    home = tmp_path_factory.mktemp("fits")
    texts = [f"{a} {b}" for a in ("lovely", "dreadful") for b in "abcdefgh"]
    labels = ["<good>"] * 8 + ['"bad" & worse'] * 8
    table = home / "few.csv"
    pd.DataFrame({"text": texts, "label": labels}).to_csv(table, index=False)
    for number in range(12):
        picture = home / "photos" / ("dark" if number % 2 else "light")
        picture.mkdir(parents=True, exist_ok=True)
        shade = (200 - 190 * (number % 2) + number,) * 3
        Image.new("RGB", (40, 40), shade).save(picture / f"{number}.png")
    asked = Settings(trials=2, budget_seconds=None, oracle="random")
    for data, methods in (
        (table, ["majority", "tfidf"]),
        (home / "photos", ["majority"]),
    ):
        with warnings.catch_warnings(action="ignore"):  # of little data
            target = "label" if data == table else None
            out = home / f"{data.stem}-fit"
            fit(data, target=target, methods=methods, settings=asked, out=out)
    return [home / f"{name}-fit" / "report.html" for name in ("few", "photos")]


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    place = shutil.which("chromium") or shutil.which("google-chrome")
    if place is None:
        pytest.skip("There is no chromium.")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def seen(browser, page, width, **more):
    """Yield a page in a window so wide, and the words of its console."""
    size = {"width": width, "height": 900}
    shown = browser.new_context(viewport=size, **more).new_page()
    said = []
    shown.on("console", lambda message: said.append(message.text))
    shown.goto(page.as_uri())
    return shown, said


def faults(browser, page):
    """Return what axe finds serious, and what is wider than the window."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for width in WIDTHS:
        for theme in ("light", "dark"):
            # The check is a script that a page's own policy would refuse.
            more = {"color_scheme": theme, "bypass_csp": True}
            shown, _ = seen(browser, page, width, **more)
            where = f"{page.name}, {width}, {theme}"
            if (wide := shown.evaluate("document.body.scrollWidth")) > width:
                yield f"{where}: {wide} wide"
            for row in axe.run(shown).response["violations"]:
                if row["impact"] in ("serious", "critical"):
                    yield f"{where}: {row['help']}: {row['nodes'][0]['html']}"
            shown.context.close()


def errors(pages):
    """Return what the Nu HTML checker calls an error."""
    jar = os.environ.get("VNU_JAR")
    if jar is None or shutil.which("java") is None:
        pytest.skip("VNU_JAR names no checker, or there is no Java.")
    words = ["java", "-jar", jar, "--errors-only", "--stdout", "--format", "gnu"]
    return subprocess.run([*words, *pages], capture_output=True, text=True).stdout


def test_axe_finds_nothing_serious_in_reports(reports, browser):
    assert [found for page in reports for found in faults(browser, page)] == []


def test_axe_finds_nothing_serious_in_the_site(site, browser):
    assert [found for page in site for found in faults(browser, page)] == []


def test_reports_show_all_under_their_own_policy(reports, browser):
    for page in reports:
        shown, said = seen(browser, page, WIDTHS[0])
        broken = "[...document.images].filter(image => !image.naturalWidth).length"
        assert (shown.evaluate(broken), said) == (0, [])
        shown.context.close()


def test_the_checker_finds_no_error_in_reports(reports):
    assert errors(reports) == ""


def test_the_checker_finds_no_error_in_the_site(site):
    assert errors(site) == ""
