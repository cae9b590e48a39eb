//! Trust anchors, the bundle's signature, and what the configured rate means.

use std::path::Path;

use super::Report;
use crate::cli::{Failure, Global, engine};
use crate::config::{Config, LivenessMode, Located};
use crate::model::{self, TrustAnchors, VerifiedBundle};
use crate::recognition::{Space, Thresholds};

/// Gives the embedding space that looks in the gallery are compared in.
pub fn check(
    global: &Global,
    located: &Located,
    self_test: bool,
    report: &mut Report,
) -> Option<Space> {
    let trust = located.directory().join("trust.d");
    anchors(&trust, report)?;
    let (bundle, directory) = report.take("models", engine::running(global))?;
    let identity = bundle.identity();
    report.ok(
        "models",
        format!(
            "{} {} ({}) verified, signed by {}",
            identity.name,
            identity.version,
            identity.digest,
            bundle.signer().name()
        ),
    );
    rate(&located.config, &bundle, report);
    liveness(&located.config, &bundle, report);
    if self_test {
        let started = engine::start(bundle, &directory);
        let engine = report.take("self-test", started)?;
        report.ok("self-test", "loaded, and every network computes what it did when it was signed");
        return Some(engine.space().mapped_if(located.config.models.mapping));
    }
    Some(model::space(bundle).ok()?.mapped_if(located.config.models.mapping))
}

fn anchors(trust: &Path, report: &mut Report) -> Option<()> {
    let anchors = report.take("anchors", TrustAnchors::load(trust).map_err(Failure::refused))?;
    let names: Vec<String> = anchors.iter().map(model::Anchor::name).collect();
    report.ok(
        "anchors",
        format!("{} may sign models: {} in {}", names.len(), names.join(", "), trust.display()),
    );
    Some(())
}

fn rate(config: &Config, bundle: &VerifiedBundle, report: &mut Report) {
    let (rate, frames) = (config.recognition.false_match_rate, config.recognition.frames);
    let thresholds = Thresholds::new(&bundle.manifest().calibration).map_err(Failure::refused);
    let Some(thresholds) = report.take("threshold", thresholds) else { return };
    let at = |looks| thresholds.at(rate, looks).map_err(Failure::usage);
    let Some(single) = report.take("threshold", at(1)) else { return };
    report.ok(
        "threshold",
        format!(
            "false_match_rate {rate}: of {:.0} looks at strangers one passes for a given enrolled person by \
             itself (similarity {single:.3}); {frames} that agree name somebody",
            1.0 / rate
        ),
    );
}

fn liveness(config: &Config, bundle: &VerifiedBundle, report: &mut Report) {
    let carried = !bundle.manifest().liveness.is_empty();
    match config.liveness.mode {
        LivenessMode::Off => report.warn(
            "liveness",
            "off by the configuration: a photograph of a person is taken for the person",
        ),
        LivenessMode::Enforce if !carried => report.fail(
            "liveness",
            Failure::refused("mode = \"enforce\", but the model bundle has no liveness model"),
        ),
        LivenessMode::Auto | LivenessMode::Report if !carried => report.warn(
            "liveness",
            "off, for the model bundle has no liveness model: a photograph of a person is taken for the person",
        ),
        LivenessMode::Report => report.warn(
            "liveness",
            "only reported by the configuration: a photograph of a person is taken for the person",
        ),
        LivenessMode::Auto | LivenessMode::Enforce => report.ok(
            "liveness",
            format!(
                "enforced: nobody is named below a mean score of {}; CARD.md of the bundle says which attacks were tested",
                bundle.manifest().liveness_threshold()
            ),
        ),
    }
}
