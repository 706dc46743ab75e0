"""What a wheel holds beside the package: the files that stand at the top level of a clone."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedFiles(BuildHookInterface[Any]):
    """Copies them to product_relevance/shipped/; an editable install reads them from the clone itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files before the wheel is built.

        Args:
            version: "standard", or "editable", whose copies would go stale.
            build_data: Of this build; hatchling reads `force_include`.
        """
        if version == "standard":
            for name in self.config["shipped"]:
                build_data["force_include"][name] = f"product_relevance/shipped/{name}"
