"""What one upstream resource holds. Another resource knows nothing of it, as in Azure."""

from typing import Any

from devtools.simulator.tokens import Json


class Resource:
    """The objects of one resource, by collection (`files`, `threads/thread_1/messages`) and id, oldest first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects: dict[str, dict[str, Json]] = {}
        self.contents: dict[str, bytes] = {}
        """The bytes of files, by file id."""
        self.jobs: dict[str, Any] = {}
        """What goes on in the background, by the id of its object."""

    def collection(self, name: str) -> dict[str, Json]:
        """Returns a collection, to read or to change."""
        return self.objects.setdefault(name, {})
