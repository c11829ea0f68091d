import logging
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_automl.errors import ShapeError
from fewshot_automl.features import FeatureStore
from fewshot_automl.places import size_bytes


def row(key, size=4):
    seed = int.from_bytes(key.encode(), "little") % 2**32
    rng = np.random.default_rng(seed)
    tokens = seed % 5  # also a row without tokens
    return {
        "hidden": rng.normal(size=(tokens, size)).astype(np.float32),
        "mask": np.arange(tokens) % 2 == 0,
        "length": np.array(tokens),
    }


class Stem:
    """Computes rows and remembers for which keys it was asked."""

    def __init__(self, keys, batch=3, size=4):
        self.keys, self.batch, self.size = keys, batch, size
        self.asked = []

    def __call__(self, positions):
        for first in range(0, len(positions), self.batch):
            names = [self.keys[at] for at in positions[first : first + self.batch]]
            self.asked.extend(names)
            yield [row(name, self.size) for name in names]


def fetch(store, keys, group="g", batch=3, size=4):
    stem = Stem(keys, batch, size)
    rows = store.fetch(group, keys, stem)
    assert len(rows) == len(keys)
    for key, got in zip(keys, rows, strict=True):
        want = row(key, size)
        assert got.keys() == want.keys()
        for name in want:
            assert got[name].dtype == want[name].dtype
            np.testing.assert_array_equal(got[name], want[name])
            assert not got[name].flags.writeable
    return stem.asked


def files(folder):
    return sorted(folder.glob("*/*.safetensors"))


KEYS = [f"k{i}" for i in range(10)]


@pytest.mark.parametrize("on_disk", [True, False])
def test_computes_each_key_once_and_keeps_the_order(tmp_path, on_disk):
    store = FeatureStore(tmp_path / "store" if on_disk else None)
    assert fetch(store, ["b", "a", "b", "c"]) == ["b", "a", "c"]
    assert fetch(store, ["c", "d", "a", "d"]) == ["d"]
    assert fetch(store, ["a", "b"], group="other") == ["a", "b"]
    assert store.misses == 3 + 1 + 2


def test_nothing_asked_is_nothing_computed(tmp_path):
    store = FeatureStore(tmp_path)
    assert store.fetch("g", [], Stem([])) == []
    assert files(tmp_path) == []


def test_another_store_finds_what_the_first_kept(tmp_path):
    fetch(FeatureStore(tmp_path), KEYS)
    assert len(files(tmp_path)) == 4  # one a batch, not one an example
    assert fetch(FeatureStore(tmp_path), KEYS[::-1]) == []
    copied = pickle.loads(pickle.dumps(FeatureStore(tmp_path)))
    assert fetch(copied, KEYS) == []


def test_a_folder_in_the_cache_is_that_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "here"))
    sent = pickle.dumps(FeatureStore(tmp_path / "here" / "features"))
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "there"))
    fetch(pickle.loads(sent), KEYS[:3])
    assert files(tmp_path / "there" / "features")
    assert not (tmp_path / "here").exists()


def test_a_store_sees_what_another_writes_while_it_is_open(tmp_path):
    first, second = FeatureStore(tmp_path), FeatureStore(tmp_path)
    fetch(first, KEYS[:3])
    assert fetch(second, KEYS[:6]) == KEYS[3:6]
    assert fetch(first, KEYS[:6]) == []


def test_batches_before_a_failure_are_kept(tmp_path):
    def breaks(positions):
        yield [row(KEYS[at]) for at in positions[:4]]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        FeatureStore(tmp_path).fetch("g", KEYS, breaks)
    assert fetch(FeatureStore(tmp_path), KEYS) == KEYS[4:]


@pytest.mark.parametrize("yields", [9, 11])
def test_refuses_another_number_of_rows_than_asked(yields):
    with pytest.raises(ShapeError, match="must yield the 10 rows"):
        FeatureStore(None).fetch("g", KEYS, lambda _: [[row("a")] * yields])


def test_refuses_what_cannot_be_stored():
    rows = [{"x": np.array(["text"])}]
    with pytest.raises(ShapeError, match="float32"):
        FeatureStore(None).fetch("g", ["a"], lambda _: [rows])


def test_rows_are_copies_of_what_compute_yields():
    batch = np.zeros((2, 3))
    store = FeatureStore(None)
    rows = store.fetch("g", ["a", "b"], lambda _: [[{"x": x} for x in batch]])
    batch += 1
    assert rows[0]["x"].sum() == 0
    assert rows[0]["x"].base is None


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    which=st.integers(0, 3),
    where=st.floats(0, 1, exclude_max=True),
    how=st.sampled_from(["truncate", "flip", "empty", "append"]),
    same=st.booleans(),
)
def test_damage_at_any_byte_is_found_and_computed_again(
    tmp_path_factory, which, where, how, same
):
    folder = tmp_path_factory.mktemp("store")
    store = FeatureStore(folder)
    fetch(store, KEYS)
    path = files(folder)[which]
    content = path.read_bytes()
    at = int(where * len(content))
    damaged = {
        "truncate": content[:at],
        "flip": content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :],
        "empty": b"",
        "append": content + b"x",
    }[how]
    path.write_bytes(damaged)
    os.utime(path, ns=(1, 1))  # as another clock tick would
    again = fetch(store if same else FeatureStore(folder), KEYS)
    assert len(again) in (1, 3)  # the rows of one shard, and only those
    assert not path.exists()
    assert fetch(FeatureStore(folder), KEYS) == []


