"""The predict.py of an export: of this package's own code, what one model needs."""

import ast
import inspect
import sys
from collections import defaultdict
from collections.abc import Collection
from graphlib import TopologicalSorter
from importlib import import_module
from typing import Any, Final

from fewshot_automl.export.alone import predict

TABLES: Final = ("READERS", "RUNTIMES")
"""Of these, only the rows that are asked for are kept."""


def script_of(rows: Collection[str]) -> str:
    """Return a script that imports nothing of this package.

    Args:
        rows: The format, and the kinds of feeds.
    """
    sources: dict[str, tuple[str, ast.Module]] = {}
    taken: dict[str, set[str]] = defaultdict(set)
    below: dict[str, set[str]] = defaultdict(set)
    imports: set[str] = set()

    def take(module: str, name: str) -> None:
        """Take what a name means in a module, and all that this names."""
        if name in taken[module]:
            return
        if module not in sources:
            source = inspect.getsource(import_module(module))
            sources[module] = source, ast.parse(source)
        for node in sources[module][1].body:
            if name not in _bound(node):
                continue
            taken[module].add(name)
            if not isinstance(node, ast.Import | ast.ImportFrom):
                if name in TABLES:
                    _keep(node, rows)
                for found in ast.walk(node):
                    if isinstance(found, ast.Name):
                        take(module, found.id)
                continue
            source = getattr(node, "module", "")
            if source.startswith("fewshot_automl"):
                below[module].add(source)
                take(source, name)
            else:
                one = next(x for x in node.names if name in (x.asname, x.name))
                begin = f"from {source} import" if source else "import"
                imports.add(f"{begin} {ast.unparse(one)}")

    take(predict.__name__, "main")
    is_foreign = {
        x: x.split()[1].split(".")[0] not in sys.stdlib_module_names for x in imports
    }
    lines = sorted(imports, key=lambda x: (is_foreign[x], x.startswith("from"), x))
    text, was_block = f'"""{predict.__doc__}"""\n\n' + "\n".join(lines) + "\n", False
    for module in TopologicalSorter({x: below[x] for x in taken}).static_order():
        source, tree = sources[module]
        for node in tree.body:
            is_import = isinstance(node, ast.Import | ast.ImportFrom)
            if is_import or not _bound(node) & taken[module]:
                continue
            is_block = isinstance(node, ast.FunctionDef | ast.ClassDef)
            code = ast.get_source_segment(source, node)
            if _bound(node) & {*TABLES}:
                code = ast.unparse(node)
            text += ("\n\n" if is_block or was_block else "") + f"{code}\n"
            was_block = is_block
    return f'{text}\n\nif __name__ == "__main__":\n    main()\n'


def _keep(table: Any, rows: Collection[str]) -> None:
    pairs = zip(table.value.keys, table.value.values, strict=True)
    kept = {key: value for key, value in pairs if key.value in rows}
    table.value.keys, table.value.values = [*kept], [*kept.values()]


def _bound(node: ast.stmt) -> set[str]:
    """Return the names that a statement gives something to."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.Assign(targets=targets):
            return {x.id for x in ast.walk(targets[0]) if isinstance(x, ast.Name)}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {x.asname or x.name for x in names}
    return set()
