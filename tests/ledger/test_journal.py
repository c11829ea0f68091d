import json
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_automl.ledger.journal import JournalLock, mend


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "study.journal"
    path.write_bytes(b'{"op_code":0}\n{"op_code":4}\n')
    return path


def test_a_whole_journal_is_left_alone(journal):
    before = journal.read_bytes()
    assert mend(journal) == 0
    assert journal.read_bytes() == before
    assert not journal.with_name("study.journal.torn").exists()


@pytest.mark.parametrize(
    "torn", [b'{"op', b"{", b"\x00\x00\x00", b'{"op_code":4}', b"[1]\n"]
)
def test_a_torn_last_line_is_cut_and_kept_aside(journal, torn):
    before = journal.read_bytes()
    journal.write_bytes(before + torn)
    assert mend(journal) == len(torn)
    assert journal.read_bytes() == before
    aside = journal.with_name("study.journal.torn").read_bytes()
    assert aside.rstrip(b"\n") == torn.rstrip(b"\n")


def test_an_empty_journal_needs_no_mending(tmp_path):
    (tmp_path / "j").touch()
    assert mend(tmp_path / "j") == 0


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


def test_a_lock_file_of_a_dead_writer_does_not_block(journal):
    lock_file = journal.with_name("study.journal.lock")
    lock_file.symlink_to(journal)  # as Optuna's own backend leaves it
    lock = JournalLock(journal, patience_seconds=0.1)
    assert lock.acquire()
    lock.release()
    assert not lock_file.exists()


def test_a_foreign_writer_that_lives_is_waited_for(journal):
    lock_file = journal.with_name("study.journal.lock")
    lock_file.symlink_to(journal)
    gone = []
    threading.Timer(
        0.2, lambda: (gone.append(os.path.lexists(lock_file)), lock_file.unlink())
    ).start()
    lock = JournalLock(journal, patience_seconds=9000.0)  # pytest has less
    assert lock.acquire()
    assert gone == [True]  # it was not broken
    lock.release()


def test_optunas_own_lock_keeps_out_while_ours_is_held(journal):
    from optuna.storages.journal import JournalFileSymlinkLock

    ours, theirs = JournalLock(journal), JournalFileSymlinkLock(str(journal))
    ours.acquire()
    got = threading.Event()
    thread = threading.Thread(target=lambda: (theirs.acquire(), got.set()))
    thread.start()
    assert not got.wait(0.2)
    ours.release()
    assert got.wait(60)
    thread.join()
    theirs.release()


def test_a_killed_holder_frees_the_lock_at_once(journal):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from fewshot_automl.ledger.journal import JournalLock\n"
        "JournalLock(Path(sys.argv[1])).acquire(); print('held', flush=True)\n"
        "time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(journal)], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    assert os.path.lexists(f"{journal}.lock")
    lock = JournalLock(journal, patience_seconds=0.2)
    assert lock.acquire()
    lock.release()
