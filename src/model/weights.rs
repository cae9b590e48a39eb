//! Weight-only quantization: int8 weights become float before the engine sees the graph.
//!
//! tract would fold `DequantizeLinear` nodes itself, by interpreting them one at a time with broadcasts, which
//! takes most of a start. Here they are taken out of the parsed file, the engine reads the graph without them,
//! and finished float constants are put where they were. Only nodes on constant int8 or uint8 weights are
//! taken; any other stays for the engine.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::konst::Const;

#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    #[error("{name}: {reason}")]
    Malformed { name: String, reason: &'static str },
    #[error("nothing in the model gives {0}")]
    Missing(String),
    #[error("{0}")]
    Engine(String),
}

/// Constant weights of one `DequantizeLinear` node.
#[derive(Debug)]
pub(super) struct QuantizedWeights {
    /// Name of the node's output.
    name: String,
    shape: Vec<usize>,
    values: Integers,
    scale: Vec<f32>,
    zero_point: Vec<i32>,
    /// Product of the dimensions after the quantized axis, and length of that axis (1 if there is one scale).
    inner: usize,
    channels: usize,
}

#[derive(Debug)]
enum Integers {
    Signed(Vec<u8>),
    Unsigned(Vec<u8>),
}

/// Takes the nodes that dequantize constant weights out of the graph, and their integers with them.
pub(super) fn take(graph: &mut GraphProto) -> Result<Vec<QuantizedWeights>, WeightError> {
    let by_name: HashMap<String, usize> = graph
        .initializer
        .iter()
        .enumerate()
        .map(|(at, tensor)| (tensor.name.clone(), at))
        .collect();
    let mut uses: HashMap<String, usize> = HashMap::new();
    for input in graph.node.iter().flat_map(|node| &node.input) {
        *uses.entry(input.clone()).or_default() += 1;
    }
    for output in &graph.output {
        *uses.entry(output.name.clone()).or_default() += 1;
    }
    let mut taken = Vec::new();
    let mut spent = Vec::new();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let parameters = quantized(&node, graph, &by_name).filter(|weights| {
            node.output.len() == 1 && uses[&graph.initializer[weights[0]].name] == 1
        });
        let Some(parameters) = parameters else {
            kept.push(node);
            continue;
        };
        taken.push(QuantizedWeights::new(&node, graph, &parameters)?);
        spent.push(parameters[0]);
    }
    graph.node = kept;
    for at in spent {
        // Its values are in `taken`; the name must go too, or the engine would make an empty constant of it.
        graph.initializer[at].name.clear();
    }
    graph.initializer.retain(|tensor| !tensor.name.is_empty());
    Ok(taken)
}

/// Puts the weights, as float constants, where the engine found names that nothing gives.
pub(super) fn put(
    model: &mut InferenceModel,
    weights: Vec<QuantizedWeights>,
    unresolved: &[String],
) -> Result<(), WeightError> {
    let engine = |error: TractError| WeightError::Engine(super::network::chain(&error));
    let mut weights: HashMap<String, QuantizedWeights> =
        weights.into_iter().map(|weights| (weights.name.clone(), weights)).collect();
    let mut constants = Vec::new();
    for name in unresolved {
        let weights = weights.remove(name).ok_or_else(|| WeightError::Missing(name.clone()))?;
        let id = model.node_id_by_name(name).map_err(engine)?;
        let tensor = Tensor::from_shape(&weights.shape, &weights.dequantized())
            .map_err(engine)?
            .into_arc_tensor();
        drop(weights);
        let fact = TypedFact::try_from(tensor.clone()).map_err(engine)?;
        model.set_outlet_fact(id.into(), fact.into()).map_err(engine)?;
        model.node_mut(id).op = Const::new(tensor).map_err(engine)?.into();
        constants.push(id);
    }
    model.inputs.retain(|input| !constants.contains(&input.node));
    Ok(())
}

