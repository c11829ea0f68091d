"""Fixtures that more than one room's tests use: tiny backbones with random weights."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# No test asserts a time: machines are shared.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TINY_ZOO = Path(__file__).parent / "zoo"
TINY_IDS = sorted(path.stem for path in TINY_ZOO.glob("*/*.toml"))
WORDS = "good bad film the a an is was who what when where why how many river city name"


@pytest.fixture(scope="session")
def tiny_cards():
    """Every tiny card by id."""
    from fewshot_automl.backbones.card import read_card

    return {path.stem: read_card(path) for path in sorted(TINY_ZOO.glob("*/*.toml"))}


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Callable:
    """Return ``(card, seed=0) -> folder`` with random weights for any card.

    Its parent, which holds all of them, is laid out as ``FEWSHOT_ZOO_PATH`` wants it.
    """
    homes = {}

    def make(card, seed: int = 0, tokenizer: str | None = None) -> Path:
        homes.setdefault(seed, tmp_path_factory.mktemp(f"weights-{seed}"))
        folder = homes[seed] / card.id
        if not folder.exists():
            write_weights(card, folder, seed, tokenizer)
        return folder

    return make


def write_weights(card, folder: Path, seed: int = 0, tokenizer: str | None = None):
    """Write random weights for any card."""
    import torch
    from safetensors.torch import save_file

    from fewshot_automl.backbones.load import build

    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module, anatomy = build(card)
        state = {
            name: _stirred(name, tensor) for name, tensor in module.state_dict().items()
        }
    if card.modality == "text":
        text = tokenizer or _tokenizer(anatomy.pad_id)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    save_file(state, folder / "model.safetensors")


@pytest.fixture(scope="session")
def tiny_backbone(tiny_cards, random_weights) -> Callable:
    """Return ``id -> backbone``; the same object each time, so fork before changing."""
    from fewshot_automl.backbones.load import load

    loaded = {}

    def get(card_id: str):
        if card_id not in loaded:
            card = tiny_cards[card_id]
            loaded[card_id] = load(card, random_weights(card))
        return loaded[card_id]

    return get


@pytest.fixture(scope="session")
def tiny_zoo_weights(tiny_cards, random_weights) -> Path:
    """Return a folder with weights of all tiny cards, for ``FEWSHOT_ZOO_PATH``."""
    folders = [random_weights(card) for card in tiny_cards.values()]
    return folders[0].parent


def _stirred(name, tensor):
    """Move every weight off special values such as 0, 1 and 1e-6, which hide bugs."""
    import torch

    if not tensor.is_floating_point():
        return tensor.clone()
    noise = torch.randn_like(tensor)
    if name.endswith("running_var"):
        return 1 + 0.2 * noise.abs()
    return (tensor + 0.05 * noise).contiguous()


def _tokenizer(pad_id: int) -> str:
    """Return a WordPiece tokenizer that knows some words and every ASCII letter."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[CLS]", "[SEP]", "[UNK]"]
    special.insert(pad_id, "[PAD]")
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [f"##{letter}" for letter in letters if letter.isalnum()]
    tokens = dict.fromkeys([*special, *letters, *pieces, *WORDS.split()])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    # Real files often carry the padding of their authors' last call; so does ours.
    tokenizer.enable_padding(length=40, pad_id=pad_id, pad_token="[PAD]")
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory, tiny_cards, random_weights):
    """Start a Ray cluster of this machine, with two CPUs, and return its address.

    Its workers have a cache of their own, and weights of tiny-bert.
    """
    pytest.importorskip("ray", reason="Ray, of the extra `ray`, is not installed")
    home = tmp_path_factory.mktemp("ray")
    root = str(Path(__file__).parents[1])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    places = {
        "RAY_worker_niceness": "0",  # of its own 15 a busy machine sees little
        "FEWSHOT_ZOO_PATH": str(random_weights(tiny_cards["tiny-bert"]).parent),
        "FEWSHOT_CACHE": str(home / "cache"),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    os.environ.update({"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"})
    for attempt in range(3):  # on a busy machine Ray gives up after 30 s
        head, port, log = _started_head(home / f"said-{attempt}.txt", places)
        if head.poll() is None:
            break
    else:
        pytest.fail(log.read_text())
    yield f"127.0.0.1:{port}"
    head.terminate()  # it ends those that it has started
    head.wait(60)


def _started_head(log: Path, places: dict) -> tuple[subprocess.Popen, int, Path]:
    """Start the head of a cluster; wait until it runs, or has given up."""
    names = ("port", "dashboard-agent-grpc-port", "dashboard-agent-listen-port")
    names = (*names, "metrics-export-port", "runtime-env-agent-port")
    # Fixed ones: on a slow machine Ray gives up before its agents have chosen theirs.
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--num-cpus=2", "--num-gpus=0", "--include-dashboard=false"),
        *("--node-ip-address=127.0.0.1", "--object-store-memory=200000000"),
        *(f"--{name}={port}" for name, port in ports.items()),
    ]
    with log.open("wb") as said:
        head = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, **places}
        )
    while head.poll() is None and "Ray runtime started" not in log.read_text():
        time.sleep(0.5)
    return head, ports["port"], log


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="session")
def postgres():
    """Start a PostgreSQL server on the loopback; return the URL of its database."""
    pytest.importorskip("psycopg", reason="psycopg, of the extra `postgres`, is absent")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or shutil.which("runuser") is None or os.getuid() != 0:
        pytest.skip(
            "needs Debian's package postgresql, and to be root, which it refuses"
        )
    with tempfile.TemporaryDirectory() as name:
        home, (port,), word = Path(name), free_ports(1), secrets.token_hex(8)
        (home / "word").write_text(word)
        for each in (home, home / "word"):
            shutil.chown(each, "postgres")

        def run(program: str, *words: str) -> None:
            command = ("runuser", "-u", "postgres", "--", programs[-1] / program)
            subprocess.run([*command, *words], check=True, capture_output=True)

        server = ("-D", f"{home}/data", "-w", "-t", "300", "-l", f"{home}/log")
        about = f"-p {port} -c listen_addresses=127.0.0.1 -k {home} -c fsync=off"
        user = ("-U", "fewshot", "-A", "scram-sha-256", f"--pwfile={home}/word")
        run("initdb", "-D", f"{home}/data", "--no-sync", *user)
        run("pg_ctl", "start", *server, "-o", about)
        os.environ["PGPASSWORD"] = word
        try:
            yield f"postgresql://fewshot@127.0.0.1:{port}/postgres"
        finally:
            del os.environ["PGPASSWORD"]
            run("pg_ctl", "stop", "-D", f"{home}/data", "-m", "immediate")
