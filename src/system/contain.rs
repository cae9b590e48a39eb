//! A panic that costs one piece of work and not the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; a panic becomes its message (which the standard library's hook has printed as well).
///
/// Whoever calls it answers for what `work` may leave half-changed.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        message.unwrap_or("without a message").to_owned()
    })
}
