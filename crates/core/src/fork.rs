//! Whether this process is still the one that started: a number that changes in the child of a
//! fork. A thread that waits does not exist in the child, and a lock may have been taken by one
//! that does not, so who finds the number changed must touch no lock made before.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static EPOCH: AtomicU32 = AtomicU32::new(0);
static WATCHED: Once = Once::new();

/// The number of forks between the process that first called [`watch`] and this one. Changes only
/// in children, and before `fork` returns there.
pub fn epoch() -> u32 {
    // ORDERING: Relaxed. It changes only while a child has a single thread, inside that
    // thread's own call of `fork`.
    EPOCH.load(Relaxed)
}

/// Starts counting; later calls do nothing. Forks before the first call are not counted.
pub fn watch() {
    WATCHED.call_once(|| {
        // SAFETY: `in_child` may run in any child: it does nothing but an atomic addition, which
        // is async-signal-safe, and it is never unloaded because it is in no library that is.
        let result = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(result, 0, "no memory to watch for forks");
    });
}

unsafe extern "C" fn in_child() {
    // ORDERING: Relaxed, see `epoch`.
    EPOCH.fetch_add(1, Relaxed);
}
