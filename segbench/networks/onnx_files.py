"""Networks that are ONNX files: run by onnxruntime, so that they give scores or labels and no gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segbench.config.network import Convention
from segbench.errors import CellError, SegbenchError, failing
from segbench.files import file_sha256, is_file
from segbench.networks.loaded import Loaded

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""Types of an input that images can be given as."""
WHOLE = ("tensor(uint8)", "tensor(int8)", "tensor(uint16)", "tensor(int16)", "tensor(int32)", "tensor(int64)")


def from_onnx(rest: str, weights: str | None, num_classes: int | None) -> Loaded:
    """Load an ONNX file; its classes are those of the file.

    Raises:
        SegbenchError: there is no such file, it cannot be read, or it takes something other than a batch of images.
    """
    path = Path(rest)
    if not is_file(path):
        raise SegbenchError(f"{path}: there is no such file")
    if weights is not None:
        raise SegbenchError(f"{path}: an ONNX file holds its weights, got {weights}; leave them out")
    network = OnnxNetwork(path)
    access = "labels" if network.labels else "scores"
    return Loaded(network, Convention(), {"kind": "onnx"}, notes=network.notes, access=access)  # type: ignore[arg-type]


class OnnxNetwork(nn.Module):
    """An ONNX file as a network without gradients: images (N, 3, H, W) -> its outputs, by name where there are several.

    A file that takes a fixed number of images gets so many at once, the last ones repeated. Images and outputs may have
    their channels last. The hash of the file and of the files beside it that hold its weights is a buffer, so that they
    identify the network.

    Args:
        path: the file.

    Raises:
        SegbenchError: onnx or onnxruntime is not installed, the file is damaged, or it takes no images.
    """

    sha256: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name_or_path = str(path)
        content = b"".join(bytes.fromhex(file_sha256(file)) for file in (path, *_beside(path)))
        self.register_buffer("sha256", torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8))
        session = self._session(torch.device("cpu"))
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in TYPES:
            found = ", ".join(f"{own.name} {own.type} {own.shape}" for own in inputs)
            raise SegbenchError(f"{path}: takes {found}; expected one input of images (N, 3, H, W), float or uint8")
        shape = inputs[0].shape
        self.last = shape[3] == 3 and shape[1] != 3
        if not self.last and isinstance(shape[1], int) and shape[1] != 3:
            raise SegbenchError(f"{path}: takes images of {shape[1]} channels {shape}; expected 3 channels, RGB or BGR")
        self.batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
        sides = shape[1:3] if self.last else shape[2:]
        self.size = tuple(side if isinstance(side, int) and side > 0 else None for side in sides)
        self.labels = len(outputs) == 1 and outputs[0].type in WHOLE

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, as sentences."""
        return ("its images are given with the channels last",) if self.last else ()

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """Run the file on images (N, 3, H, W), on their device where onnxruntime can."""
        for wanted, found in zip(self.size, images.shape[2:], strict=True):
            if wanted is not None and wanted != found:
                height, width = (fixed or own for fixed, own in zip(self.size, images.shape[2:], strict=True))
                raise CellError(
                    f"{self.name_or_path} takes images of {height} x {width} pixels alone, got "
                    f"{images.shape[2]} x {images.shape[3]}; resize them with the protocol "
                    f"whole-v1(size=[{height}, {width}]), or export it with dynamic axes"
                )
        session = self._session(images.device)
        size = self.batch or len(images)
        parts = [self._run(session, images[start : start + size], size) for start in range(0, len(images), size)]
        joined = [torch.from_numpy(np.concatenate(own)).to(images.device) for own in zip(*parts, strict=True)]
        outputs = [own.permute(0, 3, 1, 2) if self._is_last(own, images.shape[2:]) else own for own in joined]
        names = [output.name for output in session.get_outputs()]
        return outputs[0] if len(outputs) == 1 else dict(zip(names, outputs, strict=True))

    def _is_last(self, output: Tensor, size: torch.Size) -> bool:
        """Whether an output has its channels last: as its size says, or as the input has where that does not."""
        if output.ndim != 4:
            return False
        first, last = output.shape[2:] == size, output.shape[1:3] == size
        return self.last if first == last else last

    def _run(self, session: Any, images: Tensor, size: int) -> list[np.ndarray[Any, Any]]:
        """Return the outputs for at most `size` images, filled up with the last one where the file takes no fewer."""
        filled = torch.cat([images, images[-1:].expand(size - len(images), -1, -1, -1)])
        taken = session.get_inputs()[0]
        values = (filled.permute(0, 2, 3, 1) if self.last else filled).detach().cpu().numpy()
        kind = TYPES[taken.type]
        values = np.ascontiguousarray(np.rint(values) if kind is np.uint8 else values).astype(kind)
        return [np.asarray(output)[: len(images)] for output in session.run(None, {taken.name: values})]

    def _session(self, device: torch.device) -> Any:
        digest = self.sha256.cpu().numpy().tobytes()
        return _session(self.name_or_path, digest, _provider(device), torch.get_num_threads())


@lru_cache(maxsize=8)
def _session(path: str, digest: bytes, provider: str, threads: int) -> Any:
    """Return a session of a file; the same one for the same content, so that it is loaded once.

    Sessions are kept here and not in the network, because they are no part of what identifies it.
    """
    runtime = _imported("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with failing(f"{path}: not readable as an ONNX network"):
        return runtime.InferenceSession(path, options, providers=[provider])


def _provider(device: torch.device) -> str:
    wanted = "CUDAExecutionProvider"
    usable = device.type == "cuda" and wanted in _imported("onnxruntime").get_available_providers()
    return wanted if usable else "CPUExecutionProvider"


def _beside(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold its weights, each once and by name.

    Raises:
        SegbenchError: the file is damaged, or names one that lies elsewhere or nowhere.
    """
    onnx = _imported("onnx")
    with failing(f"{path}: not readable as an ONNX network"):
        model = onnx.load(str(path), load_external_data=False)
    tensors = [*_tensors(model.graph), *(own for function in model.functions for own in _of_nodes(function.node))]
    places = {
        entry.value
        for tensor in tensors
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    found = []
    for place in sorted(places):
        inside = PurePosixPath(place)
        if inside.is_absolute() or ".." in inside.parts or "\\" in place or "\0" in place:
            raise SegbenchError(f"{path}: its weights are to lie in {place!r}, outside its folder; export it again")
        if not is_file(path.parent / inside):
            raise SegbenchError(f"{path}: its weights lie in {place!r}, which is not beside it; copy that file too")
        found.append(path.parent / inside)
    return found


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every constant tensor of a graph and of the graphs inside it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors(graph)


def _imported(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise SegbenchError(f"ONNX files need {name}: pip install 'segbench[onnx]'") from error
