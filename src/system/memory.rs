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

/// Runs `work`, which builds large things out of other large things (a network out of a file), so that what it
/// frees goes back to the kernel, and not into holes between what it keeps.
///
/// glibc takes large pieces straight from the kernel, but raises its idea of "large" with each one freed; loading
/// FaceNet then leaves a third of the heap in holes (200 MiB instead of 133, measured). Elsewhere it just runs `work`.
pub fn compactly<T>(work: impl FnOnce() -> T) -> T {
    tuning::large_from(128 << 10);
    let result = work();
    // Running a network takes and frees the same buffers again and again: those shall stay.
    tuning::large_from(32 << 20);
    tuning::trim();
    result
}

/// Gives back to the kernel what was freed: after something large is gone for good.
pub fn trim() {
    tuning::trim();
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
mod tuning {
    use libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, c_int, mallopt};

    /// Pieces of at least `bytes` come from the kernel, and a free end of the heap of that size goes back to it.
    pub(super) fn large_from(bytes: c_int) {
        // SAFETY: takes two integers and sets glibc's own parameters, under its lock (mallopt(3)).
        unsafe {
            mallopt(M_MMAP_THRESHOLD, bytes);
            mallopt(M_TRIM_THRESHOLD, bytes.saturating_mul(2));
        }
    }

    pub(super) fn trim() {
        // SAFETY: gives free pages back to the kernel; no memory in use changes (malloc_trim(3)).
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(not(target_env = "gnu"))]
mod tuning {
    pub(super) fn large_from(_bytes: i32) {}
    pub(super) fn trim() {}
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