def test_foreign_files_are_deleted_and_logged(tmp_path, caplog):
    fetch(FeatureStore(tmp_path), KEYS[:3], group="g")
    mine = files(tmp_path)[0]
    fetch(FeatureStore(tmp_path), KEYS[:3], group="other")
    theirs = next(path for path in files(tmp_path) if path.parent != mine.parent)
    stray = mine.with_name("stray.safetensors")
    stray.write_bytes(b"not a shard")
    copied = mine.with_name("copied.safetensors")
    copied.write_bytes(theirs.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert fetch(FeatureStore(tmp_path), KEYS[:3], group="g") == []
    assert len(caplog.records) == 2
    assert not stray.exists()
    assert not copied.exists()
    assert theirs.exists()


def even(store, key):
    """Fetch one row; all rows have one size."""
    asked = []

    def compute(positions):
        asked.extend(positions)
        yield [{"x": np.zeros(1000)}]

    store.fetch("g", [key], compute)
    return bool(asked)


def test_the_least_recently_used_shards_are_evicted(tmp_path):
    probe = FeatureStore(tmp_path / "probe")
    even(probe, "a")
    store = FeatureStore(tmp_path / "s", int(size_bytes(tmp_path / "probe") * 3.5))
    now = time.time()
    for age, key in ((400, "a"), (300, "b"), (200, "c")):
        assert even(store, key)
        newest = max(files(tmp_path / "s"), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (now - age, now - age))
    assert not even(store, "a")  # used: no longer the oldest
    assert even(store, "d")
    other = FeatureStore(tmp_path / "s")
    assert [key for key in "acdb" if even(other, key)] == ["b"]


@settings(max_examples=25, deadline=None)
@given(
    bound=st.integers(0, 12_000),
    memory=st.integers(0, 3_000),
    calls=st.lists(
        st.tuples(
            st.sampled_from(["g", "h"]),
            st.lists(st.sampled_from(KEYS), min_size=1, max_size=12),
        ),
        max_size=8,
    ),
)
def test_bounds_hold_and_rows_are_right_whatever_is_asked(
    tmp_path_factory, bound, memory, calls
):
    folder = tmp_path_factory.mktemp("store")
    store = FeatureStore(folder, bound, memory)
    for group, keys in calls:
        fetch(store, keys, group=group)
        assert sum(path.stat().st_size for path in files(folder)) <= bound
        held = sum(held.memory_bytes for held in store._held.values())
        assert held <= memory


def test_a_full_disk_goes_on_in_memory_with_one_warning(tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fewshot_automl.features.disk.write", full)
    store = FeatureStore(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert fetch(store, KEYS) == KEYS
    assert len(caplog.records) == 1
    assert "memory" in caplog.text
    assert fetch(store, KEYS) == []


def test_a_folder_that_cannot_be_made_goes_on_in_memory(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store = FeatureStore(tmp_path / "file" / "store")
    with caplog.at_level(logging.WARNING):
        assert fetch(store, KEYS) == KEYS
    assert fetch(store, KEYS) == []
    assert len(caplog.records) == 1


def test_what_a_killed_writer_left_is_swept(tmp_path):
    fetch(FeatureStore(tmp_path), ["a1"])
    left = files(tmp_path)[0].with_suffix(".part")
    left.write_bytes(b"half")
    fetch(FeatureStore(tmp_path), ["b1"])
    assert left.exists()  # its writer may be alive
    os.utime(left, (1, 1))
    fetch(FeatureStore(tmp_path), ["c1"])
    assert not left.exists()


WRITER = """
import sys
from pathlib import Path
import numpy as np
from fewshot_automl.features import FeatureStore

folder, seed, bound = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
keys = [str(i) for i in range(40)]
order = np.random.default_rng(seed).permutation(40)
names = [keys[i] for i in order]
store = FeatureStore(folder, bound)
for _ in range(10):
    rows = store.fetch(
        "g", names, lambda at: [[{"x": np.full(50, float(names[i]))}] for i in at]
    )
    assert all((row["x"] == float(name)).all() for row, name in zip(rows, names))
print("right")
"""


@pytest.mark.parametrize("bound", [10**9, 4_000])
def test_processes_may_write_one_group_at_once(tmp_path, bound):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(seed), str(bound)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2, 3)
    ]
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == "right\n"
    assert list(tmp_path.glob("*/*.part")) == []
