import dataclasses
import hashlib
import http.server
import threading

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import HubSource, read_card
from fewshot_automl.backbones.zoo import Zoo, check, shipped_folder
from fewshot_automl.errors import CardError, DataError

FIRST, SECOND = "1" * 40, "2" * 40
TENSORS = {"a.weight": torch.ones(2, 3)}


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
            if "/resolve/" not in self.path:  # the client asks who it talks to
                self.send_error(404)
                return
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
    """A card that pins a commit."""
    shipped = read_card(shipped_folder() / "text" / "minilm-l6.toml")
    return with_source(dataclasses.replace(shipped, is_default=False), revision=FIRST)


def with_source(card, **changes):
    source = HubSource(repo="someone/toy", files=("config.json",), **changes)
    return dataclasses.replace(card, id="toy", sources=(source,))


def cut_off(monkeypatch):
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    # by itself the client would try a dead network for 23 seconds
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", pytest.fail)


def move_on(hub):
    """Let the repository's main branch be another commit."""
    hub.main = SECOND
    new = {"model.safetensors": save({"b": torch.ones(1)}), "config.json": b"{}"}
    hub.commits[SECOND] = new


def bring(hub, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in hub.commits[FIRST].items():
        (folder / file).write_bytes(content)
    return folder


def test_the_pinned_commit_is_taken_though_the_repository_moved_on(hub, card):
    move_on(hub)
    folder = weights.get(card)
    assert folder.name == FIRST
    assert load_file(folder / "model.safetensors").keys() == TENSORS.keys()
    assert (folder / "config.json").read_bytes() == b"{}"
    assert all(FIRST in path for _, path in hub.asked)
    assert weights.is_at_hand(card)


def test_a_pinned_hash_that_does_not_match_is_refused(hub, card, tmp_path):
    pinned = with_source(card, revision=FIRST, sha256="0" * 64)
    with pytest.raises(CardError, match=f"must have sha256 {'0' * 64}, got"):
        weights.get(pinned)
    with pytest.raises(CardError, match=f"must have sha256 {'0' * 64}, got"):
        weights.get(pinned, from_folder=bring(hub, tmp_path / "brought"))
    assert not (tmp_path / "zoo").exists()


def test_the_hub_cache_serves_without_a_network(hub, card, monkeypatch):
    first = weights.get(card)
    cut_off(monkeypatch)
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
    with pytest.raises(CardError, match=r"someone/toy must give config\.json"):
        weights.get(card)


def test_a_file_that_is_no_safetensors_is_refused(hub, card):
    hub.commits[FIRST]["model.safetensors"] = b"\x80\x04K\x01."  # a pickle
    with pytest.raises(CardError, match="must be a safetensors file"):
        weights.get(card)


def test_a_card_without_a_commit_is_not_fetched_by_itself(hub, card):
    loose = with_source(card)
    for fetch in (weights.get, weights.locate):
        with pytest.raises(CardError, match=r"toy .* --revision main"):
            fetch(loose)
    assert not weights.is_at_hand(loose)
    assert hub.asked == []


@pytest.mark.parametrize("revision", ["main", FIRST])
def test_a_revision_that_the_user_names_is_kept_with_its_commit(hub, card, revision):
    loose = with_source(card)
    folder = weights.get(loose, revision=revision)
    move_on(hub)
    assert weights.locate(loose) == weights.get(loose) == folder
    (source,) = read_card(folder / "card.json").sources
    assert (source.revision, source.sha256) == (FIRST, sha(save(TENSORS)))
    assert Zoo.known()["toy"].sources == (source,)
    assert check() == []
    again = weights.get(loose, revision="main")
    assert read_card(again / "card.json").sources[0].revision == SECOND


def test_a_revision_goes_with_the_hub_only(hub, card, tmp_path):
    with pytest.raises(DataError, match="--revision must go with a backbone from"):
        weights.get(Zoo.shipped()["resnet18"], revision="main")
    with pytest.raises(DataError, match="got toy and --from"):
        weights.get(card, revision="main", from_folder=tmp_path)


@pytest.mark.parametrize("name", ["toy", "."])
def test_a_folder_that_was_brought_here_serves(hub, card, tmp_path, name):
    bring(hub, tmp_path / "brought" / name)
    folder = weights.get(with_source(card), from_folder=tmp_path / "brought")
    assert folder == tmp_path / "zoo" / "toy"
    assert load_file(folder / "model.safetensors").keys() == TENSORS.keys()
    assert weights.is_at_hand(card)
    assert weights.locate(card) == folder
    assert hub.asked == []
    # a folder does not tell its commit; the card beside the weights names the bytes
    (source,) = read_card(folder / "card.json").sources
    assert (source.revision, source.sha256) == (None, sha(save(TENSORS)))


def test_a_folder_that_lacks_a_file_says_which(hub, card, tmp_path):
    folder = bring(hub, tmp_path / "brought")
    (folder / "config.json").unlink()
    with pytest.raises(CardError, match=r"must hold config\.json of someone/toy"):
        weights.get(card, from_folder=folder)


def test_a_pointer_of_git_lfs_is_refused_and_not_kept(hub, card, tmp_path):
    folder = bring(hub, tmp_path / "brought")
    (folder / "model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    )
    with pytest.raises(CardError, match="must be a safetensors file, got"):
        weights.get(card, from_folder=folder)
    assert not weights.is_at_hand(card)
    weights.get(card, from_folder=bring(hub, folder))
