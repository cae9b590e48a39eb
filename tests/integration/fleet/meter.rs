//! What a process uses, as the kernel counts it, and figures on standard output.

use std::time::Duration;

/// Of one moment.
#[derive(Clone, Copy, Default)]
pub struct Meter {
    /// Resident set, KiB.
    resident: u64,
    /// Processor time, in clock ticks (hundredths of a second on Linux).
    ticks: u64,
}

impl Meter {
    /// Before a process began.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn of(pid: u32) -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let status = read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = line.trim().trim_end_matches(" kB").parse().unwrap();
        // Fields 14 and 15 of proc(5)'s stat; the name before them may hold blanks.
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Self { resident, ticks }
    }

    pub fn kibibytes_since(self, before: &Self) -> f64 {
        self.resident.saturating_sub(before.resident) as f64
    }

    pub fn milliseconds_since(self, before: &Self) -> f64 {
        self.ticks.saturating_sub(before.ticks) as f64 * 10.0
    }
}

pub fn figure(what: &str, value: f64) {
    println!("{what}: {value:.2}");
}

/// Median, 95th of a hundred, last.
pub fn spread(what: &str, when: &[Duration]) {
    let mut sorted: Vec<f64> = when.iter().map(Duration::as_secs_f64).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    println!("{what}: median {:.1}, 95 % {:.1}, last {:.1}", at(0.5), at(0.95), at(1.0));
}
