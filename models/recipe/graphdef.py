"""Reads TensorFlow's frozen GraphDef with nothing but the protobuf wire format.

Field numbers are those of tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto.
"""

from dataclasses import dataclass, field
from graphlib import TopologicalSorter

import numpy as np

FLOAT, INT32 = 1, 3  # tensorflow/core/framework/types.proto


@dataclass
class Node:
    name: str = ""
    op: str = ""
    inputs: list[str] = field(default_factory=list)
    attributes: dict[str, object] = field(default_factory=dict)


def read_graph(data: bytes) -> list[Node]:
    """The nodes, each after those it reads. An attribute is a str, int, float, array, list of int or, if of
    another kind, None."""
    nodes = [_node(value) for number, value in _fields(memoryview(data)) if number == 1]
    by_name = {node.name: node for node in nodes}
    order = TopologicalSorter({node.name: node.inputs for node in nodes}).static_order()
    return [by_name[name] for name in order]


def _node(data: memoryview) -> Node:
    node = Node()
    for number, value in _fields(data):
        if number == 1:
            node.name = bytes(value).decode()
        elif number == 2:
            node.op = bytes(value).decode()
        elif number == 3:
            name = bytes(value).decode()
            if not name.startswith("^"):  # an order of running, not a value
                node.inputs.append(name.removesuffix(":0"))
        elif number == 5:
            entry = dict(_fields(value))
            node.attributes[bytes(entry[1]).decode()] = _attribute(entry[2])
    return node


def _attribute(data: memoryview) -> object:
    for number, value in _fields(data):
        if number == 1:  # list(int), packed
            return [item for n, packed in _fields(value) if n == 3 for item in _varints(packed)]
        if number == 2:
            return bytes(value).decode()
        if number in (3, 5):  # int, bool
            return value
        if number == 4:
            return float(np.frombuffer(value, "<f4")[0])
        if number == 8:
            return _tensor(value)
    return None


def _tensor(data: memoryview) -> np.ndarray:
    kind, shape, content, listed = 0, [], b"", []
    for number, value in _fields(data):
        if number == 1:
            kind = value
        elif number == 2:
            shape = [dict(_fields(dim)).get(1, 0) for n, dim in _fields(value) if n == 2]
        elif number == 4:
            content = value
        elif number == 5:  # float_val, packed or single
            listed.extend(np.frombuffer(value, "<f4"))
        elif number == 7:  # int_val
            listed.extend([value] if isinstance(value, int) else _varints(value))
    if kind not in (FLOAT, INT32):
        raise ValueError(f"a constant is of type {kind}; only float and int32 are known")
    dtype = np.dtype("<f4" if kind == FLOAT else "<i4")
    if content:
        return np.frombuffer(content, dtype).reshape(shape)
    # A list shorter than the shape repeats its last value.
    values = np.array(listed or [0]).astype(dtype)
    return np.concatenate([values, np.full(int(np.prod(shape)) - len(values), values[-1], dtype)]).reshape(shape)


def _fields(data: memoryview):
    """(field number, value): an int for varints, bytes for the rest."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 2, 5):
            if wire == 2:
                length, at = _varint(data, at)
            else:
                length = 8 if wire == 1 else 4
            if at + length > len(data):
                raise ValueError("the graph is cut short")
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {wire} in the graph")
        yield number, value


def _varints(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value - (1 << 64) if value >> 63 else value)
    return values


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
