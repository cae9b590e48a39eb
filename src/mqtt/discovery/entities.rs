//! The components of the discovery message, in Home Assistant's abbreviations.
//!
//! Signed texts are read by templates: the envelope is JSON, and its payload is JSON in a string. What is
//! absent gives `None`, which Home Assistant shows as unknown; nothing here may log a warning because a
//! field, a whole text or (a cleared topic) all of it is missing.

use serde_json::{Map, Value, json};

use super::{Component, Setting, ids};
use crate::config::UnsignedCommand;
use crate::recognition::{PersonId, PersonRef};

/// Sets `p` to the payload of a signed text, or to an empty one.
const PAYLOAD: &str = "{% set p=(value_json|default({})).payload|default('{}')|from_json %}";

/// All but the people's.
pub(super) fn of_device(setting: &Setting<'_>) -> Map<String, Value> {
    let event = setting.topics.event();
    let mut components = Map::new();
    let mut add = |key: &str, platform: &str, options: Value| {
        components.insert(key.to_owned(), component(setting, platform, key, key, options));
    };
    // Others (`erased`, `overflow`) are no events of a face; Home Assistant would warn of a type that it
    // was not told of, and ignores an empty text.
    add(
        "face",
        "event",
        json!({
            "name": "Face",
            "ic": "mdi:face-recognition",
            "evt_typ": ["recognized", "departed", "unknown", "spoof"],
            "stat_t": event,
            "val_tpl": template(
                "{{ value_json.payload if p.get('event_type') in \
                 ('recognized','departed','unknown','spoof') else '' }}"
            ),
            "qos": 1,
        }),
    );
    add(
        "last_person",
        "sensor",
        json!({
            "name": "Last person",
            "ic": "mdi:account-clock",
            "stat_t": event,
            // Whatever else happens leaves who it was.
            "val_tpl": template(
                "{{ p.get('person',{}).get('name') if p.get('event_type')=='recognized' \
                 else (this.state if this.state!='unavailable' else None) }}"
            ),
            "qos": 1,
        }),
    );
    for (key, platform, options) in diagnostics() {
        add(key, platform, options);
    }
    let mut model = json!({
        "name": "Model",
        "ic": "mdi:face-recognition",
        "val_tpl": template(
            "{% set i=p.get('model',{}).get('version') %}{% set u=p.get('update') or {} %}{% set g=p.get('updating') or {} %}\
             {{ {'installed_version':i,'latest_version':g.get('version') or u.get('version') or i,\
             'in_progress':g.get('percent') is not none,'update_percentage':g.get('percent'),\
             'release_summary':u.get('outcome')~': '~(u.get('reason') or '') \
             if u.get('outcome') in ('failed','refused','fell-back') else ''}|to_json if i else '' }}"
        ),
    });
    if setting.commands.contains(&UnsignedCommand::Update) {
        model["cmd_t"] = setting.topics.set("update").into();
        model["pl_inst"] = "PRESS".into();
    }
    components.insert(
        "model_update".to_owned(),
        component(setting, "update", "model_update", "model", model),
    );
    for (key, value) in controls(setting) {
        components.insert(key.to_owned(), value);
    }
    components
}

/// Presence and last sight of one person.
pub(super) fn of_person(setting: &Setting<'_>, person: &PersonRef) -> [Component; 2] {
    let PersonRef { id, name } = person;
    let topic = setting.topics.person(id);
    let [present, seen] = keys(id);
    let occupancy = json!({
        "name": name,
        "dev_cla": "occupancy",
        "stat_t": topic,
        "val_tpl": template("{{ {true:'ON',false:'OFF'}.get(p.get('present')) }}"),
        "qos": 1,
    });
    let sight = json!({
        "name": format!("{name} last seen"),
        "dev_cla": "timestamp",
        "stat_t": topic,
        "val_tpl": template("{{ p.get('last_seen') }}"),
    });
    let person = ids::person(id);
    let entity = format!("{person}_last_seen");
    [
        (present.clone(), component(setting, "binary_sensor", &present, &person, occupancy)),
        (seen.clone(), component(setting, "sensor", &seen, &entity, sight)),
    ]
}

/// Removes what [`of_person`] made: a component with nothing but its platform.
pub(super) fn of_nobody(id: &PersonId) -> [Component; 2] {
    let [present, seen] = keys(id);
    [(present, removed("binary_sensor")), (seen, removed("sensor"))]
}

/// No key of a person is one of the device, or of another person.
fn keys(id: &PersonId) -> [String; 2] {
    [format!("person_{id}"), format!("seen_{id}")]
}

