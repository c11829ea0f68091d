import pytest

from fewshot_automl.executors import InProcess


def interrupt(allowance):
    raise KeyboardInterrupt


class Panic(BaseException):
    """Stands for a panic of Rust code, which is no Exception."""


def panic(allowance):
    raise Panic("at the disco")


def test_nothing_runs_before_wait():
    ran = []
    executor = InProcess()
    executor.submit(lambda x, allowance: ran.append((x, allowance)), (1,), 2.5)
    assert ran == []
    executor.wait()
    assert ran == [(1, 2.5)]


def test_ctrl_c_is_not_a_result():
    executor = InProcess()
    executor.submit(interrupt, (), None)
    with pytest.raises(KeyboardInterrupt):
        executor.wait()
    assert executor.wait() == []


def test_a_panic_is_a_result():
    executor = InProcess()
    executor.submit(panic, (), None)
    (done,) = executor.wait()
    assert isinstance(done.error, Panic)
