import pytest

from fewshot_automl.cli.entry import run
from fewshot_automl.cli.plan import devices_of
from fewshot_automl.errors import UserError

GB = 1_000_000_000


def test_it_says_where_a_fit_would_run(home, at_home, last_json):
    words = ["plan", "reviews.csv", "--target", "stars", "--backbones", "tiny-bert"]
    assert run([*words, "--workers", "2", "--json", "--devices", "2x24GB"]) == 0
    found, err = last_json()
    assert (found["device"], found["executor"]) == ("cuda", "loky")
    assert "On 2x24GB:" in err
    assert "trials    2 side by side" in err
    assert "on        cuda 0, cuda 1" in err
    assert found["reason"] in " ".join(err.split())
    assert "Placement: " in err
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("4x24GB", [("cuda", 24 * GB, 1, 0, False)] * 4),
        ("2x80GB, NVLink", [("cuda", 80 * GB, 1, 0, True)] * 2),
        ("24GB+8GB", [("cuda", 24 * GB, 1, 0, False), ("cuda", 8 * GB, 1, 0, False)]),
        ("gpu+cpu:4", [("cuda", None, 1, 0, False), ("cpu", None, 4, 0, False)]),
        ("cpu:2:8GB", [("cpu", 8 * GB, 2, 0, False)]),
        ("mps:16GB", [("mps", 16 * GB, 1, 0, False)]),
        ("2 nodes x 1x40GB", [("cuda", 40 * GB, 1, n, False) for n in (0, 1)]),
    ],
)
def test_devices_are_described_by_words(words, expected):
    found = devices_of(words)
    assert [
        (one.kind, one.memory_bytes, one.cores, one.node, one.is_linked)
        for one in found
    ] == expected


@pytest.mark.parametrize("words", ["", "4x", "0x24GB", "tpu", "24GB,fast", "cpu:0"])
def test_other_words_are_refused(words):
    with pytest.raises(UserError, match="devices must be as in"):
        devices_of(words)
