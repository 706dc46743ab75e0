"""What a launcher starts when several trainings share one job: imports once, then a fork and a meeting for each."""

import json
import os
import sys
import traceback


def train(port: int, flags: list[str]) -> int:
    """Train as train_relevance.py does, where the processes of this training meet; returns the exit status."""
    import train_relevance

    os.environ.update(MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="False")
    try:
        train_relevance.main(flags)
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

    import product_relevance.training.run  # noqa: F401

    *given, trainings = sys.argv[1:]  # deepspeed puts --local_rank in front
    for port, flags in json.loads(trainings):
        child = os.fork()  # no thread runs yet: a state of its own for each training
        if child == 0:
            os._exit(train(port, [*given, *flags]))
        if os.waitpid(child, 0)[1]:
            sys.exit(f"this training failed: {flags}")


if __name__ == "__main__":
    main()
