//! What signals ask for: SIGTERM and SIGINT to stop, SIGHUP to read the configuration again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// The signals that came. A second request to stop ends the program at once.
#[derive(Debug, Clone)]
pub struct Signals(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    stop: AtomicBool,
    reload: AtomicBool,
}

impl Signals {
    /// Begins to watch for the signals, on a thread of its own.
    pub fn watch() -> std::io::Result<Self> {
        let signals = Self(Arc::default());
        let flags = signals.0.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut terminate, mut interrupt, mut hangup) = {
            let _context = runtime.enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                        _ = hangup.recv() => {
                            flags.reload.store(true, Ordering::SeqCst);
                            continue;
                        }
                    }
                    if flags.stop.swap(true, Ordering::SeqCst) {
                        std::process::exit(1);
                    }
                }
            });
        })?;
        Ok(signals)
    }

    pub fn stop_requested(&self) -> bool {
        self.0.stop.load(Ordering::SeqCst)
    }

    /// Whether to read the configuration again; asking takes the request.
    pub fn take_reload(&self) -> bool {
        self.0.reload.swap(false, Ordering::SeqCst)
    }
}
