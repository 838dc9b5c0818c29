//! What the fork counter promises, with real forks.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::fork::{epoch, watch};

/// Runs `child` in a forked child and returns its exit code.
fn in_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only reads atomics, forks and exits without running destructors.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(child()),
            pid => {
                assert!(pid > 0, "fork failed");
                let mut status = 0;
                assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
                assert!(libc::WIFEXITED(status), "the child was killed: {status}");
                libc::WEXITSTATUS(status)
            }
        }
    }
}

#[test]
fn the_epoch_counts_the_forks_between_and_the_parent_never_notices() {
    watch();
    watch();
    let before = epoch();
    let generations = in_child(|| {
        let child = epoch() - before;
        let grandchild = in_child(|| (epoch() - before) as i32);
        child as i32 * 10 + grandchild
    });
    assert_eq!(generations, 12, "child 1, grandchild 2");
    assert_eq!(epoch(), before);
}
