//! What this process holds in memory, as the kernel counts it.

/// Largest resident set so far, in bytes (`VmHWM` of proc(5)).
pub fn peak() -> Option<u64> {
    field("VmHWM:")
}

/// Resident set now, in bytes (`VmRSS` of proc(5)).
pub fn resident() -> Option<u64> {
    field("VmRSS:")
}

fn field(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    parse(&status, name)
}

fn parse(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes = rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_bytes() {
        let status = "Name:\tfamiliar\nVmHWM:\t  123456 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(parse(status, "VmHWM:"), Some(123_456 * 1024));
        assert_eq!(parse(status, "VmSwap:"), None);
        assert_eq!(parse("VmHWM:\tmany kB\n", "VmHWM:"), None);
    }

    #[test]
    fn this_process_has_a_size() {
        assert!(peak() >= resident() && resident() > Some(100_000));
    }
}
