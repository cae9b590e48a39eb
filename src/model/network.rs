//! The only door into the inference engine: verified bytes in, a runnable network out.

use std::sync::Arc;

use image::RgbImage;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, type_proto};
use tract_onnx::prelude::*;

use super::bundle::VerifiedModel;
use super::manifest::{Channels, Input, Layout};
use super::weights::{self, WeightError};
use crate::system::contain::contained;

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("not a usable ONNX model: {0}")]
    Malformed(String),
    #[error("quantized weights: {0}")]
    Weights(#[from] WeightError),
    #[error("the model has {found} inputs; a network of a bundle takes one picture")]
    Inputs { found: usize },
    #[error("the model takes a tensor of {found:?}, bundle.toml describes {described:?}")]
    Shape { found: Vec<i64>, described: [usize; 4] },
    #[error("the inference engine cannot run the model: {0}")]
    Unsupported(String),
    #[error("the inference engine failed: {0}")]
    Run(String),
    #[error("the model gives {found}, not {wanted}; does bundle.toml describe this file?")]
    Output { wanted: String, found: String },
    #[error("a picture of {found_width}x{found_height} was given to a network of {width}x{height}")]
    Size { width: u32, height: u32, found_width: u32, found_height: u32 },
}

/// A network that is loaded and optimised for one input size. Runs on the caller's thread; may be shared.
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    input: Input,
    outputs: Vec<String>,
    /// Value of each byte, per channel in the tensor's order.
    values: [[f32; 256]; 3],
}

/// One output tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// As the ONNX file names it.
    pub name: String,
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

impl Network {
    /// Parses verified bytes and optimises the network for its input size.
    pub fn load(model: VerifiedModel, input: &Input) -> Result<Self, NetworkError> {
        // tract has panicked on malformed models; a signed one may still be one of those.
        let (plan, outputs) = contained(|| build(model, input)).unwrap_or_else(|panic| {
            Err(NetworkError::Malformed(format!("the parser panicked: {panic}")))
        })?;
        let values = std::array::from_fn(|channel| {
            std::array::from_fn(|byte| (byte as f32 - input.mean[channel]) * input.scale[channel])
        });
        Ok(Self { plan, input: input.clone(), outputs, values })
    }

    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Runs the network on a picture of exactly its input's size; the outputs are in the file's order.
    pub fn run(&self, picture: &RgbImage) -> Result<Vec<Output>, NetworkError> {
        let tensor = self.fill(picture)?;
        let outputs = contained(|| self.plan.run(tvec!(tensor.into())))
            .map_err(|panic| NetworkError::Run(format!("panicked: {panic}")))?
            .map_err(|error| NetworkError::Run(chain(&error)))?;
        let mut named = Vec::with_capacity(outputs.len());
        for (name, tensor) in self.outputs.iter().zip(&outputs) {
            let values = tensor
                .try_as_plain_ram()
                .and_then(|plain| Ok(plain.as_slice::<f32>()?.to_vec()))
                .map_err(|error| NetworkError::Run(chain(&error)))?;
            named.push(Output { name: name.clone(), shape: tensor.shape().to_vec(), values });
        }
        Ok(named)
    }

    /// The input tensor of a picture: `(byte - mean) * scale` in the layout and order the manifest tells.
    fn fill(&self, picture: &RgbImage) -> Result<Tensor, NetworkError> {
        let (width, height) = (self.input.width, self.input.height);
        if picture.dimensions() != (width, height) {
            return Err(NetworkError::Size {
                width,
                height,
                found_width: picture.width(),
                found_height: picture.height(),
            });
        }
        let source = match self.input.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        };
        let pixels = picture.as_raw();
        let plane = pixels.len() / 3;
        let mut data = vec![0_f32; pixels.len()];
        for (at, pixel) in pixels.chunks_exact(3).enumerate() {
            for channel in 0..3 {
                let value = self.values[channel][usize::from(pixel[source[channel]])];
                match self.input.layout {
                    Layout::Nchw => data[channel * plane + at] = value,
                    Layout::Nhwc => data[at * 3 + channel] = value,
                }
            }
        }
        Tensor::from_shape(&shape(&self.input), &data)
            .map_err(|error| NetworkError::Run(chain(&error)))
    }
}

/// Shape of the input tensor, a batch of one.
fn shape(input: &Input) -> [usize; 4] {
    let (width, height) = (input.width as usize, input.height as usize);
    match input.layout {
        Layout::Nchw => [1, 3, height, width],
        Layout::Nhwc => [1, height, width, 3],
    }
}

type Built = (Arc<TypedRunnableModel>, Vec<String>);

/// Frees bytes and parsed file as early as it can: they and the network are never in memory all at once.
fn build(model: VerifiedModel, input: &Input) -> Result<Built, NetworkError> {
    // Shapes that a file notes between its nodes only hinder once the input is fixed.
    let onnx = onnx().with_ignore_value_info(true);
    let mut proto: ModelProto = onnx
        .proto_model_for_read(&mut model.as_bytes())
        .map_err(|error| NetworkError::Malformed(chain(&error)))?;
    drop(model);
    let graph = proto.graph.as_mut().ok_or_else(|| NetworkError::Malformed("no graph".into()))?;
    check_shape(graph, shape(input))?;
    let outputs = graph.output.iter().map(|output| output.name.clone()).collect();
    let weights = weights::take(graph)?;
    let parsed =
        onnx.parse(&proto, None).map_err(|error| NetworkError::Malformed(chain(&error)))?;
    drop(proto);
    let mut model = parsed.model;
    weights::put(&mut model, weights, &parsed.unresolved_inputs)?;
    if model.inputs.len() != 1 {
        return Err(NetworkError::Inputs { found: model.inputs.len() });
    }
    let plan = model
        .with_input_fact(0, f32::fact(shape(input)).into())
        .and_then(InferenceModelExt::into_optimized)
        .and_then(IntoRunnable::into_runnable)
        .map_err(|error| NetworkError::Unsupported(chain(&error)))?;
    Ok((plan, outputs))
}

