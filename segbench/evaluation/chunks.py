"""The images of a sweep, in chunks that are attacked at once and read while earlier ones are attacked."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from segbench.config.matrix import Runtime
from segbench.evaluation.batch_size import MOST, BatchSizes
from segbench.evaluation.batching import Read, Reader
from segbench.evaluation.opened import Opened
from segbench.read_ahead import ReadAhead, fitting


class Chunks:
    """Some images of a sweep, in their order.

    A chunk begins at each multiple of the largest number of images, so that shards that begin there attack the same
    batches. A dynamic target sees images one by one.

    Args:
        opened: the sweep.
        sizes: how many pieces go through networks at once.
        network: the network as the attack sees it.
        runtime: names the largest number, and the threads that read.
        indices: of the images.
    """

    def __init__(self, opened: Opened, sizes: BatchSizes, network: nn.Module, runtime: Runtime, indices: range) -> None:
        self.opened, self.sizes, self.network = opened, sizes, network
        self.most = runtime.eval_batch or MOST
        pinned = opened.device.type == "cuda"
        reader = Reader(opened.split, opened.protocol, opened.classes, opened.void, pinned)
        threads = fitting(runtime.loader_workers, opened.device)
        self.reads = ReadAhead(reader, indices, threads=threads, ahead=max(1, threads))

    @property
    def waited(self) -> float:
        """Seconds in which an image was asked for and not there."""
        return self.reads.waited

    def __iter__(self) -> Iterator[list[Read]]:
        chunk: list[Read] = []
        together = 1
        for read in self.reads:
            if not chunk:
                together = self._together(read)
                self.reads.ahead = together + max(1, self.reads.threads) - 1
            chunk.append(read)
            if len(chunk) >= together or (read.index + 1) % self.most == 0:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _together(self, read: Read) -> int:
        """Return how many images like one are attacked at once."""
        if self.opened.dynamic:
            return 1
        piece = read.crops.images[:1].to(self.opened.device)
        most = self.sizes.most(self.opened.sweep.source.digest, self.network, piece)
        return max(1, most // len(read.crops.images))
