import collections
import io
import os
import pickle
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fewshot_automl.backbones.checkpoints import convert, read_tensors
from fewshot_automl.backbones.packages import find_archive, open_member
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
    (tmp_path / "notes.txt").touch()
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
    with open_member(archive, "w.bin") as stream:
        assert stream.read() == b"abc"
    with (
        pytest.raises(CardError, match=r"must hold link\.bin"),
        open_member(archive, "link.bin") as stream,
    ):
        pytest.fail("a link was opened")


def test_half_an_archive_is_named(tmp_path):
    archive = tmp_path / "a-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("w.bin", b"abc" * 1000)
    archive.write_bytes(archive.read_bytes()[:1500])
    with (
        pytest.raises(CardError, match=r"a-1\.0-.* must be a whole archive"),
        open_member(archive, "w.bin") as stream,
    ):
        stream.read()
