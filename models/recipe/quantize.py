"""Weight-only int8: each output channel of a Conv or Gemm gets its own scale; zero points are 0.

A weight w becomes round(w / s) with s = max|w| / 127, stored behind a DequantizeLinear node on constants, which
engines fold while they load. Activations stay float: tract 0.23 computes integer convolutions slower than float
ones on x86, and calibrated activations cost accuracy (weights alone cost none that could be measured).
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

LIMIT = 127


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, initializers, replaced = [], [], set()
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            name = node.input[1]
            _expect_channels_first(node)
            weights = numpy_helper.to_array(constants[name])
            integers, scale = quantize_channels(weights)
            initializers += [
                numpy_helper.from_array(integers, f"{name}/int8"),
                numpy_helper.from_array(scale, f"{name}/scale"),
                numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}/zero"),
            ]
            inputs = [f"{name}/int8", f"{name}/scale", f"{name}/zero"]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=0))
            replaced.add(name)
        nodes.append(node)
    kept = [tensor for tensor in graph.initializer if tensor.name not in replaced]
    for field, values in ((graph.node, nodes), (graph.initializer, kept + initializers)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def quantize_channels(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights and one float32 scale for each index of the first axis."""
    flat = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    scale = np.where(flat > 0, flat / LIMIT, 1).astype(np.float32)
    by_channel = scale.reshape(-1, *[1] * (weights.ndim - 1)).astype(np.float64)
    return np.clip(np.rint(weights / by_channel), -LIMIT, LIMIT).astype(np.int8), scale


def _expect_channels_first(node: onnx.NodeProto) -> None:
    if node.op_type == "Gemm" and not any(a.name == "transB" and a.i == 1 for a in node.attribute):
        raise ValueError(f"{node.name}: a Gemm whose weights are not out x in")
