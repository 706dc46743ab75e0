"""The pages that a reader has: the README and all of docs/."""

from tests.conftest import ROOT


def pages() -> list[str]:
    """Return the paths of all pages from the repository's root."""
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
