"""Measure the size of the house against the goals of its refounding.

Counts the lines and files of the package and of the tests, room by room, the terms of
the search's glossary in docs/explanation.md, circles of imports between rooms and
import contracts that are broken. The last line is one JSON object: ``{"benchmark",
"figures", "falls_short"}``.

Examples:
    python benchmarks/size.py
    python benchmarks/size.py --quick    # without the import contracts
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fewshot_automl"
GOALS = {
    "package lines": 28_700,
    "package files": 175,
    "oracle lines": 1_600,
    "test lines": 19_000,
    "glossary terms": 30,
    "circles": 0,
    "broken contracts": 0,
}
"""The most that issues 10 to 15 allow."""


def lines_by_room(root: Path) -> tuple[Counter[str], int]:
    """Return the lines of Python in each folder or file of `root`, and the files."""
    lines: Counter[str] = Counter()
    files = sorted(root.rglob("*.py"))
    for path in files:
        room = path.relative_to(root).parts[0].removesuffix(".py")
        lines[room] += len(path.read_text("utf-8").splitlines())
    return lines, len(files)


def glossary_terms() -> int:
    """Return how many terms of the search docs/explanation.md explains."""
    page = (ROOT / "docs" / "explanation.md").read_text("utf-8")
    section = re.search(r"^## Glossary.*?$(.*?)(?=^## |\Z)", page, re.M | re.S)
    return len(re.findall(r"^\| \*\*", section[1], re.M)) if section else 0


def circles() -> list[str]:
    """Return the rooms that import each other, by one way or another."""
    import grimp

    graph = grimp.build_graph("fewshot_automl")
    rooms = sorted(graph.find_children("fewshot_automl"))
    return [
        f"{one} <-> {other}"
        for place, one in enumerate(rooms)
        for other in rooms[place + 1 :]
        if graph.chain_exists(importer=one, imported=other, as_packages=True)
        and graph.chain_exists(importer=other, imported=one, as_packages=True)
    ]


def broken_contracts() -> int:
    """Return how many import contracts of pyproject.toml do not hold."""
    beside = Path(sys.executable).with_name("lint-imports")
    command = str(beside) if beside.exists() else shutil.which("lint-imports")
    if command is None:
        raise SystemExit("lint-imports must be installed. Run: make setup")
    done = subprocess.run(
        [command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = re.search(r"(\d+) kept, (\d+) broken", done.stdout)
    if found is None:
        raise SystemExit(f"lint-imports failed:\n{done.stdout}{done.stderr}")
    return int(found[2])


def main() -> None:
    """Count, print the table, end with one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="no import contracts")
    is_quick = parser.parse_args().quick
    package, files = lines_by_room(PACKAGE)
    tests, _ = lines_by_room(ROOT / "tests")
    print(f"{'room':<16} {'package':>8} {'tests':>8}")
    for room, count in sorted(package.items()):
        print(f"{room:<16} {count:>8,} {tests.get(room, 0):>8,}")
    others = sum(count for room, count in tests.items() if room not in package)
    print(f"{'other tests':<16} {'':>8} {others:>8,}\n")
    figures = {
        "package lines": package.total(),
        "package files": files,
        "oracle lines": package["oracle"],
        "test lines": tests.total(),
        "glossary terms": glossary_terms(),
    }
    if not is_quick:
        found = circles()
        print(*found, sep="\n")
        figures |= {"circles": len(found), "broken contracts": broken_contracts()}
    falls_short = []
    for name, count in figures.items():
        print(f"{name:<16} {count:>8,}  at most {GOALS[name]:,}")
        if count > GOALS[name]:
            falls_short.append(f"{name}: {count:,}, wanted at most {GOALS[name]:,}")
    report = {"benchmark": "size", "figures": figures, "falls_short": falls_short}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
