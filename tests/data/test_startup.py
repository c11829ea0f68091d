import subprocess
import sys


def test_importing_the_room_loads_no_heavy_library():
    code = (
        "import sys, fewshot_automl.data; "
        "print([m for m in ('torch', 'pandas', 'datasets', 'pyarrow', 'sklearn') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_importing_all_of_a_fit_loads_only_what_every_fit_needs():
    code = (
        "import sys, fewshot_automl.automl.fit, fewshot_automl.cli.display; "
        "print([m for m in ('accelerate', 'botorch', 'datasets', 'gpytorch', "
        "'huggingface_hub', 'optuna', 'pandas', 'peft', 'scipy', 'sklearn', 'sympy', "
        "'timm', 'torch._dynamo', 'torchvision', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
