import csv
import gzip
import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from fewshot_automl.backbones.card import ExtraFile
from fewshot_automl.backbones.sources import requirements
from fewshot_automl.cli.demo import IMAGES, SHOTS, TEXT, demo_folder
from fewshot_automl.errors import CardError

TOPICS = ("ai", "coding")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))


def talks(topic):
    lines = [f"- - question {topic} {i}\n  - answer\n" for i in range(60)]
    lines += ["- - Said in both\n  - yes\n", f"- - question {topic} 1\n  - again\n"]
    return f"categories:\n- {topic}\nconversations:\n{''.join(lines)}".encode()


def digits():
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 255, (400, 784))
    table = np.column_stack([pixels, np.arange(400) % 10])
    rows = "\n".join(",".join(map(str, row)) for row in table)
    return gzip.compress(rows.encode())


def wheel(folder, package, files):
    folder.mkdir(exist_ok=True)
    name = f"{package[0].replace('-', '_')}-{package[1]}-py3-none-any.whl"
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


def made_of(data, contents, tmp_path):
    """Return demo data pinned to these contents, and a folder with their wheel."""
    package = ("demo-of-nothing", "1.0")
    wheel(tmp_path / "wheels", package, contents)
    (file, sha256), *others = (
        (path, hashlib.sha256(content).hexdigest())
        for path, content in contents.items()
    )
    extras = tuple(
        ExtraFile(to=path.rpartition("/")[2], file=path, sha256=digest)
        for path, digest in others
    )
    name, version = package
    source = replace(
        data.source,
        name=name,
        version=version,
        file=file,
        sha256=sha256,
        extras=extras,
    )
    return replace(data, source=source), tmp_path / "wheels"


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_texts_are_split_without_overlap(tmp_path):
    contents = {f"data/{topic}.yml": talks(topic) for topic in TOPICS}
    data, wheels = made_of(TEXT, contents, tmp_path)
    folder = demo_folder(data, wheels=wheels, say=print)
    train, test = read_rows(folder / data.train), read_rows(folder / data.test)
    assert len(train) == SHOTS * len(TOPICS)
    assert {row["topic"] for row in train} == set(TOPICS)
    texts = [row["text"] for row in (*train, *test)]
    assert len(set(texts)) == len(texts)
    assert "Said in both" not in texts


def test_images_become_class_folders(tmp_path):
    data, wheels = made_of(IMAGES, {"data/d.csv.gz": digits()}, tmp_path)
    folder = demo_folder(data, wheels=wheels, say=print)
    train = sorted((folder / data.train).glob("*/*.png"))
    test = sorted((folder / data.test).glob("*/*.png"))
    assert len(train) == SHOTS * 10
    assert not {path.name for path in train} & {path.name for path in test}
    assert [path.name for path in sorted((folder / data.test).iterdir())] == [
        str(digit) for digit in range(10)
    ]


def test_other_bytes_are_refused(tmp_path):
    contents = {f"data/{topic}.yml": talks(topic) for topic in TOPICS}
    data, wheels = made_of(TEXT, contents, tmp_path)
    wheel(wheels, requirements(data.source)[0], dict.fromkeys(contents, b"other"))
    with pytest.raises(CardError, match="must have sha256"):
        demo_folder(data, wheels=wheels, say=print)
    assert not list((tmp_path / "cache" / "demo").iterdir())


def test_yaml_that_would_run_code_is_refused(tmp_path):
    evil = b"conversations: !!python/object/apply:os.system ['touch /tmp/owned']"
    data, wheels = made_of(TEXT, {"data/ai.yml": evil}, tmp_path)
    with pytest.raises(Exception, match="could not determine a constructor"):
        demo_folder(data, wheels=wheels, say=print)


def test_a_folder_without_the_wheel_says_which(tmp_path):
    with pytest.raises(CardError, match=r"must hold chatterbot-corpus==1\.3\.3"):
        demo_folder(TEXT, wheels=tmp_path, say=print)