#[allow(clippy::too_many_lines)] // a list
fn diagnostics() -> [(&'static str, &'static str, Value); 11] {
    let health = |expression: &str| template(&format!("{{{{ {expression} }}}}"));
    let problem =
        |expression: &str| health(&format!("{{true:'ON',false:'OFF'}}.get({expression})"));
    let mut all = [
        (
            "state",
            "sensor",
            json!({
                "name": "State", "dev_cla": "enum", "ops": ["watching", "paused", "blind"],
                "val_tpl": health("p.get('state')"),
            }),
        ),
        (
            "camera",
            "binary_sensor",
            json!({
                "name": "Camera", "dev_cla": "problem",
                "val_tpl": problem("{'ok':false,'paused':false,'away':true}.get(p.get('camera',{}).get('state'))"),
            }),
        ),
        (
            "frame_rate",
            "sensor",
            json!({
                "name": "Frame rate", "ic": "mdi:speedometer", "unit_of_meas": "fps",
                "stat_cla": "measurement",
                "val_tpl": health("p.get('camera',{}).get('frames_per_second')"),
            }),
        ),
        (
            "temperature",
            "sensor",
            json!({
                "name": "Temperature", "dev_cla": "temperature", "unit_of_meas": "°C",
                "stat_cla": "measurement",
                "val_tpl": health("p.get('temperature_c')"),
            }),
        ),
        (
            "memory",
            "sensor",
            json!({
                "name": "Memory", "dev_cla": "data_size", "unit_of_meas": "MiB",
                "stat_cla": "measurement",
                "val_tpl": health("p.get('memory_mib',{}).get('now')"),
            }),
        ),
        (
            "outbox",
            "sensor",
            json!({
                "name": "Outbox", "ic": "mdi:tray-full", "unit_of_meas": "events",
                "stat_cla": "measurement",
                "val_tpl": health("p.get('outbox',{}).get('depth')"),
            }),
        ),
        (
            "storage",
            "binary_sensor",
            json!({
                "name": "Storage", "dev_cla": "problem",
                "val_tpl": problem("{true:false,false:true}.get(p.get('outbox',{}).get('storing'))"),
            }),
        ),
        (
            "clock",
            "binary_sensor",
            json!({
                "name": "Clock", "dev_cla": "problem",
                "val_tpl": problem("{'synchronized':false,'unsynchronized':true}.get(p.get('clock'))"),
            }),
        ),
        (
            "refused_commands",
            "sensor",
            json!({
                "name": "Refused commands", "ic": "mdi:shield-alert", "stat_cla": "total_increasing",
                "val_tpl": health("p.get('commands',{}).get('refused')"),
            }),
        ),
        (
            "model",
            "sensor",
            json!({
                "name": "Model", "ic": "mdi:face-recognition",
                "val_tpl": template(
                    "{% set m=p.get('model') or {} %}\
                     {{ m.get('name')~' '~m.get('version') if m.get('name') else None }}"
                ),
            }),
        ),
        (
            "last_report",
            "sensor",
            json!({
                "name": "Last report", "dev_cla": "timestamp",
                "val_tpl": health("p.get('time')"),
            }),
        ),
    ];
    for (_, _, options) in &mut all {
        options["ent_cat"] = "diagnostic".into();
    }
    all
}

/// Controls for the unsigned commands that are allowed; those that are not (any more) are removed.
fn controls(setting: &Setting<'_>) -> [(&'static str, Value); 3] {
    let allowed = |command| setting.commands.contains(&command);
    let (pause, resume) = (allowed(UnsignedCommand::Pause), allowed(UnsignedCommand::Resume));
    let button = |key: &str, name: &str, command: &str, icon: &str| {
        let options = json!({ "name": name, "ic": icon, "cmd_t": setting.topics.set(command), "pl_prs": "PRESS" });
        component(setting, "button", key, command, options)
    };
    let switch = json!({
        "name": "Pause",
        "ic": "mdi:pause-octagon",
        "cmd_t": setting.topics.set("pause"),
        "val_tpl": template(
            "{{ {'paused':'ON','watching':'OFF','blind':'OFF'}.get(p.get('state')) }}"
        ),
    });
    [
        (
            "pause",
            if pause && resume {
                component(setting, "switch", "pause", "pause", switch)
            } else {
                removed("switch")
            },
        ),
        (
            "pause_button",
            if pause && !resume {
                button("pause_button", "Pause", "pause", "mdi:pause-octagon")
            } else {
                removed("button")
            },
        ),
        (
            "resume_button",
            if resume && !pause {
                button("resume_button", "Resume", "resume", "mdi:play")
            } else {
                removed("button")
            },
        ),
    ]
}

/// `entity` is what the entity id shall end with: `binary_sensor.DEVICE_ENTITY`.
fn component(
    setting: &Setting<'_>,
    platform: &str,
    key: &str,
    entity: &str,
    mut options: Value,
) -> Value {
    options["p"] = platform.into();
    options["uniq_id"] = ids::unique(setting.topics, key).into();
    options["def_ent_id"] = ids::entity(setting.topics, platform, entity).into();
    options
}

fn removed(platform: &str) -> Value {
    json!({ "p": platform })
}

fn template(then: &str) -> String {
    format!("{PAYLOAD}{then}")
}
