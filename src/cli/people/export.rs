//! `familiar people export`: what is held on one person, for that person to read.

use jiff::Timestamp;
use serde::Serialize;

use super::{look, print_json, waiting};
use crate::cli::{Failure, Global};
use crate::daemon::presence;
use crate::event::{Outbox, store};
use crate::mqtt::retained::{Kept, Record};
use crate::mqtt::topics::{Prefix, Topics};
use crate::recognition::PersonId;
use crate::recognition::gallery::{Anchor, Expiry, LookFacts};
use crate::system::state::StateDirectory;

#[derive(Serialize)]
struct Export {
    id: PersonId,
    name: String,
    consent: Option<String>,
    enrolled: Timestamp,
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_after: Option<String>,
    expired: bool,
    templates: Vec<Templates>,
    presence: Option<presence::Kept>,
    /// Events about the person that the broker has not taken yet.
    outbox_events: u64,
    /// Where the broker keeps the person's presence, if there is a broker.
    retained_topic: Option<String>,
    /// Where else a broker may keep it, under a former name of the device: `{"broker","topic"}`.
    former_topics: Vec<FormerTopic>,
    exported: Timestamp,
}

#[derive(Serialize)]
struct FormerTopic {
    broker: String,
    topic: String,
}

/// Those of one embedder.
#[derive(Serialize)]
struct Templates {
    embedder: String,
    count: usize,
    /// Numbers in each.
    dimensions: usize,
    first: Timestamp,
    last: Timestamp,
}

pub fn run(global: &Global, id: &PersonId) -> Result<(), Failure> {
    let state = StateDirectory::there();
    let gallery = look()?;
    if let Some(anchor) = gallery.anchor(id)? {
        return anchored(global, anchor);
    }
    let person = gallery.person(id)?;
    let retained_topic = global.located().ok().and_then(|located| {
        let mqtt = located.config.mqtt?;
        let prefix = Prefix::try_from(mqtt.prefix).ok()?;
        Some(Topics::new(&prefix, &located.config.device).person(id))
    });
    let export = Export {
        expired: person.expired(Timestamp::now()),
        templates: by_embedder(gallery.look_facts(id)?),
        presence: presence::kept(&state, id),
        outbox_events: outbox_events(&state, id)?,
        former_topics: former_topics(&state, id, retained_topic.as_deref())?,
        retained_topic,
        exported: Timestamp::now(),
        id: person.id,
        name: person.name,
        consent: person.consent,
        enrolled: person.enrolled,
        expires: person.expires.as_ref().and_then(Expiry::date),
        expires_after: waiting(person.expires.as_ref()),
    };
    if global.json {
        return print_json(&export);
    }
    export.print();
    Ok(())
}

/// A face that is not to be named: templates and a note are all there is of it.
fn anchored(global: &Global, anchor: Anchor) -> Result<(), Failure> {
    let now = Timestamp::now();
    if global.json {
        return print_json(&serde_json::json!({
            "id": anchor.id, "anchor": true, "consent": anchor.consent, "enrolled": anchor.enrolled,
            "expires": anchor.expires.as_ref().and_then(Expiry::date),
            "expires_after": waiting(anchor.expires.as_ref()), "expired": anchor.expired(now),
            "templates": anchor.looks.iter().map(|(embedder, count)| {
                serde_json::json!({ "embedder": embedder, "count": count })
            }).collect::<Vec<_>>(),
            "exported": now,
        }));
    }
    println!(
        "What this device holds on {}, a face that is not to be named, as of {now:.0}",
        anchor.id
    );
    println!();
    println!("consent    {}", anchor.consent.as_deref().unwrap_or("none noted"));
    println!("enrolled   {:.0}", anchor.enrolled);
    let expires = anchor.expires.map_or("never".to_owned(), |end| end.to_string());
    println!("expires    {expires}");
    for (embedder, count) in &anchor.looks {
        println!(
            "templates  {count}, made from pictures that were not kept, by the model {embedder}"
        );
    }
    println!("           no name, no presence, and no event tells of it");
    Ok(())
}

/// Asked of an outbox that is there; one that is not is not made.
fn outbox_events(state: &StateDirectory, id: &PersonId) -> Result<u64, Failure> {
    if !state.file(store::NAME).exists() {
        return Ok(0);
    }
    Outbox::open(state).and_then(|outbox| outbox.about(id)).map_err(Failure::failed)
}

fn former_topics(
    state: &StateDirectory,
    id: &PersonId,
    current: Option<&str>,
) -> Result<Vec<FormerTopic>, Failure> {
    let record = Record::find(state).map_err(Failure::failed)?;
    let all = record.map_or(Ok(Vec::new()), |record| record.all()).map_err(Failure::failed)?;
    Ok(all
        .into_iter()
        .filter(|kept| kept.is_of(id) && Some(kept.topic.as_str()) != current)
        .map(|Kept { broker, topic, .. }| FormerTopic { broker, topic })
        .collect())
}

fn by_embedder(facts: Vec<LookFacts>) -> Vec<Templates> {
    let mut templates: Vec<Templates> = Vec::new();
    for LookFacts { embedder, added, dimensions } in facts {
        match templates.iter_mut().find(|t| t.embedder == embedder && t.dimensions == dimensions) {
            Some(known) => {
                known.count += 1;
                known.first = known.first.min(added);
                known.last = known.last.max(added);
            }
            None => templates.push(Templates {
                embedder,
                count: 1,
                dimensions,
                first: added,
                last: added,
            }),
        }
    }
    templates
}

impl Export {
    fn print(&self) {
        println!(
            "What this device holds on {} ({}), as of {:.0}",
            self.name, self.id, self.exported
        );
        println!();
        println!("consent    {}", self.consent.as_deref().unwrap_or("none noted"));
        println!("enrolled   {:.0}", self.enrolled);
        let waits = self.expires_after.clone().unwrap_or_else(|| "never".to_owned());
        let expires = self.expires.map_or(waits, |time| format!("{time:.0}"));
        println!("expires    {expires}{}", if self.expired { " (over: being erased)" } else { "" });
        for Templates { embedder, count, dimensions, first, last } in &self.templates {
            println!(
                "templates  {count} of {dimensions} numbers each, made from pictures that were not kept,"
            );
            println!("           {first:.0} to {last:.0}, by the model {embedder}");
        }
        match &self.presence {
            Some(presence::Kept { present, since, last_seen, unsynchronized }) => {
                let here = if *present { "here" } else { "away" };
                let seen = last_seen.map_or("never".to_owned(), |time| format!("{time:.0}"));
                let doubt =
                    if *unsynchronized { ", by a clock that was not synchronised" } else { "" };
                println!("presence   {here} since {since:.0}{doubt}, last seen {seen}");
            }
            None => println!("presence   nothing"),
        }
        println!("events     {} in the outbox, not yet taken by the broker", self.outbox_events);
        if let Some(topic) = &self.retained_topic {
            println!(
                "broker     keeps the presence under {topic}; events that it and others took are theirs"
            );
        }
        for FormerTopic { broker, topic } in &self.former_topics {
            println!(
                "           {broker} may still keep it under {topic}, from a former name of this device"
            );
        }
    }
}
