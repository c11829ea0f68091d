import collections
import io
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fewshot_automl.backbones.checkpoints import convert, read_tensors
from fewshot_automl.errors import CardError


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return collections.OrderedDict(
        [("a.weight", torch.randn(3, 4)), ("a.count", torch.tensor(7))]
    )


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("is_legacy", [False, True])
def test_pth_files_of_both_kinds_are_read(tmp_path, tensors, is_legacy):
    path = tmp_path / "x.pth"
    torch.save({"model": tensors}, path, _use_new_zipfile_serialization=not is_legacy)
    assert same(read_tensors(path, "pth"), tensors)


def test_a_plain_pickle_of_tensors_is_read(tmp_path, tensors):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(tensors))
    assert same(read_tensors(path, "pickle"), tensors)


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("format", ["pickle", "pth"])
def test_code_in_a_checkpoint_is_never_run(tmp_path, format):
    path, trace = tmp_path / "x", tmp_path / "ran"
    evil = {"a.weight": Evil(trace)}
    if format == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path)
    with pytest.raises(
        CardError, match=f"x must be a readable {format} file of plain tensors"
    ):
        read_tensors(path, format)
    assert not trace.exists()


def test_code_in_a_storage_inside_a_pickle_is_never_run(tmp_path):
    trace, inner = tmp_path / "ran", io.BytesIO()
    torch.save(Evil(trace), inner)
    loader = torch.storage._load_from_bytes

    class Smuggler:
        def __reduce__(self):
            return loader, (inner.getvalue(),)

    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": Smuggler()}))
    with pytest.raises(CardError, match="plain tensors"):
        read_tensors(path, "pickle")
    assert not trace.exists()


@pytest.mark.parametrize("format", ["safetensors", "pth", "pickle"])
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path, format):
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x07not a checkpoint at all" * 20)
    with pytest.raises(CardError):
        read_tensors(path, format)


def test_a_checkpoint_without_names_is_refused(tmp_path, tensors):
    path = tmp_path / "x.pth"
    torch.save([tensors["a.weight"]], path)
    with pytest.raises(CardError, match="must be a table of named tensors, got list"):
        read_tensors(path, "pth")


def test_converted_tensors_keep_their_values_even_where_memory_was_shared(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    source, target = tmp_path / "x.pth", tmp_path / "x.safetensors"
    torch.save({"a.weight": whole, "b.weight": whole.T}, source)
    convert(source, "pth", "same", nn.Identity(), target)
    assert same(load_file(target), {"a.weight": whole, "b.weight": whole.T})


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))


def test_tensors_in_order_get_the_names_of_the_network(tmp_path):
    source, target = tmp_path / "x.pth", tmp_path / "x.safetensors"
    values = list(network().state_dict().values())
    classifier = [torch.ones(9, 4), torch.ones(9)]
    named = {f"theirs.{i}": each for i, each in enumerate([*values, *classifier])}
    torch.save(named, source)
    convert(source, "pth", "in-order", network(), target)
    assert same(
        load_file(target), dict(zip(network().state_dict(), values, strict=True))
    )


@pytest.mark.parametrize("change", ["shape", "fewer", "more"])
def test_tensors_in_order_must_be_those_of_the_network(tmp_path, change):
    values = list(network().state_dict().values())
    values = {
        "shape": [values[0].T, *values[1:]],
        "fewer": values[:-1],
        "more": [*values, *[torch.ones(1)] * 3],
    }[change]
    torch.save({f"t{i}": each for i, each in enumerate(values)}, tmp_path / "x.pth")
    target = tmp_path / "x.safetensors"
    with pytest.raises(CardError, match="Correct key_map in the card"):
        convert(tmp_path / "x.pth", "pth", "in-order", network(), target)
    assert not target.exists()
