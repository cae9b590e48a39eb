//! A few ONNX operators, enough to write small networks by hand.

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// The name of a tensor in the graph.
pub type Name = String;

/// A graph of one input, `picture`, and as many outputs as are given to [`Graph::bytes`].
#[derive(Default)]
pub struct Graph {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

/// The input of every graph.
pub const PICTURE: &str = "picture";

impl Graph {
    /// A constant of this shape; the values are row-major.
    pub fn constant(&mut self, shape: &[usize], values: &[f32]) -> Name {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        let name = format!("constant_{}", self.constants.len());
        self.constants.push(TensorProto {
            name: name.clone(),
            data_type: DataType::Float as i32,
            dims: shape.iter().map(|&length| length as i64).collect(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..Default::default()
        });
        name
    }

    pub fn scalar(&mut self, value: f32) -> Name {
        self.constant(&[], &[value])
    }

    /// A convolution: `shape` is that of the kernel (outputs, inputs, height, width).
    pub fn conv(
        &mut self,
        input: &str,
        shape: [usize; 4],
        weights: &[f32],
        bias: f32,
        stride: usize,
        pad: [usize; 2],
    ) -> Name {
        let weights = self.constant(&shape, weights);
        let bias = self.constant(&[shape[0]], &vec![bias; shape[0]]);
        let [down, across] = pad;
        let attributes = vec![
            integers("kernel_shape", &[shape[2], shape[3]]),
            integers("strides", &[stride, stride]),
            integers("pads", &[down, across, down, across]),
        ];
        self.node("Conv", &[input, &weights, &bias], attributes)
    }

    /// `input * factor + addend`
    pub fn linear(&mut self, input: &str, factor: f32, addend: f32) -> Name {
        let (factor, addend) = (self.scalar(factor), self.scalar(addend));
        let product = self.node("Mul", &[input, &factor], vec![]);
        self.node("Add", &[&product, &addend], vec![])
    }

    /// Within 0 to 1.
    pub fn clip(&mut self, input: &str) -> Name {
        let (low, high) = (self.scalar(0.0), self.scalar(1.0));
        self.node("Clip", &[input, &low, &high], vec![])
    }

    pub fn concat(&mut self, inputs: &[&str]) -> Name {
        self.node("Concat", inputs, vec![integer("axis", 1)])
    }

    /// An operator without attributes.
    pub fn operator(&mut self, kind: &str, inputs: &[&str]) -> Name {
        self.node(kind, inputs, vec![])
    }

    fn node(&mut self, kind: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> Name {
        let name = format!("{}_{}", kind.to_lowercase(), self.nodes.len());
        self.nodes.push(NodeProto {
            op_type: kind.into(),
            name: name.clone(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![name.clone()],
            attribute,
            ..Default::default()
        });
        name
    }

    /// The file. `input` is the shape of the picture; outputs are in the given order.
    pub fn bytes(self, input: [usize; 4], outputs: &[(&str, &[usize])]) -> Vec<u8> {
        let graph = GraphProto {
            name: "small".into(),
            node: self.nodes,
            initializer: self.constants,
            input: vec![value(PICTURE, &input)],
            output: outputs.iter().map(|(name, shape)| value(name, shape)).collect(),
            ..Default::default()
        };
        let model = ModelProto {
            ir_version: 7,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(graph),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..Default::default() }
}

fn integers(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.iter().map(|&value| value as i64).collect(),
        ..Default::default()
    }
}

fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|&length| Dimension {
            value: Some(Value::DimValue(length as i64)),
            ..Default::default()
        })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim }),
    };
    let kind =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}
