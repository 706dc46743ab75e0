"""Ask a server whether it is healthy, for a container: `python -m product_relevance.serving.http.healthcheck URL`."""

import os
import sys
from urllib.request import Request, urlopen


def check_health(url: str, timeout: float = 8.0) -> None:
    """Return where the server answers 200; the key of the environment goes along for --key_everywhere.

    Raises:
        OSError: no answer, or another status.
    """
    key = os.environ.get("RELEVANCE_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with urlopen(Request(url, headers=headers), timeout=timeout):
        pass


if __name__ == "__main__":
    try:
        check_health(sys.argv[1])
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
