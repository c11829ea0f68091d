"""Make the pictures of report and site in this folder, and check the pages.

Four small studies are fitted with `fewshot fit` (those in --studies that are there
already are taken as they are). Each page is opened in a headless chromium, 1280 and
390 pixels wide, light and dark: it must not be wider than the window, and axe-core
must find nothing serious or critical. Some of the pictures are kept. With --site the
pages of the documentation, which `make docs` built, are checked and shown likewise.

Needs what is no part of this project: chromium, `pip install playwright`, and
axe-core (`npm pack axe-core`, then package/axe.min.js out of the archive).

Data: chat questions (ChatterBot, BSD-3-Clause), headlines (clickbait, MIT), hands
(Sign Language Digits, Apache-2.0), commands (HWU64, CC-BY-SA-3.0).

Example:
    python docs/screenshots.py --data DATA --axe axe.min.js --studies /tmp/studies
    python docs/screenshots.py --axe axe.min.js --site build/site
"""

import argparse
import csv
import io
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from fewshot_automl.cli.demo import TEXT, demo_folder

DOCS = Path(__file__).parent
SHOWN = {
    "texts": ("expect", "classes"),
    "images": ("classes", "classes"),
    "classes64": ("classes", "classes"),
    "limits": ("trade", "search"),
}
"""First and last section of the report in the pictures of each study."""
KEPT = {
    "texts": ((1280, "light"), (390, "dark")),
    "images": ((1280, "dark"), (390, "light")),
    "classes64": ((1280, "light"), (390, "dark")),
    "limits": ((1280, "dark"), (390, "light")),
}
SITE = {"tutorial-images.html": (1280, "light"), "tracking.html": (390, "dark")}
"""Pages of the site of which a picture is kept, and how it is taken."""
COLOURS, MOST_BYTES = (128, 64, 40), 150_000
"""Of a picture: the most colours that keep it small."""


