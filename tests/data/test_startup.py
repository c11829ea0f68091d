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
