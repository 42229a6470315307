"""Writing to a zoo on the Hugging Face Hub: a network is one commit, with the page of the zoo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segbench.zoo.cards import ZooError

_PLACE = re.compile(
    r"(?:(?P<kind>models|datasets)/)?(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<folder>.+))?"
)


class Place(NamedTuple):
    """A folder of a repository on the Hub.

    Attributes:
        kind: "model" or "dataset".
        repository: OWNER/NAME.
        revision: the branch; None for the main one.
        folder: the folder in it; "" for the whole repository.
    """

    kind: str
    repository: str
    revision: str | None
    folder: str

    def path(self, name: str) -> str:
        """Return the path of a file of the folder in the repository."""
        return f"{self.folder}/{name}" if self.folder else name


def parse_place(root: str) -> Place:
    """Read the path of an address that begins with hf://.

    Raises:
        ZooError: it names no repository.
    """
    found = _PLACE.fullmatch(root.strip("/"))
    if found is None:
        raise ZooError(f"zoo hf://{root}: names no repository; write hf://OWNER/NAME, or hf://OWNER/NAME/FOLDER")
    kind = "dataset" if found["kind"] == "datasets" else "model"
    return Place(kind, found["repository"], found["revision"], found["folder"] or "")


def commit(files: Any, place: Place, contents: Mapping[str, bytes | Path], message: str) -> None:
    """Write files into a repository as one commit; the repository is made if there is none.

    Args:
        files: the file system by which the Hub is read.
        place: the folder.
        contents: path in the folder -> content, or the file that holds it.
        message: the commit's message.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=files.endpoint, token=files.token)
    api.create_repo(place.repository, repo_type=place.kind, exist_ok=True)
    operations = [
        CommitOperationAdd(place.path(name), str(content) if isinstance(content, Path) else content)
        for name, content in contents.items()
    ]
    api.create_commit(
        place.repository, operations, commit_message=message, repo_type=place.kind, revision=place.revision
    )
    files.invalidate_cache()
