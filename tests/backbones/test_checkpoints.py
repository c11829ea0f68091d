import collections
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot_automl.backbones.archives import copy_member, find_archive
from fewshot_automl.backbones.checkpoints import convert, read_tensors
from fewshot_automl.backbones.key_maps import rename
from fewshot_automl.backbones.onnx_tensors import onnx_tensors
from fewshot_automl.errors import CardError, UnknownNameError


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
    with pytest.raises(CardError, match=f"x must be a {format} file of plain tensors"):
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


@pytest.mark.parametrize("format", ["safetensors", "pth", "pickle", "onnx"])
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
    torch.save({"a.weight": whole, "b.weight": whole.T, "pooler.w": whole}, source)
    convert(source, "pth", "text-encoder", target)
    assert same(load_file(target), {"a.weight": whole, "b.weight": whole.T})


def test_an_unknown_key_map_is_named():
    with pytest.raises(UnknownNameError, match="No key map named 'sames'"):
        rename(["a"], "sames")


@pytest.mark.parametrize(
    "name", ["mobile-sam", "torchvision-mobilenetv2", "efficientnet-lite1"]
)
def test_a_key_map_refuses_other_architectures(name):
    with pytest.raises(CardError):
        rename(["layer1.0.conv1.weight"], name)


def test_a_key_map_keeps_names_apart():
    with pytest.raises(CardError, match="its own name"):
        rename(["auto_model.a", "a"], "text-encoder")


def varint(value):
    head = bytearray()
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*head, value])


def field(number, value):
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def onnx_file(bias_name):
    def tensor(name, array):
        dims = b"".join(field(1, size) for size in array.shape)
        return field(5, dims + field(2, 1) + field(8, name) + field(9, array.tobytes()))

    def node(op, inputs, output):
        return field(
            1,
            b"".join(field(1, name) for name in inputs)
            + field(2, output)
            + field(4, op),
        )

    matrix = np.arange(6, dtype="<f4").reshape(2, 3)
    graph = (
        node(b"MatMul", [b"x", b"onnx::MatMul_1"], b"xw")
        + node(b"Add", [bias_name, b"xw"], b"y")
        + tensor(b"onnx::MatMul_1", matrix)
        + tensor(bias_name, np.ones(3, dtype="<f4"))
        + tensor(b"norm.weight", np.zeros(300, dtype="<f4"))
    )
    return field(7, graph), matrix


def test_onnx_matrices_get_the_name_of_their_bias():
    content, matrix = onnx_file(b"layer.dense.bias")
    found = onnx_tensors(content)
    assert set(found) == {"layer.dense.weight", "layer.dense.bias", "norm.weight"}
    assert np.array_equal(found["layer.dense.weight"], matrix.T)
    assert found["norm.weight"].shape == (300,)


@pytest.mark.parametrize("size", range(0, 1000, 37))
def test_an_onnx_file_cut_short_is_an_error(size):
    content, _ = onnx_file(b"layer.dense.bias")
    assert len(content) > 1000
    with pytest.raises(CardError, match="ONNX"):
        onnx_tensors(content[:size])


@pytest.mark.parametrize(
    "name",
    [
        "My_Pack.age-1.0-py3-none-any.whl",
        "my-pack-age-1.0.tar.gz",
        "MY_pack_age-1.0.zip",
    ],
)
def test_archives_are_found_however_their_name_is_written(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "my_pack_age-1.0.1-py3-none-any.whl").touch()
    (tmp_path / "my_pack_age_more-1.0-py3-none-any.whl").touch()
    assert find_archive(tmp_path, "my.pack_age", "1.0") == tmp_path / name
    assert find_archive(tmp_path, "my.pack_age", "1") is None


def test_a_wheel_is_preferred_to_an_sdist(tmp_path):
    (tmp_path / "a-1.0.tar.gz").touch()
    (tmp_path / "a-1.0-py3-none-any.whl").touch()
    found = find_archive(tmp_path, "a", "1.0")
    assert found is not None
    assert found.suffix == ".whl"


def test_one_file_is_taken_out_of_an_sdist_and_links_are_not_followed(tmp_path):
    archive = tmp_path / "a-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("a-1.0/src/w.bin")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("a-1.0/link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with (tmp_path / "out").open("wb") as target:
        copy_member(archive, "w.bin", target)
    assert (tmp_path / "out").read_bytes() == b"abc"
    with (
        (tmp_path / "out").open("wb") as target,
        pytest.raises(CardError, match=r"must hold link\.bin"),
    ):
        copy_member(archive, "link.bin", target)


def test_an_archive_that_lies_about_sizes_is_refused(tmp_path):
    archive = tmp_path / "a-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("w.bin", b"\0" * 100_000)
    content = archive.read_bytes()
    said, lie = (100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    archive.write_bytes(content.replace(said, lie))
    with (tmp_path / "out").open("wb") as target, pytest.raises(CardError):
        copy_member(archive, "w.bin", target)


def test_half_an_archive_is_named(tmp_path):
    archive = tmp_path / "a-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("w.bin", b"abc" * 1000)
    archive.write_bytes(archive.read_bytes()[:1500])
    with (
        (tmp_path / "out").open("wb") as target,
        pytest.raises(CardError, match=r"a-1\.0-.* must be a whole archive"),
    ):
        copy_member(archive, "w.bin", target)


def test_safetensors_are_read(tmp_path, tensors):
    save_file(tensors, tmp_path / "x.safetensors")
    assert same(read_tensors(tmp_path / "x.safetensors", "safetensors"), tensors)
