//! What was answered, and the configuration that it makes.

use std::path::{Path, PathBuf};

use crate::config::{CameraSource, Config, ConfigError, DeviceName, load};

/// Where a camera is looked for if nobody says otherwise.
pub const CAMERA: &str = "/dev/video0";

pub struct Answers {
    pub device: DeviceName,
    pub camera: String,
    pub broker: Option<Broker>,
    pub unknown: bool,
}

pub struct Broker {
    /// `mqtts://…` or `mqtt://…`
    pub url: String,
    pub allow_plaintext: bool,
    pub ca: Option<PathBuf>,
    pub username: Option<String>,
}

/// A URL as it is; a host alone is taken to speak TLS.
pub fn url(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("a broker is named as mqtts://HOST[:PORT]".to_owned());
    }
    Ok(if text.contains("://") { text.to_owned() } else { format!("mqtts://{text}") })
}

/// A source as the configuration takes it.
pub fn camera(text: &str) -> Result<String, String> {
    CameraSource::try_from(text.to_owned()).map(|_| text.to_owned())
}

impl Answers {
    /// The text of the configuration file. `ca` is where the certificates will lie.
    pub fn text(&self, ca: Option<&Path>) -> String {
        let mut text = format!(
            "# Written by `familiar setup`. Every key: docs/configuration.md (/usr/share/doc/familiar).\n\
             # After a change: familiar check, and systemctl reload familiar.\n\n\
             # The name of this device in every topic and event.\n\
             device = {}\n\n\
             [camera]\n\
             source = {}\n",
            quoted(self.device.as_str()),
            quoted(&self.camera),
        );
        if let Some(broker) = &self.broker {
            text += "\n[mqtt]\n";
            text += &setting("url", &broker.url);
            text.push('\n');
            if broker.allow_plaintext {
                text.push_str("allow_plaintext = true    # whoever listens in this network reads who comes and goes\n");
            }
            if let Some(ca) = ca {
                text += &setting("ca", &ca.display().to_string());
                text.push('\n');
            }
            if let Some(username) = &broker.username {
                text += &setting("username", username);
                text += "    # the password is the secret `mqtt-password`\n";
            }
        }
        if self.unknown {
            text.push_str("\n[events]\nunknown = true\n");
        }
        text
    }

    /// The text, read as the daemon will read it.
    pub fn parsed(&self, path: &Path, ca: Option<&Path>) -> Result<(String, Config), ConfigError> {
        let text = self.text(ca);
        let config = load::parse(path, &text)?;
        Ok((text, config))
    }
}

/// A key with its text, without an end of line.
fn setting(key: &str, text: &str) -> String {
    format!("{key} = {}", quoted(text))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_out_of_the_configuration_as_they_were_given() {
        let odd = "a\"b\\c # 'd' ü = [x]";
        let answers = Answers {
            device: DeviceName::try_from("porch".to_owned()).unwrap(),
            camera: format!("/dev/{odd}"),
            broker: Some(Broker {
                url: "mqtts://broker.local:8883".to_owned(),
                allow_plaintext: true,
                ca: Some("elsewhere.pem".into()),
                username: Some(odd.to_owned()),
            }),
            unknown: true,
        };
        let ca = PathBuf::from(format!("/etc/familiar/{odd}.pem"));
        let (_, config) = answers.parsed(Path::new("familiar.toml"), Some(&ca)).unwrap();
        assert_eq!(config.camera.source, CameraSource::Device(format!("/dev/{odd}").into()));
        assert!(config.events.unknown);
        let mqtt = config.mqtt.unwrap();
        assert_eq!(mqtt.username.as_deref(), Some(odd));
        assert_eq!(mqtt.ca, Some(ca));
        assert!(mqtt.allow_plaintext);
        let least = Answers { broker: None, unknown: false, ..answers };
        assert!(least.parsed(Path::new("familiar.toml"), None).unwrap().1.mqtt.is_none());
    }

    #[test]
    fn host_alone_speaks_tls() {
        assert_eq!(url("broker.local").unwrap(), "mqtts://broker.local");
        assert_eq!(url(" mqtt://127.0.0.1:1883 ").unwrap(), "mqtt://127.0.0.1:1883");
        assert!(url("").is_err() && url("my broker").is_err());
    }
}