/// Places of weights, scale and zero point among the initializers, if `node` dequantizes constants.
fn quantized(
    node: &NodeProto,
    graph: &GraphProto,
    by_name: &HashMap<String, usize>,
) -> Option<Vec<usize>> {
    if node.op_type != "DequantizeLinear" || !(2..=3).contains(&node.input.len()) {
        return None;
    }
    let named = node.input.iter().filter(|name| !name.is_empty());
    let places: Vec<usize> = named.map(|name| by_name.get(name).copied()).collect::<Option<_>>()?;
    let weights = graph.initializer.get(*places.first()?)?;
    let integers = is(weights, DataType::Int8) || is(weights, DataType::Uint8);
    let whole = graph.input.iter().all(|input| input.name != weights.name);
    let float_scale = is(graph.initializer.get(*places.get(1)?)?, DataType::Float);
    (integers && whole && float_scale).then_some(places)
}

fn is(tensor: &TensorProto, kind: DataType) -> bool {
    tensor.data_type == kind as i32
}

impl QuantizedWeights {
    fn new(node: &NodeProto, graph: &mut GraphProto, at: &[usize]) -> Result<Self, WeightError> {
        let name = node.output[0].clone();
        let malformed = |reason| WeightError::Malformed { name: name.clone(), reason };
        let scale = floats(&graph.initializer[at[1]]).ok_or_else(|| malformed("scale"))?;
        let zero_point = match at.get(2) {
            Some(&place) => {
                small_integers(&graph.initializer[place]).ok_or_else(|| malformed("zero point"))?
            }
            None => vec![0; scale.len()],
        };
        let weights = &mut graph.initializer[at[0]];
        let shape: Vec<usize> = weights
            .dims
            .iter()
            .map(|&dim| usize::try_from(dim).ok())
            .collect::<Option<_>>()
            .ok_or_else(|| malformed("negative dimension"))?;
        let length = shape
            .iter()
            .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
            .ok_or_else(|| malformed("its size is beyond all bounds"))?;
        if weights.raw_data.len() != length {
            return Err(malformed("length of the data is not that of the shape"));
        }
        if attribute(&node.attribute, "block_size").unwrap_or(0) != 0 {
            return Err(malformed("blocked quantization is not supported"));
        }
        if scale.len() != zero_point.len() || scale.iter().any(|scale| !scale.is_finite()) {
            return Err(malformed("scale and zero point do not fit each other"));
        }
        let (channels, inner) = if scale.len() == 1 {
            (1, length.max(1))
        } else {
            let rank = shape.len() as i64;
            let axis = attribute(&node.attribute, "axis").unwrap_or(1);
            let axis = usize::try_from(if axis < 0 { axis + rank } else { axis })
                .ok()
                .filter(|&axis| axis < shape.len() && shape[axis] == scale.len())
                .ok_or_else(|| malformed("scale does not fit the axis"))?;
            (shape[axis], shape[axis + 1..].iter().product())
        };
        let values = std::mem::take(&mut weights.raw_data);
        let values = if is(weights, DataType::Int8) {
            Integers::Signed(values)
        } else {
            Integers::Unsigned(values)
        };
        Ok(Self { name, shape, values, scale, zero_point, inner, channels })
    }

    /// `(integer - zero point) * scale` per channel (ONNX, DequantizeLinear).
    fn dequantized(&self) -> Vec<f32> {
        let (bytes, integer): (&[u8], fn(u8) -> i32) = match &self.values {
            Integers::Signed(bytes) => (bytes, |byte| i32::from(byte.cast_signed())),
            Integers::Unsigned(bytes) => (bytes, i32::from),
        };
        let mut floats = Vec::with_capacity(bytes.len());
        for (row, bytes) in bytes.chunks(self.inner.max(1)).enumerate() {
            let channel = row % self.channels.max(1);
            let (scale, zero_point) = (self.scale[channel], self.zero_point[channel]);
            floats.extend(bytes.iter().map(|&byte| (integer(byte) - zero_point) as f32 * scale));
        }
        floats
    }
}

fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.raw_data.is_empty() {
        return (!tensor.float_data.is_empty()).then(|| tensor.float_data.clone());
    }
    let (words, rest) = tensor.raw_data.as_chunks::<4>();
    rest.is_empty().then(|| words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

fn small_integers(tensor: &TensorProto) -> Option<Vec<i32>> {
    if tensor.raw_data.is_empty() {
        return (!tensor.int32_data.is_empty()).then(|| tensor.int32_data.clone());
    }
    let bytes = tensor.raw_data.iter();
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Int8 => Some(bytes.map(|byte| i32::from(byte.cast_signed())).collect()),
        DataType::Uint8 => Some(bytes.map(|byte| i32::from(*byte)).collect()),
        _ => None,
    }
}

