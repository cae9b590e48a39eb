//! Small ONNX models, made on the spot.

use std::sync::Arc;

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{self, ModelProto, TensorProto};
use tract_onnx::prelude::*;

/// A 1x1 convolution of 3 channels to 2 whose weights (-3 … 2) are dequantized.
pub struct OnnxModel {
    scale: Vec<f32>,
    zero_point: Option<Vec<i8>>,
    axis: i64,
}

impl OnnxModel {
    pub fn convolution(scale: &[f32], zero_point: Option<&[i8]>, axis: i64) -> Self {
        Self { scale: scale.to_vec(), zero_point: zero_point.map(<[i8]>::to_vec), axis }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.proto().encode_to_vec()
    }

    pub fn proto(&self) -> ModelProto {
        let weights = (-3_i8..3).map(i8::cast_unsigned).collect();
        let scale = self.scale.iter().flat_map(|value| value.to_le_bytes()).collect();
        let parameter = |length: usize| if length == 1 { vec![] } else { vec![length as i64] };
        let mut initializer = vec![
            tensor("weights", DataType::Int8, &[2, 3, 1, 1], weights),
            tensor("scale", DataType::Float, &parameter(self.scale.len()), scale),
        ];
        let mut inputs = vec!["weights", "scale"];
        if let Some(points) = &self.zero_point {
            let bytes = points.iter().map(|value| value.cast_unsigned()).collect();
            initializer.push(tensor("zero", DataType::Int8, &parameter(points.len()), bytes));
            inputs.push("zero");
        }
        let axis = pb::AttributeProto {
            name: "axis".into(),
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            i: self.axis,
            ..Default::default()
        };
        let graph = pb::GraphProto {
            node: vec![
                node("DequantizeLinear", &inputs, "floats", vec![axis]),
                node("Conv", &["picture", "floats"], "answer", vec![]),
            ],
            initializer,
            input: vec![value("picture", &[1, 3, 2, 2])],
            output: vec![value("answer", &[1, 2, 2, 2])],
            ..Default::default()
        };
        let opset = pb::OperatorSetIdProto { domain: String::new(), version: 13 };
        ModelProto {
            ir_version: 7,
            opset_import: vec![opset],
            graph: Some(graph),
            ..Default::default()
        }
    }
}

fn tensor(name: &str, kind: DataType, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: kind as i32,
        dims: dims.to_vec(),
        raw_data,
        ..Default::default()
    }
}

fn node(
    kind: &str,
    inputs: &[&str],
    output: &str,
    attribute: Vec<pb::AttributeProto>,
) -> pb::NodeProto {
    pb::NodeProto {
        op_type: kind.into(),
        name: kind.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

fn value(name: &str, dims: &[i64]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = dims
        .iter()
        .map(|&length| Dimension { value: Some(Value::DimValue(length)), ..Default::default() })
        .collect();
    let tensor = pb::type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(pb::TensorShapeProto { dim }),
    };
    let kind = pb::TypeProto {
        value: Some(pb::type_proto::Value::TensorType(tensor)),
        ..Default::default()
    };
    pb::ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}

pub fn run(plan: &Arc<TypedRunnableModel>, input: &[f32]) -> Vec<f32> {
    let tensor = Tensor::from_shape(&[1, 3, 2, 2], input).unwrap();
    let outputs = plan.run(tvec!(tensor.into())).unwrap();
    outputs[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}
