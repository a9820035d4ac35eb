//! Giving up the rights of root, once the ports are open.
use crate::config::units::Owner;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Becomes another user, for good. The kernel does this to the calling thread only, and threads that begin later are
/// like it: so no other may have begun yet. The error is one sentence.
pub fn become_user(user: &Owner) -> Result<(), String> {
    let failed = |error: rustix::io::Errno| {
        let error = std::io::Error::from(error);
        format!(
            "--user: this process may not become another user ({error}); start it as root or leave --user out"
        )
    };
    if let Some(group) = user.group {
        let group = Gid::from_raw(group);
        set_thread_groups(&[group]).map_err(failed)?;
        set_thread_res_gid(group, group, group).map_err(failed)?;
    }
    if let Some(user) = user.user {
        let user = Uid::from_raw(user);
        set_thread_res_uid(user, user, user).map_err(failed)?;
    }
    Ok(())
}
