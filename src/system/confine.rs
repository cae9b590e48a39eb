//! What is secret in this process stays in it: no core dump, no look from outside, no swap of its keys.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Turns core dumps off, and with them the reach of other processes of the same user into this one's memory
/// (ptrace, `/proc/PID/mem`; `PR_SET_DUMPABLE` in prctl(2)). Call it before the first key is read.
///
/// What the system refuses is said and done without: a program in a container may not be allowed to.
pub fn process() {
    let core = Rlimit { current: Some(0), maximum: Some(0) };
    // Zero where a pipe takes dumps (`core_pattern`) matters little: the kernel asks for dumpable then.
    if getrlimit(Resource::Core) != core
        && let Err(error) = setrlimit(Resource::Core, core)
    {
        log::warn!("core dumps are not limited to 0: {error}");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        log::warn!("this process can be dumped and traced: {error}");
    }
}

/// A secret in memory that is not swapped to a disk where the system allows (`RLIMIT_MEMLOCK`).
///
/// Its pages stay locked when it is dropped: another secret may lie on them. Keys are few, and live as long
/// as the process.
pub struct Locked<T>(Box<T>);

impl<T> Locked<T> {
    pub fn new(secret: T) -> Self {
        let place = Box::new(secret);
        lock(&*place);
        Self(place)
    }
}

impl<T> std::ops::Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// `true` if the pages are locked.
fn lock<T: ?Sized>(place: &T) -> bool {
    // SAFETY: mlock(2) reads and writes no memory; it marks the pages of a live allocation, which may share
    // them with others, and fails where it may not.
    #[allow(unsafe_code)]
    let outcome = unsafe { libc::mlock(std::ptr::from_ref(place).cast(), size_of_val(place)) };
    if outcome != 0 {
        let error = std::io::Error::last_os_error();
        log::debug!("a key may be swapped to the disk: {error}");
    }
    outcome == 0
}

/// Overwrites bytes that are not needed any more, at the speed of memory, so that pictures can afford it.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // The optimiser must take it that somebody still looks at them.
    std::hint::black_box(&*bytes);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// In kB, of this process.
    fn locked() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
    }

    /// Holds GAL-28.
    #[test]
    fn wiped_bytes_are_gone() {
        let mut bytes = vec![7; 100];
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 100]);
    }

    /// Holds GAL-27.
    #[test]
    fn keys_are_locked_where_the_system_allows() {
        let key = Locked::new([7_u8; 32]);
        let allowed = getrlimit(Resource::Memlock).current.is_none_or(|bytes| bytes >= 1 << 16);
        assert!(!allowed || locked() > 0);
        assert_eq!(*key, [7; 32]);
    }
}
