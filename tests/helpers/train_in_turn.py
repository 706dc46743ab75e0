"""What a launcher starts when several trainings share one job: imports once, then a fork and a meeting for each."""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "train_relevance.py"


def train(port: int | None, flags: list[str]) -> int:
    """Run train_relevance.py as a script, its processes meeting at a port or where the launcher says; exit status."""
    if port:
        os.environ.update(MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="False")
    sys.argv = [str(SCRIPT), *flags]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main() -> None:
    """Train in turn by the (port, flags) of a JSON list, the last word; stop at the first that fails."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401

    import product_relevance.training.fold  # noqa: F401

    *given, trainings = sys.argv[1:]  # deepspeed puts --local_rank in front
    if given:
        import deepspeed

        # Processes on one CPU sum through gloo, as torchrun's do: to compile DeepSpeed's own sum takes a minute.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    for port, flags in json.loads(trainings):
        child = os.fork()  # no thread runs yet: a state of its own for each training
        if child == 0:
            os._exit(train(port, [*given, *flags]))
        if os.waitpid(child, 0)[1]:
            sys.exit(f"this training failed: {flags}")


if __name__ == "__main__":
    main()
