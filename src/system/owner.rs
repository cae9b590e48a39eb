//! Root acts as the user to whom the state directory belongs: what `sudo familiar enroll` makes is the daemon's to
//! read, and nothing that the daemon's user put there (a link, say) leads root astray.
//!
//! [`become_owner`] changes who this process is, before it touches the state directory. Files that a person names on
//! the command line (photos, passphrases, backups) may be root's own: [`as_invoker`] opens those with root's rights,
//! until [`for_good`] gives them up.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Largest user database that is read, in bytes.
const LIMIT: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    #[error(
        "{} belongs to user {owner}, and root cannot become that user here ({source}): run this as user {owner}",
        .directory.display()
    )]
    Refused { directory: PathBuf, owner: u32, source: std::io::Error },
    #[error(
        "{} belongs to user {owner}, who cannot enter it from here ({}): run this where the daemon runs, by \
         `systemd-run --pipe --wait` with the `User=`, `DynamicUser=` and `StateDirectory=` of its unit",
        .directory.display(), super::disk::told(.directory, .source)
    )]
    Unreachable { directory: PathBuf, owner: u32, source: std::io::Error },
}

/// Whether root's rights can be taken back for a moment.
static INVOKER_IS_ROOT: AtomicBool = AtomicBool::new(false);

/// If this is root and `directory` is somebody else's, becomes that user, with the groups that they have. Root's
/// rights are kept for [`as_invoker`] alone. A directory that is not there belongs to nobody.
///
/// Only this thread and those that it starts change: call it before there is another.
pub fn become_owner(directory: &Path) -> Result<(), OwnerError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Ok(metadata) = std::fs::metadata(directory) else { return Ok(()) };
    let (owner, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    if owner.is_root() {
        return Ok(());
    }
    let user = users().into_iter().find(|user| user.id == owner);
    let name = user.as_ref().map_or_else(|| owner.to_string(), |user| user.name.clone());
    let group = user.as_ref().map_or(group, |user| user.group);
    let groups: Vec<Gid> =
        std::iter::once(group).chain(user.iter().flat_map(|user| groups_of(&user.name))).collect();
    let root = Some(Uid::ROOT);
    set_thread_groups(&groups)
        .and_then(|()| set_thread_res_gid(Some(group), Some(group), Some(Gid::ROOT)))
        .and_then(|()| set_thread_res_uid(Some(owner), Some(owner), root))
        .map_err(|error| OwnerError::Refused {
            directory: directory.to_owned(),
            owner: owner.as_raw(),
            source: error.into(),
        })?;
    INVOKER_IS_ROOT.store(true, Ordering::SeqCst);
    log::debug!("acting as {name}, to whom {} belongs", directory.display());
    std::fs::read_dir(directory).map(drop).map_err(|source| OwnerError::Unreachable {
        directory: directory.to_owned(),
        owner: owner.as_raw(),
        source,
    })
}

/// Does `work`, such as opening a file that a person named, with the rights of whoever started this program.
pub fn as_invoker<T>(work: impl FnOnce() -> T) -> T {
    if !INVOKER_IS_ROOT.load(Ordering::SeqCst) {
        return work();
    }
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let _back = Back { user, group };
    let none_u = None::<Uid>;
    let none_g = None::<Gid>;
    // If it fails, `work` is done with the owner's rights, and says what they do not suffice for.
    let _ = set_thread_res_uid(none_u, Some(Uid::ROOT), none_u)
        .and_then(|()| set_thread_res_gid(none_g, Some(Gid::ROOT), none_g));
    work()
}

/// Gives up root's rights: what follows is the owner's alone.
pub fn for_good() {
    if INVOKER_IS_ROOT.swap(false, Ordering::SeqCst) {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let given_up = set_thread_res_gid(Some(group), Some(group), Some(group))
            .and_then(|()| set_thread_res_uid(Some(user), Some(user), Some(user)));
        if let Err(error) = given_up {
            log::warn!("this process can still become root again: {error}");
        }
    }
}

/// Becomes the owner again, also when the work panics.
struct Back {
    user: Uid,
    group: Gid,
}

impl Drop for Back {
    fn drop(&mut self) {
        let (none_u, none_g) = (None::<Uid>, None::<Gid>);
        let back = set_thread_res_gid(none_g, Some(self.group), none_g)
            .and_then(|()| set_thread_res_uid(none_u, Some(self.user), none_u));
        if let Err(error) = back {
            // Never go on as root by mistake.
            log::error!("cannot become the owner of the state directory again: {error}");
            std::process::exit(1);
        }
    }
}

struct User {
    name: String,
    id: Uid,
    group: Gid,
}

/// The users of this machine, as far as `/etc/passwd` has them (passwd(5)); one that is not there has the group of
/// the directory and no other.
fn users() -> Vec<User> {
    let text = super::bounded::read_text(Path::new("/etc/passwd"), LIMIT).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _password) = (fields.next()?.to_owned(), fields.next()?);
            let id = Uid::from_raw(fields.next()?.parse().ok()?);
            let group = Gid::from_raw(fields.next()?.parse().ok()?);
            Some(User { name, id, group })
        })
        .collect()
}

/// The further groups of a user, such as `video` for the camera (group(5)).
fn groups_of(user: &str) -> Vec<Gid> {
    let text = super::bounded::read_text(Path::new("/etc/group"), LIMIT).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let id = Gid::from_raw(fields.next()?.parse().ok()?);
            fields.next()?.split(',').any(|member| member == user).then_some(id)
        })
        .collect()
}
