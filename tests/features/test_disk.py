import json

import numpy as np
import pytest
from safetensors import safe_open

from fewshot_automl.features import disk

ROWS = [
    {},
    {"a:b": np.arange(3, dtype=np.int64), "scalar": np.array(2.5)},
    {"empty": np.zeros((0, 4), np.float16), "mask": np.array([True, False])},
]
KEYS = ["none", "some", "few"]


def test_rows_come_back_as_they_were(tmp_path):
    path = disk.write(tmp_path, disk.packed("g", KEYS, ROWS))
    assert disk.read_header(path, "g")[0] == tuple(KEYS)
    found = disk.read(path, "g")
    assert list(found) == KEYS
    for want, got in zip(ROWS, found.values(), strict=True):
        assert want.keys() == got.keys()
        for name in want:
            assert want[name].dtype == got[name].dtype
            np.testing.assert_array_equal(want[name], got[name])


def test_a_shard_is_a_plain_safetensors_file(tmp_path):
    path = disk.write(tmp_path, disk.packed("g", KEYS, ROWS))
    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["keys"]) == KEYS
        assert file.get_tensor("1:a:b").tolist() == [0, 1, 2]


def test_a_shard_of_another_group_is_refused(tmp_path):
    path = disk.write(tmp_path, disk.packed("g", KEYS, ROWS))
    with pytest.raises(disk.DamagedShard, match="another format or group"):
        disk.read(path, "h")


def test_half_a_file_is_left_nowhere_when_the_disk_is_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="space"):
        disk.write(tmp_path, b"content")
    assert list(tmp_path.iterdir()) == []