def drawn(folder: Path, shots: int, to: Path) -> list[str]:
    """Write so many examples of each class into a folder; return the data of a fit."""
    chance = random.Random(0)
    if (folder / "train").is_dir():
        for home in sorted((folder / "train").iterdir()):
            (to / "train" / home.name).mkdir(parents=True)
            for file in chance.sample(sorted(home.iterdir()), shots):
                shutil.copy(file, to / "train" / home.name)
        return ["train", "--test", str(folder / "test")]
    with (folder / "train.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    chance.shuffle(rows)
    with (to / "train.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["text", "label"])
        for label in sorted({row[1] for row in rows}):
            out.writerows([row for row in rows if row[1] == label][:shots])
    return ["train.csv", "--target", "label", "--test", str(folder / "test.csv")]


def fitted(name: str, data: Path, studies: Path, options: list[str]) -> Path:
    """Return the report of a study, fitted unless it is there."""
    out, to = studies / name, studies / "data" / name
    if (out / "report.html").exists():
        return out / "report.html"
    to.mkdir(parents=True)
    if name == "texts":
        home = demo_folder(TEXT, wheels=None, say=print)
        words = [TEXT.train, "--target", "topic", "--test", str(home / TEXT.test)]
        shutil.copy(home / TEXT.train, to)
    elif name == "images":
        words = [*drawn(data / "sign_digits", 8, to), "--metric", "macro_f1"]
    elif name == "classes64":
        words = drawn(data / "hwu64", 6, to)
    else:
        words = [*drawn(data / "clickbait", 8, to)[:3], "--max-parameters", "23M"]
        words += ["--objectives", "latency_ms"]
    command = [sys.executable, "-m", "fewshot_automl", "fit", *words, *options]
    subprocess.run([*command, "--out", str(out)], cwd=to, check=True)
    return out / "report.html"


def opened(browser: Browser, report: Path, width: int, theme: str) -> Page:
    """Return the page; the check is added to it, so its own policy is not enforced."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if theme == "dark" else "light",
        bypass_csp=True,
    )
    page = context.new_page()
    page.goto(report.absolute().as_uri())
    return page


def faults(page: Page, axe: str, width: int) -> list[str]:
    """Return what is wrong with a page."""
    found = []
    if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
        found.append(f"{wide} pixels wide")
    page.evaluate(axe)
    for row in page.evaluate("axe.run()")["violations"]:
        if row["impact"] in ("serious", "critical"):
            where = row["nodes"][0]["html"]
            found.append(f"{row['impact']}: {row['help']} ({where})")
    return found


def picture(page: Page, first: str, last: str, to: Path) -> None:
    """Write a picture from the top of one section to the end of another."""
    begin, end = (page.locator(f"#{name}").bounding_box() for name in (first, last))
    assert begin is not None
    assert end is not None
    top = 0.0 if first == "expect" else begin["y"] - 10
    width = (page.viewport_size or {"width": 0})["width"]
    height = end["y"] + end["height"] + 10 - top
    clip = {"x": 0, "y": top, "width": width, "height": height}
    small(page.screenshot(full_page=True, clip=clip), to)


def site_faults(browser: Browser, site: Path, axe: str, out: Path) -> int:
    """Check every page of the site, write the pictures; return how many faults."""
    wrong = 0
    for file in sorted(site.rglob("*.html")):
        name = file.relative_to(site).as_posix()
        for width in (1280, 390):
            page = opened(browser, file, width, "light")
            found = faults(page, axe, width)
            wrong += len(found)
            print(f"{name} {width}: {'; '.join(found) or 'no fault'}")
            page.context.close()
    for name, (width, theme) in SITE.items():
        page = opened(browser, site / name, width, theme)
        to = out / f"site-{Path(name).stem}-{width}-{theme}.png"
        clip = {"x": 0, "y": 0, "width": width, "height": 1400}
        small(page.screenshot(full_page=True, clip=clip), to)
        page.context.close()
    return wrong


def report_faults(browser: Browser, given: argparse.Namespace, axe: str) -> int:
    """Fit, check each report, write the pictures; return how many faults."""
    wrong = 0
    for name, sections in SHOWN.items():
        options = shlex.split(given.options)
        report = fitted(name, given.data, given.studies.absolute(), options)
        for width in (1280, 390):
            for theme in ("light", "dark"):
                page = opened(browser, report, width, theme)
                if (width, theme) in KEPT[name]:
                    to = given.out / f"report-{name}-{width}-{theme}.png"
                    picture(page, *sections, to)
                found = faults(page, axe, width)
                wrong += len(found)
                print(f"{name} {width} {theme}: {'; '.join(found) or 'no fault'}")
                page.context.close()
    page = opened(browser, given.studies / "texts" / "report.html", 1100, "light")
    picture(page, "expect", "beside", given.out / "report.png")
    return wrong


def small(png: bytes, to: Path) -> None:
    """Write a picture in few colours."""
    colours = Image.open(io.BytesIO(png)).convert("RGB")
    for count in COLOURS:
        few = colours.quantize(
            count, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
        few.save(to, optimize=True)
        if to.stat().st_size <= MOST_BYTES:
            break
    print(f"{to.name}: {to.stat().st_size // 1000} kB")


def main() -> None:
    """Fit, look, write."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("--data", type=Path, help="the shared data sets")
    parser.add_argument("--axe", type=Path, required=True, help="axe.min.js")
    parser.add_argument("--studies", type=Path, help="folder of fits")
    parser.add_argument("--site", type=Path, help="what `make docs` built")
    parser.add_argument("--out", type=Path, default=DOCS, help="default: docs/")
    parser.add_argument(
        "--options", default="--budget 60s", help="of each fit; default: --budget 60s"
    )
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    given = parser.parse_args()
    if given.site is None and None in (given.data, given.studies):
        parser.error("Give --site, or --data and --studies, or all of them.")
    axe, wrong = given.axe.read_text("utf-8"), 0
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=given.chromium, args=["--no-sandbox"]
        )
        if given.site is not None:
            wrong += site_faults(browser, given.site, axe, given.out)
        if None not in (given.data, given.studies):
            wrong += report_faults(browser, given, axe)
        browser.close()
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
