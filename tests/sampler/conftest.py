import optuna
import pytest


@pytest.fixture(autouse=True)
def quiet():
    """Keep Optuna from announcing each trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)