/// The engine would believe the manifest and compute something else than the model was made for.
fn check_shape(graph: &GraphProto, described: [usize; 4]) -> Result<(), NetworkError> {
    let constant = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    let pictures = graph.input.iter().filter(|input| !constant(&input.name));
    for input in pictures {
        let Some(type_proto::Value::TensorType(tensor)) =
            input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
        else {
            continue;
        };
        let Some(shape) = &tensor.shape else { continue };
        // A dimension that is not a number is open: the manifest fixes it.
        let found: Vec<i64> = shape
            .dim
            .iter()
            .map(|dim| match dim.value {
                Some(dimension::Value::DimValue(length)) if length > 0 => length,
                _ => -1,
            })
            .collect();
        let fits = |(found, described): (&i64, &usize)| *found == -1 || *found == *described as i64;
        if found.len() != described.len() || !found.iter().zip(&described).all(fits) {
            return Err(NetworkError::Shape { found, described });
        }
    }
    Ok(())
}

/// An engine's error with its causes, on one line.
pub(super) fn chain(error: &TractError) -> String {
    format!("{error:#}").replace('\n', " ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::super::testing::OnnxModel;
    use super::*;

    fn input(layout: Layout, channels: Channels) -> Input {
        Input {
            width: 2,
            height: 2,
            layout,
            channels,
            mean: [10.0, 20.0, 30.0],
            scale: [0.5, 0.25, 2.0],
        }
    }

    fn model() -> OnnxModel {
        OnnxModel::convolution(&[0.5, 0.25], Some(&[3, -7]), 0)
    }

    fn load(bytes: Vec<u8>) -> Result<Network, NetworkError> {
        Network::load(VerifiedModel::for_test(bytes), &input(Layout::Nchw, Channels::Rgb))
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(2, 2, |x, y| image::Rgb([x as u8, 100 + y as u8, 200]))
    }

    #[test]
    fn model_runs_from_bytes() {
        let network = load(model().bytes()).unwrap();
        let outputs = network.run(&picture()).unwrap();
        assert_eq!(outputs.len(), 1);
        assert_eq!(
            (outputs[0].name.as_str(), &outputs[0].shape[..]),
            ("answer", &[1, 2, 2, 2][..])
        );
        // Upper left: channels (0 - 10) / 2, (100 - 20) / 4, (200 - 30) * 2 by weights -3, -2.5, -2 and 1.75, 2, 2.25.
        let (r, g, b) = (-5.0, 20.0, 340.0);
        assert_eq!(outputs[0].values[0], -3.0 * r - 2.5 * g - 2.0 * b);
        assert_eq!(outputs[0].values[4], 1.75 * r + 2.0 * g + 2.25 * b);
    }

    #[test]
    fn input_follows_layout_and_channel_order() {
        let mut network = load(model().bytes()).unwrap();
        let filled = |network: &Network| {
            let tensor = network.fill(&picture()).unwrap();
            let values = tensor.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
            (tensor.shape().to_vec(), values)
        };
        let (shape, values) = filled(&network);
        assert_eq!(shape, [1, 3, 2, 2]);
        assert_eq!(values[..6], [-5.0, -4.5, -5.0, -4.5, 20.0, 20.0]);
        network.input.layout = Layout::Nhwc;
        let (shape, values) = filled(&network);
        assert_eq!(shape, [1, 2, 2, 3]);
        assert_eq!(values[..4], [-5.0, 20.0, 340.0, -4.5]);
        network.input.channels = Channels::Bgr;
        // Blue comes first; mean and scale belong to the places, not to the colours.
        assert_eq!(filled(&network).1[..3], [(200.0 - 10.0) * 0.5, 20.0, (0.0 - 30.0) * 2.0]);
    }

    #[test]
    fn picture_of_another_size_is_refused() {
        let network = load(model().bytes()).unwrap();
        assert!(matches!(network.run(&RgbImage::new(3, 2)), Err(NetworkError::Size { .. })));
    }

    #[test]
    fn manifest_of_another_size_is_refused() {
        let wide = Input { width: 3, ..input(Layout::Nchw, Channels::Rgb) };
        let refused = Network::load(VerifiedModel::for_test(model().bytes()), &wide);
        assert!(matches!(refused, Err(NetworkError::Shape { .. })));
    }

    /// Holds ROB-05.
    #[test]
    fn malformed_models_are_errors_not_panics() {
        assert!(load(Vec::new()).is_err());
        assert!(load(vec![0xff; 1000]).is_err());
        let sound = model().bytes();
        for length in 0..sound.len() {
            // Cut at the end of a field a model may still be whole: then it must run.
            if let Ok(network) = load(sound[..length].to_vec()) {
                network.run(&picture()).unwrap();
            }
        }
        let mut random = fastrand::Rng::with_seed(3);
        let mut refused = 0;
        for _ in 0..500 {
            let mut broken = sound.clone();
            let at = random.usize(..broken.len());
            broken[at] ^= 1 << random.u8(0..8);
            match load(broken) {
                Ok(network) => drop(network.run(&picture())),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 50, "only {refused} of 500 were noticed");
    }
}
