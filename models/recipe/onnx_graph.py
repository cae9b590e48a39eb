"""A thin builder of ONNX graphs: names, constants and nodes in the order they are added."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8


class Graph:
    def __init__(self, name: str):
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(self, source: str, output: str, weights: np.ndarray, bias: np.ndarray, **attributes) -> str:
        """`weights`: out x in x height x width."""
        names = [
            self.constant(f"{output}/weights", weights.astype(np.float32)),
            self.constant(f"{output}/bias", bias.astype(np.float32)),
        ]
        return self.add("Conv", [source, *names], output, kernel_shape=list(weights.shape[2:]), **attributes)

    def model(self, source: str, shape: list[int], output: str, output_shape: list[int]) -> onnx.ModelProto:
        def tensor(name, dims):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

        graph = helper.make_graph(
            self.nodes, self.name, [tensor(source, shape)], [tensor(output, output_shape)], self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "familiar"
        onnx.checker.check_model(model, full_check=True)
        return model


def fix_shapes(model: onnx.ModelProto, shapes: dict[str, list[int]]) -> None:
    """Writes fixed shapes of inputs and outputs. The notes of shapes in between hold for other sizes or are symbols
    that engines would try to unify with the new ones: they go. Operations and weights stay as they are."""
    del model.graph.value_info[:]
    for value in [*model.graph.input, *model.graph.output]:
        if value.name in shapes:
            del value.type.tensor_type.shape.dim[:]
            for size in shapes[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = size
