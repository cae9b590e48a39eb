//! Whether the unit's address rules let the daemon reach the broker: this command itself runs outside of them.

use std::net::IpAddr;
use std::process::Command;

use super::Report;
use crate::cli::block_on;
use crate::mqtt::Broker;
use crate::system::dial;
use crate::system::state::StateDirectory;

pub fn check(broker: &Broker, state: &StateDirectory, report: &mut Report) {
    let Ok(Ok(addresses)) = block_on(broker.addresses()) else { return };
    if addresses.iter().any(|address| dial::is_near(address.ip())) {
        return;
    }
    let Some(unit) = unit(state) else { return };
    let Some(rules) = rules(&unit) else { return };
    if let Some(address) = addresses.first()
        && addresses.iter().all(|address| rules.forbid(address.ip()))
    {
        report.warn(
            "address rules",
            format!(
                "{unit} does not let the daemon reach {}, on the public Internet: install public-broker.conf as a \
                 drop-in, then systemctl daemon-reload (docs/operations.md)",
                address.ip()
            ),
        );
    }
}

/// The unit whose state this is.
fn unit(state: &StateDirectory) -> Option<String> {
    let name = state.path().file_name()?.to_str()?;
    match name.strip_prefix("familiar")? {
        "" => Some("familiar.service".to_owned()),
        rest => rest.strip_prefix('-').map(|instance| format!("familiar@{instance}.service")),
    }
}

/// As systemd holds them, drop-ins included; `None` where there is no such unit, or no systemd.
fn rules(unit: &str) -> Option<Rules> {
    let output = Command::new("systemctl")
        .args(["show", "--property=IPAddressAllow", "--property=IPAddressDeny", unit])
        .output()
        .ok()?;
    output.status.success().then(|| Rules::parse(&String::from_utf8_lossy(&output.stdout)))
}

#[derive(Debug, Default)]
struct Rules {
    allow: Vec<Network>,
    deny: Vec<Network>,
}

#[derive(Debug, Clone, Copy)]
struct Network {
    address: IpAddr,
    length: u32,
}

impl Rules {
    fn parse(shown: &str) -> Self {
        let of = |name: &str| -> Vec<Network> {
            let line = shown.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().split_whitespace().filter_map(Network::parse).collect()
        };
        Self { allow: of("IPAddressAllow="), deny: of("IPAddressDeny=") }
    }

    /// What is allowed is looked at first (systemd.resource-control(5)).
    fn forbid(&self, address: IpAddr) -> bool {
        let among = |networks: &[Network]| networks.iter().any(|network| network.holds(address));
        !among(&self.allow) && among(&self.deny)
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        Some(Self { address: address.parse().ok()?, length: length.parse().ok()? })
    }

    fn holds(self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            // All bits that the network does not fix.
            let rest = bits.saturating_sub(self.length);
            a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As `systemctl show` prints what the unit says.
    const UNIT: &str = "IPAddressAllow=127.0.0.0/8 169.254.0.0/16 ::1/128 fe80::/64 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7\n\
                        IPAddressDeny=0.0.0.0/0 ::/0\n";

    #[test]
    fn public_addresses_are_forbidden_until_the_drop_in_allows_them() {
        let open = UNIT.replace("=127.", "=0.0.0.0/0 ::/0 127.");
        let some = UNIT.replace("=127.", "=203.0.113.7/32 2001:db8::/64 127.");
        for (address, by_unit, by_some) in [
            ("203.0.113.7", true, false),
            ("203.0.113.8", true, true),
            ("2001:db8::5", true, false),
            ("2001:db8:0:1::5", true, true),
            ("172.31.255.255", false, false),
            ("172.32.0.0", true, true),
            ("fd12::1", false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Rules::parse(UNIT).forbid(address), by_unit, "{address}");
            assert_eq!(Rules::parse(&some).forbid(address), by_some, "{address}");
            assert!(!Rules::parse(&open).forbid(address), "{address}");
        }
        // A unit that is not there has no rules.
        assert!(
            !Rules::parse("IPAddressAllow=\nIPAddressDeny=\n").forbid("8.8.8.8".parse().unwrap())
        );
    }

    #[test]
    fn unit_is_known_by_its_state() {
        let of = |path: &str| {
            let folder = tempfile::tempdir().unwrap();
            unit(&StateDirectory::at(folder.path().join(path)).unwrap())
        };
        assert_eq!(of("familiar").as_deref(), Some("familiar.service"));
        assert_eq!(of("familiar-garden").as_deref(), Some("familiar@garden.service"));
        assert_eq!(of("state"), None);
    }
}
