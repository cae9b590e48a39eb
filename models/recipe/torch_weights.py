"""Reads the tensors of an old-format PyTorch file (before 1.6, not a zip) without PyTorch and without running it.

A pickle can call anything it names; this unpickler knows the four names that a table of tensors needs and refuses
every other. Layout (torch/serialization.py, `_legacy_load`): magic number, protocol version, system information,
the pickled table, the list of storage keys, then for each storage its length (int64) and its values.
"""

import io
import pickle
from collections import OrderedDict

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class RefusedPickle(ValueError):
    pass


def read_weights(data: bytes) -> "OrderedDict[str, np.ndarray]":
    stream = io.BytesIO(data)
    storages: dict[str, tuple[np.dtype, int]] = {}
    if _Unpickler(stream).load() != MAGIC or _Unpickler(stream).load() != PROTOCOL:
        raise RefusedPickle("not a PyTorch file of the old format")
    if not _Unpickler(stream).load().get("little_endian"):
        raise RefusedPickle("not little-endian")
    table = _Unpickler(stream, storages).load()
    keys = _Unpickler(stream).load()
    values = {}
    for key in keys:
        dtype, size = storages[key]
        if int.from_bytes(stream.read(8), "little") != size:
            raise RefusedPickle(f"storage {key} is not of the size the table says")
        values[key] = np.frombuffer(stream.read(size * dtype.itemsize), dtype, size)
    if stream.read(1):
        raise RefusedPickle("something follows the last storage")
    return OrderedDict((name, tensor(values)) for name, tensor in table.items())


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, storages: dict[str, tuple[np.dtype, int]] | None = None):
        super().__init__(stream)
        self.storages = storages

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise RefusedPickle(f"the file names {module}.{name}, which a table of tensors does not need")

    def persistent_load(self, identity):
        """('storage', type, key, place, size, view): told by its key, read later."""
        kind, dtype, key, _place, size, view = identity
        if self.storages is None or kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise RefusedPickle("an unknown kind of reference")
        self.storages[key] = (dtype, size)
        return key


def _tensor(key, offset, shape, strides, *_):
    """A function from the storages' values to the tensor."""

    def read(values: dict[str, np.ndarray]) -> np.ndarray:
        flat = values[key]
        last = offset + sum((size - 1) * step for size, step in zip(shape, strides))
        if offset < 0 or min((*shape, 1)) < 1 or min((*strides, 0)) < 0 or last >= len(flat):
            raise RefusedPickle("a tensor reaches beyond its storage")
        steps = [step * flat.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps).copy()

    return read
