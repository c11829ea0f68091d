"""The store of frozen activations: computed once, read by every fold and trial."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_automl.errors import ShapeError
from fewshot_automl.features.disk import (
    DamagedShard,
    Disk,
    Row,
    Stamp,
    checked,
    packed,
    read,
    stamp_of,
)
from fewshot_automl.places import cache_folder

__all__ = ["FeatureStore", "Row"]


@dataclass(slots=True)
class _Held:
    """Holds the rows of one shard that this process has opened or made."""

    group: str
    rows: dict[str, Row]
    stamp: Stamp | None  # None: not on disk

    memory_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        rows = self.rows.values()
        self.memory_bytes = sum(each.nbytes for row in rows for each in row.values())


class FeatureStore:
    """Keeps rows of frozen activations under a group and their content's hash.

    Any number of processes may share a folder. What one writes the others find;
    at worst two compute the same row and both keep it. A file that is cut short,
    changed or not ours is deleted, logged and computed again. A row's arrays are
    read-only: copy before writing to them.

    >>> import numpy as np
    >>> store = FeatureStore(None)
    >>> rows = store.fetch("demo", ["a", "b", "a"], lambda missing: [
    ...     [{"pooled": np.full(2, at)} for at in missing]])
    >>> [float(row["pooled"][0]) for row in rows], store.misses
    ([0.0, 1.0, 0.0], 2)
    """

    def __init__(
        self,
        folder: Path | None,
        max_disk_bytes: int = 20_000_000_000,
        max_memory_bytes: int = 2_000_000_000,
    ) -> None:
        """Open a store.

        Args:
            folder: Where shards lie, made on first use; `None` keeps all in memory.
            max_disk_bytes: The least recently used shards of any group are deleted
                beyond this or, if that is less, a tenth of the disk.
            max_memory_bytes: Bounds rows kept in memory between calls, the least
                recently used go first.
        """
        self._arguments: tuple[Path | None, int, int]
        self._arguments = (folder, max_disk_bytes, max_memory_bytes)
        self.max_memory_bytes = max_memory_bytes
        self._disk = None if folder is None else Disk(folder, max_disk_bytes)
        self._held: OrderedDict[Path | int, _Held] = OrderedDict()
        self._serial = 0
        self.misses = 0  # rows that this process computed
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Callable[..., "FeatureStore"], tuple[object, ...]]:
        """Pickle as the folder and the bounds: a copy finds what lies on disk.

        A folder in the cache is one in the cache of the copy's machine.
        """
        folder, *bounds = self._arguments
        if folder is not None and folder.is_relative_to(home := cache_folder()):
            return _in_cache, (folder.relative_to(home).as_posix(), *bounds)
        return FeatureStore, self._arguments

    def fetch(
        self,
        group: str,
        keys: Sequence[str],
        compute: Callable[[list[int]], Iterable[list[Row]]],
    ) -> list[Row]:
        """Return one row a key, computing only those that nobody has kept.

        Args:
            group: Everything but the example that shapes a row: weights, recipe,
                cut, view.
            keys: Content hashes of the examples; one that repeats is computed once.
            compute: Takes positions in `keys` and yields batches of rows in that
                order. Each batch is kept before the next is asked for, so a run
                that is killed loses one batch.

        Raises:
            ShapeError: If `compute` yields more or fewer rows than it was asked for,
                or arrays of a dtype that cannot be stored.
        """
        with self._lock:
            found = self._find(group, set(keys))
            first: dict[str, int] = {}
            for at, key in enumerate(keys):
                first.setdefault(key, at)
            asked = [at for key, at in first.items() if key not in found]
            self.misses += len(asked)
            if asked:
                self._compute(group, [keys[at] for at in asked], compute(asked), found)
            memory = sum(held.memory_bytes for held in self._held.values())
            for place, held in list(self._held.items()):
                if memory > self.max_memory_bytes:
                    memory -= held.memory_bytes
                    del self._held[place]
            return [dict(found[key]) for key in keys]

    def _find(self, group: str, wanted: set[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for place, held in list(self._held.items()):
            if held.stamp is None and held.group == group:
                self._take(place, held, wanted, found)
        if self._disk is None:
            return found
        index = self._disk.index(group)
        for place, held in list(self._held.items()):
            if isinstance(place, Path) and held.group == group and place not in index:
                del self._held[place]  # deleted by another process
        for path, keys in index.items():
            if wanted.isdisjoint(keys) or all(
                key in found for key in keys if key in wanted
            ):
                continue
            opened = self._open(path, group)
            if opened is not None:
                self._take(path, opened, wanted, found)
        return found

    def _take(
        self, place: Path | int, held: _Held, wanted: set[str], found: dict[str, Row]
    ) -> None:
        useful = wanted.intersection(held.rows)
        if useful:
            found.update((key, held.rows[key]) for key in useful)
            self._held.move_to_end(place)

    def _open(self, path: Path, group: str) -> _Held | None:
        assert self._disk is not None
        held = self._held.pop(path, None)
        try:
            stamp = stamp_of(path)
            if held is None or held.stamp != stamp:
                held = _Held(group, read(path, group), stamp)
            held.stamp = self._disk.touch(path, stamp)
        except FileNotFoundError:  # another process made room
            return None
        except (DamagedShard, OSError) as error:
            self._disk.discard(path, error)
            return None
        self._held[path] = held
        return held

    def _compute(
        self,
        group: str,
        keys: list[str],
        batches: Iterable[list[Row]],
        found: dict[str, Row],
    ) -> None:
        done = 0
        used = {
            place
            for place, held in self._held.items()
            if isinstance(place, Path)
            and held.group == group
            and not found.keys().isdisjoint(held.rows)
        }
        for batch in batches:
            names = keys[done : done + len(batch)]
            done += len(batch)
            if len(names) < len(batch):
                break
            if batch:
                self._keep(group, names, [checked(row) for row in batch], used)
                found.update(self._held[next(reversed(self._held))].rows)
        if done != len(keys):
            raise ShapeError(
                f"compute must yield the {len(keys)} rows it was asked for, got "
                f"{'more' if done > len(keys) else done}. Yield one a position."
            )

    def _keep(
        self, group: str, keys: list[str], rows: list[Row], used: set[Path]
    ) -> None:
        if self._disk is not None:
            path = self._disk.write(group, packed(group, keys, rows), used)
            if path is not None:
                used.add(path)
                if self._open(path, group) is not None:
                    return
        self._serial += 1
        own = dict(zip(keys, rows, strict=True))
        self._held[self._serial] = _Held(group, own, None)


def _in_cache(name: str, *bounds: int) -> FeatureStore:
    return FeatureStore(cache_folder() / name, *bounds)
