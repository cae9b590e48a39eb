//! A reader who has read enough (`familiar people | head`).

/// Lets a closed pipe end the program in silence, as it ends other Unix programs, instead of a panic in
/// `println!`. Only for programs that hold no connection: for those a broken pipe is an error like others.
pub fn end_quietly() {
    // SAFETY: sets the default action of one signal, before any other thread runs.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
