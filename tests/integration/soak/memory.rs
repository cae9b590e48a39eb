//! The daemon's memory over an hour's worth of frames.

use std::time::{Duration, Instant};

use super::home::Home;
use crate::support::mosquitto::Mosquitto;

/// An hour at ten frames a second.
const FRAMES: usize = 36_000;
/// Share of the run that belongs to its start: models, caches, the allocator's first arenas.
const WARM_UP: f64 = 0.1;
const MOST_GROWTH: f64 = 0.05;

/// Holds SPD-05.
#[test]
#[ignore = "takes a quarter of an hour: make soak-memory"]
fn memory_is_flat() {
    let test = "memory_is_flat";
    let frames = std::env::var("FAMILIAR_SOAK_FRAMES").ok().and_then(|text| text.parse().ok());
    let frames = frames.unwrap_or(FRAMES);
    let Some(mut home) = Home::new(test) else { return };
    let Some(broker) = Mosquitto::start(test, "") else { return };
    home.lengthen(frames);
    home.configure(Some(broker.port), false);
    let began = Instant::now();
    home.start_daemon();
    let mut samples: Vec<(Duration, f64)> = Vec::new();
    let status = loop {
        std::thread::sleep(Duration::from_millis(200));
        if let Some(status) = home.ended() {
            break status;
        }
        if let Some(resident) = resident(home.daemon().unwrap().id()) {
            samples.push((began.elapsed(), resident));
        }
    };
    assert!(status.success(), "{status}\n{}", home.log_tail());
    let events = super::judge::last_recorded(&home.path("state"));
    let (end, _) = *samples.last().unwrap();
    samples.retain(|(time, _)| time.as_secs_f64() >= WARM_UP * end.as_secs_f64());
    let tenth = samples.len() / 10;
    assert!(tenth >= 5, "too short to tell: {} samples", samples.len());
    let mean = |samples: &[(Duration, f64)]| {
        samples.iter().map(|(_, resident)| resident).sum::<f64>() / samples.len() as f64
    };
    let (first, last) = (mean(&samples[..tenth]), mean(&samples[samples.len() - tenth..]));
    let most = samples.iter().map(|(_, resident)| *resident).fold(0.0, f64::max);
    let growth = last / first - 1.0;
    println!(
        "memory: {frames} frames and {events} events in {} s: first tenth {first:.1} MiB, last \
         {last:.1} MiB ({:+.1} %), at most {most:.1} MiB, {} samples",
        end.as_secs(),
        100.0 * growth,
        samples.len(),
    );
    assert!(growth.abs() <= MOST_GROWTH, "not flat");
}

/// MiB that a process holds in memory.
fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
