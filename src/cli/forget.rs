//! `familiar forget`: erase a person.

use jiff::Timestamp;

use super::people::{open, print_json};
use super::{Failure, Global};
use crate::event::{self, Context, Fact};
use crate::recognition::PersonId;
use crate::system::state::StateDirectory;

/// Templates and name are wiped from the store first; then the signed `erased` event is put into the outbox,
/// for the daemon to publish. What a crash cuts short is finished by the daemon's next start, or by calling
/// this again. With --json: {"erased":[ID]}, which may hold ids of erasures that were cut short before.
#[derive(Debug, clap::Args)]
pub struct Args {
    id: PersonId,
}

pub fn run(global: &Global, Args { id }: Args) -> Result<(), Failure> {
    let config = global.located()?.config;
    let limits = (&config.outbox).into();
    let state = StateDirectory::open()?;
    let mut gallery = open()?;
    // The key and the ledger first: what cannot be told must not be begun.
    let context = Context::new(config.device, &config.camera.source, None);
    let (_, ledger) = event::open(&state, context, limits).map_err(super::key::rotation_failure)?;

    let known = gallery.begin_erasure(&id).map(drop);
    // Pays older debts too, even if this id is unknown.
    let erased = gallery.settle_erasures(|person| {
        let fact = Fact::Erased { person: person.clone(), time: Timestamp::now() };
        ledger.record(&fact).map(drop).map_err(Failure::failed)
    })?;
    known?;
    if global.json {
        return print_json(&serde_json::json!({ "erased": erased }));
    }
    for id in erased {
        println!("{id}: erased");
    }
    Ok(())
}
