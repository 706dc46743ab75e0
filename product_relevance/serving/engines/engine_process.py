"""The process that runs vLLM, in this environment or another: token ids go in, probabilities come out."""

import json
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("vllm_worker.py")
VERSION = "from importlib.metadata import packages_distributions as p, version; print(version(p()['vllm'][0]))"
SHOWN = 12  # last lines of the log in an error
LESS_MEMORY = """
Where memory is short, let vLLM reserve less than its 92% of the GPU's, or on a CPU of the whole machine's:
--engine_options '{"gpu_memory_utilization": 0.3}'; "max_model_len" and "max_num_seqs" lower what it needs."""


def require_vllm(python: str) -> str:
    """Return the version of vLLM in an environment, without importing it.

    Args:
        python: of that environment.

    Raises:
        ValueError: no such program, or no vLLM there.
    """
    try:
        done = subprocess.run([python, "-c", VERSION], capture_output=True, text=True, check=False)
    except OSError as error:
        found = f"--engine_python {python}: {error.strerror}"
        raise ValueError(f"{found}; expected the python of an environment") from None
    if done.returncode:
        raise ValueError(
            f"--engine vllm: {python} has no vLLM. Install it in an environment of its own, as docs/how-to/engines.md "
            "shows, and name its python by --engine_python"
        )
    return done.stdout.strip()


class EngineProcess:
    """vLLM with one exported model; it ends with this object's `close`.

    Attributes:
        cached_tokens: of all rows so far, those that vLLM took from its prefix cache.
    """

    def __init__(self, python: str, folder: Path, options: Mapping[str, Any]) -> None:
        self.cached_tokens = 0
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (lives as long)
        self._process = subprocess.Popen(
            [python, str(WORKER), str(folder), json.dumps(dict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )
        self._answer()

    def score(self, ids: list[list[int]]) -> list[float]:
        """Return the probability of each row of token ids.

        Raises:
            ValueError: the process ended; the message shows the end of its log.
        """
        assert self._process.stdin is not None
        with suppress(OSError):  # it ended: `_answer` says why
            print(json.dumps(ids), file=self._process.stdin, flush=True)
        answer = self._answer()
        self.cached_tokens += answer["cached_tokens"]
        return answer["scores"]

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        raise ValueError(f"--engine vllm: its process {self._end()}")

    def _end(self) -> str:
        """Wait for the end of the process; return how it ended, the end of its log, and the way out if it is known."""
        code = self._process.wait()
        self._log.seek(0)
        log = "\n".join([line.rstrip() for line in self._log if line.strip()][-SHOWN:])
        how = "ended" if code >= 0 else f"was killed by signal {-code}"
        short = code == -signal.SIGKILL or "memory" in log.lower()  # a system that runs out of memory kills
        return f"{how}. The end of its log:\n{log}{LESS_MEMORY if short else ''}"
