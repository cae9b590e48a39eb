//! The only door into the inference engine: verified bytes in, a runnable network out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use image::RgbImage;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::bundle::VerifiedModel;
use super::manifest::{Channels, Input, Layout};
use super::weights::{self, WeightError};

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("not a usable ONNX model: {0}")]
    Malformed(String),
    #[error("quantized weights: {0}")]
    Weights(#[from] WeightError),
    #[error("the model has {found} inputs; a network of a bundle takes one picture")]
    Inputs { found: usize },
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
    let onnx = tract_onnx::onnx();
    let mut proto: ModelProto = onnx
        .proto_model_for_read(&mut model.as_bytes())
        .map_err(|error| NetworkError::Malformed(chain(&error)))?;
    drop(model);
    let graph = proto.graph.as_mut().ok_or_else(|| NetworkError::Malformed("no graph".into()))?;
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

/// Runs `work`; a panic becomes its message.
fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // Nothing that `work` could leave half-changed outlives it: plans are immutable, state is made per run.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        message.unwrap_or("without a message").to_owned()
    })
}

/// An engine's error with its causes, on one line.
pub(super) fn chain(error: &TractError) -> String {
    format!("{error:#}").replace('\n', " ")
}
