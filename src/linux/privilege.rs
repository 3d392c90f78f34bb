//! Giving up what a running node no longer needs.

use alloc::format;

use super::error::Error;
use super::sys::{errno, privilege};

/// What [`Privileges::give_up`] leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Privileges {
    /// Become this user and this group, in no other group. Needs `CAP_SETUID` and `CAP_SETGID`.
    /// `None`: stay who we are. Root without capabilities still owns root's files.
    pub user: Option<(u32, u32)>,
    /// Keep `CAP_NET_ADMIN`: what changes interfaces or filters later, or takes them away in the end,
    /// needs it.
    pub net_admin: bool,
}

impl Privileges {
    /// Gives up every capability of this thread and of what it starts, in all sets, but those that
    /// are to be kept; changes the user; and sets `no_new_privs`. There is no way back.
    ///
    /// Call it when devices and sockets are open, which go on working, and before threads are
    /// started: capabilities belong to a thread, and threads inherit them.
    ///
    /// # Errors
    /// The first step that the kernel refused; the earlier ones stay done, so end the process then.
    pub fn give_up(&self) -> Result<(), Error> {
        let failed = |what: &'static str| move |e| Error::new(what, "of this process", e);
        let kept = if self.net_admin { 1 << privilege::CAP_NET_ADMIN } else { 0 };
        for capability in 0..64 {
            if kept & 1 << capability != 0 {
                continue;
            }
            match privilege::drop_bound(capability).map_err(|e| e.raw_os_error()) {
                Ok(()) => {}
                // The first that the kernel does not know; or we may not, and no_new_privs must do.
                Err(Some(errno::EINVAL | errno::EPERM)) => break,
                Err(number) => {
                    let error = std::io::Error::from_raw_os_error(number.unwrap_or(0));
                    return Err(failed("bound the capabilities")(error));
                }
            }
        }
        let had = privilege::capabilities().map_err(failed("read the capabilities"))?;
        // Where nothing is to be kept, nothing need be asked for: systemd's keep-caps-locked refuses it.
        let keeps = self.user.is_some() && kept & had != 0;
        if keeps {
            privilege::keep_capabilities(true).map_err(failed("keep the capabilities"))?;
        }
        if let Some((uid, gid)) = self.user {
            privilege::become_user(uid, gid).map_err(|e| {
                let hint = e.raw_os_error() == Some(errno::EPERM);
                Error::new("become", format!("user {uid}, group {gid}"), e)
                    .hint(hint.then_some("CAP_SETUID and CAP_SETGID are needed"))
            })?;
        }
        // Kernels before 4.3 have no ambient set.
        match privilege::clear_ambient() {
            Err(e) if e.raw_os_error() != Some(errno::EINVAL) => {
                return Err(failed("clear the ambient capabilities")(e));
            }
            _ => {}
        }
        // Nobody gets what he does not have: what is kept is at most what was there.
        privilege::set_capabilities(kept & had).map_err(failed("drop the capabilities"))?;
        if keeps {
            privilege::keep_capabilities(false).map_err(failed("keep no capabilities"))?;
        }
        privilege::no_new_privileges().map_err(failed("set no_new_privs"))
    }

    /// Whether this thread has `CAP_NET_ADMIN` now, over the user namespace that it lives in.
    pub fn has_net_admin() -> bool {
        privilege::capabilities().is_ok_and(|set| set & 1 << privilege::CAP_NET_ADMIN != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capabilities and `no_new_privs` belong to a thread: the others of this process keep theirs.
    #[test]
    fn nothing_is_left() {
        let status = std::thread::spawn(|| {
            Privileges::default().give_up().unwrap();
            assert!(!Privileges::has_net_admin());
            // A second time there is nothing to give up, and that is no error.
            Privileges { net_admin: true, ..Privileges::default() }.give_up().unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        })
        .join()
        .unwrap();
        for (name, want) in [
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
        ] {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            assert_eq!(line.map(str::trim), Some(want), "{name}");
        }
    }

    #[test]
    fn another_user_needs_the_right_to_become_one() {
        let refused = std::thread::spawn(|| {
            Privileges::default().give_up().unwrap();
            Privileges { user: Some((65_534, 65_534)), ..Privileges::default() }.give_up().unwrap_err()
        })
        .join()
        .unwrap();
        assert_eq!(
            refused.to_string(),
            "cannot become user 65534, group 65534: EPERM; CAP_SETUID and CAP_SETGID are needed"
        );
    }
}
