"""Images of evaluations in a store, as they were attacked and predicted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbench.files import file_sha256, sha256, write_bytes
from segbench.reports.evidence import KeptImage
from segbench.store.evaluations import Evaluations
from segbench.store.npz import packed, unpacked


class Images(Evaluations):
    """The images that were kept of evaluations."""

    def keep_image(self, digest: str, image: KeptImage) -> str:
        """Store an image of an evaluation as it was attacked and predicted; return its hash, for `write_record`."""
        content = packed(**vars(image))
        write_bytes(self._image(digest, image.index), content)
        return sha256(content)

    def keeps_image(self, digest: str, index: int, stated: str | None) -> bool:
        """Whether an image of an unfinished evaluation was kept, and is whole.

        Args:
            digest: of the evaluation.
            index: position of the image in the split.
            stated: its hash; None where none was kept.
        """
        path = self._image(digest, index)
        return path.is_file() and file_sha256(path) == stated

    def kept_images(self, digest: str) -> list[KeptImage]:
        """Return the images of an evaluation that were kept, in the order of the split.

        Raises:
            StoreError: one is damaged or missing.
        """
        files = self._files(digest)
        return [self._kept(digest, name, files) for name in self._kept_names(digest, files)]

    def kept_indices(self, digest: str) -> list[int]:
        """Return the positions in the split of the images of an evaluation that were kept, in order."""
        return [int(Path(name).stem) for name in self._kept_names(digest, self._files(digest))]

    def kept_image(self, digest: str, index: int) -> KeptImage | None:
        """Return the image of an evaluation at a position of the split, or None where it was not kept.

        Raises:
            StoreError: it is damaged or missing.
        """
        files, name = self._files(digest), f"images/{self._image(digest, index).name}"
        return self._kept(digest, name, files) if name in self._kept_names(digest, files) else None

    def _kept_names(self, digest: str, files: Mapping[str, str]) -> list[str]:
        on_disk = (f"images/{path.name}" for path in (self.eval_dir(digest) / "images").glob("*.npz"))
        return sorted(name for name in files or on_disk if name.startswith("images/"))

    def _kept(self, digest: str, name: str, files: Mapping[str, str]) -> KeptImage:
        own: dict[str, Any] = unpacked(self._verified(digest, name, files), self.eval_dir(digest) / name)
        return KeptImage(**{**own, "index": int(own["index"]), "name": str(own["name"])})
