//! `familiar model`

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

mod installed;
mod update;

use super::{Failure, Global};
use crate::model::bundle::MANIFEST_FILE;
use crate::model::{
    self, Anchor, AnchorError, BundleError, ModelIdentity, SignError, SigningKey, TrustAnchors,
    VerifiedBundle, VerifiedFiles,
};
use crate::system::owner;

/// Verify, sign, list, install, roll back and update model bundles
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Verify(VerifyArgs),
    Sign(SignArgs),
    /// List the bundles of this device
    #[command(after_help = "Example:\n  familiar model list")]
    List,
    /// Install a bundle before the factory's: a folder, an archive of one, or - for an archive on standard input
    #[command(after_help = "Example:\n  familiar model install facenet-1.3.0.tar")]
    Install {
        /// A folder, an archive (tar), or - for an archive on standard input
        #[arg(value_name = "BUNDLE")]
        bundle: PathBuf,
    },
    /// Go back to the bundle before
    #[command(after_help = "Example:\n  familiar model rollback")]
    Rollback,
    Update(update::Args),
}

/// Verify a bundle: its signature, its files and its manifest
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  familiar model verify /usr/share/familiar/models/facenet\n  familiar model verify bundle --anchor signer.pub"
)]
struct VerifyArgs {
    /// The bundle's folder
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Trust this PEM public key instead of the configuration's trust.d; may be given more than once
    #[arg(long, value_name = "FILE.pub")]
    anchor: Vec<PathBuf>,
    /// Trust the *.pub of this folder instead of the configuration's trust.d
    #[arg(long, value_name = "DIR", conflicts_with = "anchor")]
    trust: Option<PathBuf>,
}

/// Sign all files of a directory
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  familiar model sign bundle --key signer.pem --expires 2028-12-31"
)]
struct SignArgs {
    /// The folder whose files are signed
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// ECDSA key on P-256 or P-384: PEM, PKCS#8 or SEC1, mode 0600
    #[arg(long, value_name = "KEY.pem")]
    key: PathBuf,
    /// The signature ends then: a day (YYYY-MM-DD, from 0:00 UTC) or an RFC 3339 time [default: never]
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    expires: Option<Timestamp>,
}

impl Args {
    /// Whether it asks for more than a folder that is named.
    pub fn touches_state(&self) -> bool {
        !matches!(self.verb, Verb::Verify(_) | Verb::Sign(_))
    }
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    if !matches!(args.verb, Verb::Install { .. }) && args.touches_state() {
        owner::for_good();
    }
    match args.verb {
        Verb::Verify(args) => verify(global, &args),
        Verb::Sign(args) => sign(global, &args),
        Verb::List => installed::list(global),
        Verb::Install { bundle } => installed::install(global, &bundle),
        Verb::Rollback => installed::rollback(global),
        Verb::Update(args) => update::update(global, &args),
    }
}

fn parse_date(text: &str) -> Result<Timestamp, String> {
    let day = || format!("{text}T00:00:00Z").parse();
    text.parse()
        .or_else(|_| day())
        .map_err(|_| "neither YYYY-MM-DD nor an RFC 3339 time".to_owned())
}

fn verify(global: &Global, args: &VerifyArgs) -> Result<(), Failure> {
    let anchors = anchors(global, args)?;
    let outcome = VerifiedFiles::open(&args.directory, &anchors).and_then(|files| {
        let mut facts = Facts::of(&files);
        // Any signed directory verifies; but nobody shall take it for a bundle that runs.
        if !files.contents().contains_key(MANIFEST_FILE) {
            return Ok((facts, None));
        }
        let bundle = VerifiedBundle::from_files(&args.directory, files)?;
        let identity = bundle.identity();
        // A bundle whose network or mapping is amiss verifies all the same; the self-test refuses it.
        facts.space = model::space(bundle).ok().map(|space| space.digest().to_owned());
        Ok((facts, Some(identity)))
    });
    match outcome {
        Ok((facts, identity)) => {
            print_verified(global, &facts, identity.as_ref());
            if identity.is_none() {
                let directory = args.directory.display();
                eprintln!(
                    "familiar: warning: the signature over {directory} holds, but without {MANIFEST_FILE} it is no bundle for familiar: the daemon would refuse it"
                );
            }
            Ok(())
        }
        Err(error) => {
            if global.json {
                println!("{}", json!({ "verified": false, "reason": error.to_string() }));
            }
            Err(error.into())
        }
    }
}

fn anchors(global: &Global, args: &VerifyArgs) -> Result<TrustAnchors, Failure> {
    if let Some(directory) = &args.trust {
        return Ok(TrustAnchors::load(directory)?);
    }
    let given = args.anchor.iter().map(|file| Anchor::read(file)).collect::<Result<_, _>>()?;
    match TrustAnchors::new(given) {
        Some(anchors) => Ok(anchors),
        None => Ok(TrustAnchors::load(&global.located()?.directory().join("trust.d"))?),
    }
}

/// What a verified signature says.
struct Facts {
    digest: String,
    signer: String,
    key: String,
    files: usize,
    expires: Option<Timestamp>,
    /// What templates made by it are bound to.
    space: Option<String>,
}

impl Facts {
    fn of(files: &VerifiedFiles) -> Self {
        Self {
            digest: format!("sha256:{}", files.signed().root()),
            signer: files.signer().file.display().to_string(),
            key: files.signer().key.hint().to_string(),
            files: files.contents().len(),
            expires: files.signed().expires(),
            space: None,
        }
    }
}

fn print_verified(global: &Global, facts: &Facts, identity: Option<&ModelIdentity>) {
    let Facts { digest, signer, key, files, expires, space } = facts;
    if global.json {
        let name = identity.map(|identity| &identity.name);
        let version = identity.map(|identity| &identity.version);
        let line = json!({
            "verified": true, "name": name, "version": version, "digest": digest,
            "signer": { "file": signer, "key": key }, "files": files, "expires": expires, "space": space,
        });
        println!("{line}");
        return;
    }
    match identity {
        Some(ModelIdentity { name, version, .. }) => println!("{name} {version}: verified"),
        None => println!("signature verified"),
    }
    println!("digest   {digest}");
    if let Some(space) = space {
        println!("space    {space}");
    }
    println!("files    {files}");
    println!("signer   {signer}");
    println!("key      {key}");
    if let Some(expires) = expires {
        println!("expires  {expires}");
    }
}

fn sign(global: &Global, args: &SignArgs) -> Result<(), Failure> {
    let key = SigningKey::read(&args.key)?;
    let signed = model::sign(&args.directory, &key, args.expires)?;
    let (root, files) = (signed.root(), signed.files().len());
    let hint = key.public().hint();
    if global.json {
        let expires = signed.expires();
        println!(
            "{}",
            json!({ "digest": format!("sha256:{root}"), "key": hint, "files": files, "expires": expires })
        );
    } else {
        println!("digest   sha256:{root}");
        println!("files    {files}");
        println!("key      {hint}");
        if let Some(expires) = signed.expires() {
            println!("expires  {expires}");
        }
    }
    Ok(())
}

/// With no key to trust, or one that cannot be read, nothing is verified, so nothing is run.
impl From<AnchorError> for Failure {
    fn from(error: AnchorError) -> Self {
        Self::refused(error)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::refused(error)
    }
}

impl From<SignError> for Failure {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Secret(error) => error.into(),
            SignError::NoKey(_) | SignError::Key { .. } => Self::usage(error),
            SignError::Bundle(_) | SignError::LeftOut { .. } => Self::refused(error),
            SignError::Write { .. } | SignError::Crypto(_) => Self::failed(error),
        }
    }
}
