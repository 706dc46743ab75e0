"""`--help` answers at once, also where Python keeps no compiled files."""

import resource
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.test_public_names import HEAVY

COMMANDS = [["-m", "product_relevance.cli.main"], ["train_relevance.py"], ["push_to_hub.py"]]


def seconds_of_cpu() -> float:
    """Seconds that the ended child processes kept a core busy, so that a loaded machine is not counted."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_help_is_instant(command):
    spent = []
    for _ in range(3):
        before = seconds_of_cpu()
        done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True)
        spent.append(seconds_of_cpu() - before)
        assert done.returncode == 0 and "usage" in done.stdout
    assert min(spent) < 1


def test_the_flags_of_all_commands_load_nothing_heavy():
    code = "import sys; from product_relevance.cli import main; main.make_parser()\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
