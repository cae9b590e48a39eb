//! What brokers may still keep of this device's former names, prefixes and addresses.

use super::Report;
use crate::cli::Failure;
use crate::config::Config;
use crate::daemon::former::Former;
use crate::mqtt::Broker;
use crate::mqtt::discovery::Discovery;
use crate::mqtt::retained::{Kept, Record};
use crate::mqtt::topics::{Prefix, Topics};
use crate::system::state::StateDirectory;

/// Says nothing where there is nothing to say.
pub fn check(config: &Config, state: &StateDirectory, report: &mut Report) {
    let all = Record::find(state).and_then(|record| record.map_or(Ok(Vec::new()), |r| r.all()));
    let Some(all) = report.take("published", all.map_err(Failure::failed)) else { return };
    let Former { here, elsewhere } = former(config, all);
    if let Some(first) = here.first() {
        let why = format!(
            "{}: published under another name, prefix or discovery topic than is configured, and not cleared yet; the \
             daemon does so when it runs, if it may write there",
            some(&here, &first.topic)
        );
        report.warn("published", why);
    }
    if let Some(Kept { broker, topic, .. }) = elsewhere.first() {
        let why = format!(
            "{} at {broker}, which is not configured any more and may still keep them; clear each there \
             (`mosquitto_pub -h {broker} -r -n -t TOPIC`): docs/operations.md",
            some(&elsewhere, topic)
        );
        report.warn("published", why);
    }
}

fn former(config: &Config, all: Vec<Kept>) -> Former {
    let here = config.mqtt.as_ref().and_then(|mqtt| {
        let prefix = Prefix::try_from(mqtt.prefix.clone()).ok()?;
        let topics = Topics::new(&prefix, &config.device);
        let discovery = Some(mqtt.discovery_prefix.as_str())
            .filter(|prefix| !prefix.is_empty())
            .map(|prefix| Discovery::topic_of(prefix, &topics));
        Some((Broker::name_of(&mqtt.url).ok()?, topics, discovery))
    });
    match here {
        Some((broker, topics, discovery)) => {
            Former::of(all, &broker, &topics, discovery.as_deref())
        }
        None => Former { here: Vec::new(), elsewhere: all },
    }
}

fn some(all: &[Kept], first: &str) -> String {
    match all.len() {
        1 => first.to_owned(),
        count => format!("{count} topics such as {first}"),
    }
}
