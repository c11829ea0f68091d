import dataclasses
import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import read_card
from fewshot_automl.backbones.lock import lock_path
from fewshot_automl.backbones.sources import HubSource
from fewshot_automl.backbones.zoo_folders import shipped_folder
from fewshot_automl.errors import CardError

FIRST, SECOND = "1" * 40, "2" * 40
TENSORS = {"a.weight": torch.ones(2, 3), "pooler.w": torch.zeros(1)}


def sha(content):
    return hashlib.sha256(content).hexdigest()


class Hub:
    """Serves repositories as the hub does, from memory: commit to file to bytes."""

    def __init__(self):
        self.main = FIRST
        self.commits = {
            FIRST: {"model.safetensors": save(TENSORS), "config.json": b"{}"}
        }
        self.asked = []


@pytest.fixture
def hub(tmp_path, monkeypatch):
    state = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def answer(self, is_whole):
            state.asked.append((self.command, self.path))
            _, _, _, _, revision, file = self.path.split("/", 5)
            commit = state.main if revision == "main" else revision
            content = state.commits.get(commit, {}).get(file)
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{sha(content or b"")}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if is_whole and content is not None:
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "zoo"))
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def use_endpoint(monkeypatch, endpoint):
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def card():
    shipped = read_card(shipped_folder() / "text" / "minilm-l6.toml")
    return with_source(shipped)


def with_source(card, **changes):
    source = HubSource(repo="someone/toy", optional_files=("vocab.txt",), **changes)
    return dataclasses.replace(card, id="toy", sources=(source,))


def cut_off(monkeypatch):
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    # the client would try a dead network for 23 seconds
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


def test_the_first_download_locks_commit_and_hashes(hub, card):
    located = weights.get(card)
    assert located.source == f"hub someone/toy@{FIRST}"
    assert load_file(located.weights).keys() == TENSORS.keys()
    assert (located.folder / "config.json").read_bytes() == b"{}"
    assert json.loads(lock_path().read_text())["toy"] == {
        "repo": "someone/toy",
        "revision": FIRST,
        "files": {
            "config.json": sha(b"{}"),
            "model.safetensors": sha(save(TENSORS)),
        },
    }
    assert weights.is_at_hand(card)


def test_the_lock_is_obeyed_when_the_repository_moves_on(hub, card, tmp_path):
    first = weights.get(card)
    hub.commits[SECOND] = {"model.safetensors": b"new", "config.json": b"new"}
    hub.main = SECOND
    wipe(tmp_path / "cache")
    wipe(tmp_path / "hub")
    assert weights.get(card) == first


def wipe(folder):
    folder.rename(folder.with_name(f"{folder.name}-old"))


def test_a_commit_whose_bytes_changed_is_refused_and_deleted(hub, card, tmp_path):
    weights.get(card)
    wipe(tmp_path / "cache")
    wipe(tmp_path / "hub")
    hub.commits[FIRST]["model.safetensors"] = b"something else"
    with pytest.raises(CardError, match=f"must have sha256 {sha(save(TENSORS))}, got"):
        weights.get(card)
    assert not list((tmp_path / "hub").rglob("*.safetensors"))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    hub.commits[FIRST]["model.safetensors"] = save(TENSORS)
    weights.get(card)


def test_a_pinned_commit_and_hash_are_obeyed(hub, card):
    hub.main = SECOND
    pinned = with_source(card, revision=FIRST, sha256=sha(save(TENSORS)))
    assert weights.get(pinned).source.endswith(FIRST)
    assert all(FIRST in path for _, path in hub.asked)


def test_a_pinned_hash_that_does_not_match_is_refused(hub, card):
    pinned = with_source(card, revision=FIRST, sha256="0" * 64)
    with pytest.raises(CardError, match=f"must have sha256 {'0' * 64}, got"):
        weights.get(pinned)
    assert not lock_path().exists()


def test_a_card_pinned_anew_leaves_the_old_lock_behind(hub, card):
    weights.get(card)
    hub.commits[SECOND] = {
        "model.safetensors": save({"b": torch.ones(1)}),
        "config.json": b"{}",
    }
    moved = with_source(card, revision=SECOND)
    assert weights.get(moved).source.endswith(SECOND)
    assert json.loads(lock_path().read_text())["toy"]["revision"] == SECOND


def test_the_hub_cache_serves_without_a_network(hub, card, tmp_path, monkeypatch):
    first = weights.get(card)
    cut_off(monkeypatch)
    wipe(tmp_path / "cache")
    assert weights.is_at_hand(card)
    assert weights.locate(card) == first


def test_without_a_network_the_error_says_what_to_do(hub, card, monkeypatch):
    cut_off(monkeypatch)
    with pytest.raises(CardError, match=r"no connection.*--from DIR"):
        weights.get(card)
    assert not weights.is_at_hand(card)
    with pytest.raises(CardError, match="fewshot zoo get toy"):
        weights.locate(card)


def test_locating_never_asks_the_network(hub, card):
    with pytest.raises(CardError):
        weights.locate(card)
    assert hub.asked == []


def test_a_missing_file_is_named(hub, card):
    del hub.commits[FIRST]["config.json"]
    with pytest.raises(CardError, match=r"someone/toy must have config\.json"):
        weights.get(card)


def test_optional_files_are_taken_when_they_are_there(hub, card):
    hub.commits[FIRST]["vocab.txt"] = b"a\nb"
    assert (weights.get(card).folder / "vocab.txt").read_bytes() == b"a\nb"


def test_tensors_are_renamed_where_the_card_says_so(hub, card):
    located = weights.get(with_source(card, key_map="text-encoder"))
    assert load_file(located.weights).keys() == {"a.weight"}


