import subprocess
import sys

HEAVY = ("numpy", "pandas", "torch", "transformers", "boto3")


def test_the_planner_imports_nothing_heavy():
    program = f"import spotune.planner, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
