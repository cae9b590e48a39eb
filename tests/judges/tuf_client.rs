//! The client of model updates behind the command line of `theupdateframework/tuf-conformance`, which judges it
//! (`make tuf-conformance`). Exit code 0 or 1.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use familiar::model::update::client::Client;
use familiar::model::update::download::download;
use familiar::model::update::fetch::Source;
use familiar::model::update::store::{Store, quote};
use familiar::system::clock::{ClockState, Date};

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    metadata_dir: PathBuf,
    #[arg(long)]
    metadata_url: Option<String>,
    #[arg(long)]
    target_name: Vec<String>,
    #[arg(long)]
    target_base_url: Option<String>,
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Init { root: PathBuf },
    Refresh,
    Download,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuf_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(&arguments.metadata_dir)?;
    if let Verb::Init { root } = &arguments.verb {
        return Ok(store.write("root", &std::fs::read(root)?)?);
    }
    let url = arguments.metadata_url.ok_or("--metadata-url is missing")?;
    // The suite sets the time by faketime.
    let date = Date { state: ClockState::Synchronized, ..Date::now() };
    let mut client = Client::refresh(store, Source::new(&url)?, date)?;
    if let Verb::Download = arguments.verb {
        let base = arguments.target_base_url.ok_or("--target-base-url is missing")?;
        let folder = arguments.target_dir.ok_or("--target-dir is missing")?;
        let source = Source::new(&base)?;
        for name in &arguments.target_name {
            let target = client.target(name)?;
            let location = client.location(name, &target);
            let file = folder.join(quote(name));
            download(&source, &location, &target, 100 << 20, &file, &mut |_| ())?;
        }
    }
    Ok(())
}