fn attribute(attributes: &[AttributeProto], name: &str) -> Option<i64> {
    attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.i)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::super::testing::{self, OnnxModel};
    use super::*;

    /// What the engine itself makes of a model: the reference for folding.
    fn by_engine(model: &OnnxModel, input: &[f32]) -> Vec<f32> {
        let proto = model.proto();
        let plan = onnx()
            .model_for_proto_model(&proto)
            .and_then(|model| model.with_input_fact(0, f32::fact([1, 3, 2, 2]).into()))
            .and_then(InferenceModelExt::into_optimized)
            .and_then(IntoRunnable::into_runnable)
            .unwrap();
        testing::run(&plan, input)
    }

    fn folded(model: &OnnxModel, input: &[f32]) -> Vec<f32> {
        let mut proto = model.proto();
        let weights = take(proto.graph.as_mut().unwrap()).unwrap();
        assert_eq!(weights.len(), 1, "the node was not taken");
        let parsed = onnx().parse(&proto, None).unwrap();
        let mut graph = parsed.model;
        put(&mut graph, weights, &parsed.unresolved_inputs).unwrap();
        let plan = graph
            .with_input_fact(0, f32::fact([1, 3, 2, 2]).into())
            .and_then(InferenceModelExt::into_optimized)
            .and_then(IntoRunnable::into_runnable)
            .unwrap();
        testing::run(&plan, input)
    }

    #[test]
    fn folding_is_what_the_engine_computes() {
        let input: Vec<f32> = (0..12).map(|at| at as f32 / 5.0 - 1.0).collect();
        for model in [
            OnnxModel::convolution(&[0.5, 0.25], Some(&[3, -7]), 0),
            OnnxModel::convolution(&[0.125], Some(&[-5]), 0),
            OnnxModel::convolution(&[0.5, 0.25], None, 0),
            OnnxModel::convolution(&[0.5, 0.25], Some(&[3, -7]), -4),
            OnnxModel::convolution(&[0.5, 0.25, 0.75], Some(&[1, 2, 3]), 1),
        ] {
            let (expected, found) = (by_engine(&model, &input), folded(&model, &input));
            assert_eq!(expected.len(), 8);
            for (a, b) in expected.iter().zip(&found) {
                assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{expected:?} {found:?}");
            }
        }
    }

    #[test]
    fn dequantized_values_are_exact() {
        let mut proto = OnnxModel::convolution(&[0.5, 0.25], Some(&[3, -7]), 0).proto();
        let weights = take(proto.graph.as_mut().unwrap()).unwrap();
        // Weights are -3, -2, … 2 in two rows of three: (w - 3) / 2, then (w + 7) / 4.
        assert_eq!(weights[0].dequantized(), [-3.0, -2.5, -2.0, 1.75, 2.0, 2.25]);
        let names: Vec<_> =
            proto.graph.unwrap().initializer.iter().map(|tensor| tensor.name.clone()).collect();
        assert!(!names.contains(&"weights".to_owned()), "integers stay in memory: {names:?}");
    }

    #[test]
    fn malformed_weights_are_an_error() {
        for (scale, zero_point, axis) in [
            (&[0.5_f32, 0.25][..], Some(&[3_i8][..]), 0),
            (&[0.5, 0.25], Some(&[3, 1]), 1),
            (&[0.5, 0.25], Some(&[3, 1]), 9),
            (&[0.5, 0.25], Some(&[3, 1]), -9),
            (&[f32::NAN], None, 0),
        ] {
            let mut proto = OnnxModel::convolution(scale, zero_point, axis).proto();
            assert!(
                take(proto.graph.as_mut().unwrap()).is_err(),
                "{scale:?} {zero_point:?} {axis}"
            );
        }
        let mut proto = OnnxModel::convolution(&[0.5], None, 0).proto();
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer[0].raw_data.pop();
        assert!(take(graph).is_err());
    }
}