def test_a_file_that_is_no_safetensors_is_refused(hub, card):
    hub.commits[FIRST]["model.safetensors"] = b"\x80\x04K\x01."  # a pickle
    with pytest.raises(CardError, match="safetensors file of plain tensors"):
        weights.get(with_source(card, key_map="text-encoder"))


@pytest.mark.parametrize("name", ["toy", "someone--toy", "."])
def test_a_folder_that_was_brought_here_serves(hub, card, tmp_path, name):
    bring(hub, tmp_path / "brought" / name)
    located = weights.get(card, from_folder=tmp_path / "brought")
    assert load_file(located.weights).keys() == TENSORS.keys()
    assert located.source.startswith("hub someone/toy, from folder ")
    assert weights.is_at_hand(card)
    assert weights.locate(card) == located
    assert hub.asked == []


def bring(hub, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in hub.commits[FIRST].items():
        (folder / file).write_bytes(content)
    return folder


def locked():
    return json.loads(lock_path().read_text())["toy"]


def test_a_folder_locks_hashes_without_a_commit(hub, card, tmp_path):
    weights.get(card, from_folder=bring(hub, tmp_path / "brought"))
    assert locked() == {
        "repo": "someone/toy",
        "revision": None,
        "files": {
            "config.json": sha(b"{}"),
            "model.safetensors": sha(save(TENSORS)),
        },
    }


def test_a_folder_does_not_vouch_for_the_commit_of_a_card(hub, card, tmp_path):
    pinned = with_source(card, revision=FIRST)
    located = weights.get(pinned, from_folder=bring(hub, tmp_path / "brought"))
    assert locked()["revision"] is None
    assert weights.locate(pinned) == located
    wipe(tmp_path / "cache")
    assert weights.get(pinned).source == f"hub someone/toy@{FIRST}"
    assert locked()["revision"] == FIRST


def test_another_folder_is_held_to_the_first(hub, card, tmp_path):
    weights.get(card, from_folder=bring(hub, tmp_path / "brought"))
    wipe(tmp_path / "cache")
    (tmp_path / "brought" / "config.json").write_bytes(b"other")
    with pytest.raises(CardError, match=r"config\.json must have sha256 .* delete toy"):
        weights.get(card, from_folder=tmp_path / "brought")
    weights.get(card, from_folder=bring(hub, tmp_path / "brought"))


def test_a_pointer_of_git_lfs_is_refused_and_not_locked(hub, card, tmp_path):
    folder = bring(hub, tmp_path / "brought")
    (folder / "model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    )
    with pytest.raises(CardError, match="must be a safetensors file, got"):
        weights.get(card, from_folder=folder)
    assert not lock_path().exists()
    weights.get(card, from_folder=bring(hub, folder))


def test_the_hub_names_the_commit_of_what_a_folder_gave(hub, card, tmp_path):
    weights.get(card, from_folder=bring(hub, tmp_path / "brought"))
    wipe(tmp_path / "cache")
    assert weights.get(card).source == f"hub someone/toy@{FIRST}"
    assert locked()["revision"] == FIRST
    assert all("None" not in path for _, path in hub.asked)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_hub_that_moved_on_is_held_to_what_a_folder_gave(hub, card, tmp_path, file):
    weights.get(card, from_folder=bring(hub, tmp_path / "brought"))
    before = lock_path().read_text()
    wipe(tmp_path / "cache")
    hub.commits[SECOND] = hub.commits[FIRST] | {file: save({"b": torch.ones(1)})}
    hub.main = SECOND
    with pytest.raises(CardError, match=rf"from a folder, got .*{SECOND}.*--from"):
        weights.get(card)
    assert lock_path().read_text() == before
    if file == "model.safetensors":
        assert not weights.is_at_hand(card)  # though the hub's cache holds a file
    weights.get(card, from_folder=tmp_path / "brought")

    wipe(tmp_path / "cache-old")
    wipe(tmp_path / "cache")
    lock_path().unlink()  # as the message says
    assert weights.get(card).source == f"hub someone/toy@{SECOND}"


def test_a_hub_must_have_each_file_that_a_folder_gave(hub, card, tmp_path):
    folder = bring(hub, tmp_path / "brought")
    (folder / "vocab.txt").write_bytes(b"a\nb")
    weights.get(card, from_folder=folder)
    wipe(tmp_path / "cache")
    with pytest.raises(CardError, match=r"vocab\.txt .* got no such file at commit"):
        weights.get(card)
    with pytest.raises(CardError, match="fewshot zoo get toy"):
        weights.locate(card)


def test_a_hash_pinned_later_comes_before_that_of_a_folder(hub, card, tmp_path):
    weights.get(card, from_folder=bring(hub, tmp_path / "brought"))
    new = save({"b": torch.ones(1)})
    hub.commits[SECOND] = {"model.safetensors": new, "config.json": b"{}"}
    moved = with_source(card, revision=SECOND, sha256=sha(new))
    assert weights.get(moved).source == f"hub someone/toy@{SECOND}"
    assert locked()["files"]["model.safetensors"] == sha(new)


def test_a_folder_with_other_bytes_than_pinned_is_refused(hub, card, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"other")
    (tmp_path / "config.json").write_bytes(b"{}")
    with pytest.raises(CardError, match=f"must have sha256 {'0' * 64}, got"):
        weights.get(with_source(card, sha256="0" * 64), from_folder=tmp_path)
    assert Path(tmp_path / "model.safetensors").exists()


def test_a_damaged_lock_is_not_overwritten(hub, card):
    lock_path().parent.mkdir(parents=True)
    lock_path().write_text("{")
    with pytest.raises(CardError, match=r"zoo\.lock\.json must be the JSON"):
        weights.get(card)
    assert lock_path().read_text() == "{"
