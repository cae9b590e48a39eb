//! `familiar model update`

use serde_json::json;

use crate::cli::{Failure, Global, key};
use crate::daemon::updater::{Found, UpdateError, Updater, running};
use crate::event::DeviceKey;
use crate::model::ModelIdentity;
use crate::model::update::client::TufError;
use crate::model::update::download::DownloadError;
use crate::model::update::fetch::FetchError;
use crate::system::clock::Date;
use crate::system::state::StateDirectory;

/// Fetch and install the newest bundle
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  familiar model update")]
pub struct Args {
    /// Go on with a clock that nobody has synchronised. Signatures and versions still hold; that a repository was
    /// frozen would not be noticed
    #[arg(long)]
    unsynchronized: bool,
}

/// Fetches and installs the newest bundle that the repository has for this device.
pub fn update(global: &Global, args: &Args) -> Result<(), Failure> {
    let located = global.located()?;
    let state = StateDirectory::open()?;
    let updater = Updater::new(&located, &state)?;
    let device = match DeviceKey::look(&state) {
        Ok(key) => key.kid().to_owned(),
        Err(crate::event::KeyError::Missing) => String::new(),
        Err(error) => return Err(key::failure(error)),
    };
    let running = running(&located, &state)?;
    match updater.run(Date::now(), &device, &running, args.unsynchronized, None)? {
        Found::Nothing(newest) => {
            let ModelIdentity { name, version, digest } = &running;
            if global.json {
                println!(
                    "{}",
                    json!({ "installed": false, "name": name, "version": version,
                            "digest": digest, "newest": newest })
                );
            } else {
                println!("{name} {version}: there is nothing newer for this device");
            }
            Ok(())
        }
        Found::Installed(installed) => {
            super::installed::tell(global, &state, &installed);
            Ok(())
        }
    }
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::NotConfigured
            | UpdateError::Root { .. }
            | UpdateError::Fetch(FetchError::Address(_) | FetchError::Tls(_)) => Self::usage(error),
            UpdateError::Tuf(TufError::Fetch(_))
            | UpdateError::Fetch(_)
            | UpdateError::Download(DownloadError::Fetch(_)) => Self::Network(error.to_string()),
            UpdateError::Tuf(TufError::Store(_))
            | UpdateError::Download(DownloadError::Io { .. })
            | UpdateError::Store(_)
            | UpdateError::Busy
            | UpdateError::Io { .. } => Self::failed(error),
            UpdateError::Slots(error) => error.into(),
            UpdateError::Install(error) => error.into(),
            UpdateError::Clock
            | UpdateError::Tuf(_)
            | UpdateError::Download(_)
            | UpdateError::Archive { .. }
            | UpdateError::Bundle(_)
            | UpdateError::Other { .. }
            | UpdateError::Unfit(_)
            | UpdateError::Shadow { .. }
            | UpdateError::Unseen { .. }
            | UpdateError::Interrupted
            | UpdateError::Anchors(_) => Self::refused(error),
        }
    }
}
