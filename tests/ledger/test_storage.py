import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_automl.ledger.storage import JournalLock, mend


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "study.journal"
    path.write_bytes(b'{"op_code":0}\n{"op_code":4}\n')
    return path


@pytest.mark.parametrize("torn", [b"", b"{", b"\x00\x00\x00", b'{"op_code":4}'])
def test_a_torn_last_line_is_cut(journal, torn):
    before = journal.read_bytes()
    journal.write_bytes(before + torn)
    mend(journal)
    assert journal.read_bytes() == before


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.text(max_size=100), min_size=1, max_size=4),
    size=st.integers(1, 200_000),
    data=st.data(),
)
def test_what_is_left_is_whole_lines_wherever_it_was_cut(tmp_path, lines, size, data):
    path = tmp_path / "j"
    rows = [{"text": text} for text in lines] + [{"text": "x" * size}]
    whole = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    mend(path)
    left = path.read_bytes()
    assert left == whole[: whole.rfind(b"\n", 0, cut) + 1]


def test_a_killed_holder_frees_the_lock(journal):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from fewshot_automl.ledger.storage import JournalLock\n"
        "JournalLock(Path(sys.argv[1])).acquire(); print('held', flush=True)\n"
        "time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(journal)], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    lock = JournalLock(journal)
    assert lock.acquire()
    lock.release()
