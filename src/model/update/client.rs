//! The client's workflow (TUF specification 1.0, section 5): from the trusted root to a target that may be
//! believed.
//!
//! Each step is kept on the disk before the next begins, so a client that is interrupted goes on from what
//! it had proved. What is on the disk is verified like what comes in: it may be from under other keys.

use std::collections::{BTreeMap, BTreeSet};

use super::fetch::{FetchError, Source};
use super::key::Key;
use super::metadata::{
    MetaFile, MetadataError, Role, RoleKeys, Root, Signed, Snapshot, TargetFile, Targets,
    TimestampRole,
};
use super::release::Release;
use super::store::{Store, StoreError, quote};
use super::time::Now;
use jiff::Timestamp;

use crate::system::clock::{ClockState, Date};

/// Largest files, in bytes, where nothing signed says how large they are.
const ROOT_LIMIT: u64 = 512 * 1024;
const TIMESTAMP_LIMIT: u64 = 16 * 1024;
const SNAPSHOT_LIMIT: u64 = 2_000_000;
const TARGETS_LIMIT: u64 = 5_000_000;
/// Most new roots in one refresh.
const ROOTS: u64 = 256;
/// Most delegated roles that are looked at for one target.
const DELEGATIONS: usize = 32;

/// Why the repository is not believed, or not to be had.
#[derive(Debug, thiserror::Error)]
pub enum TufError {
    #[error("there is no trusted root in {0}")]
    NoRoot(String),
    #[error("{role}: {source}")]
    Metadata { role: String, source: MetadataError },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the repository lists no {0:?}")]
    NoTarget(String),
}

/// Under which keys somebody lets a role speak.
type Delegator = (RoleKeys, BTreeMap<String, Key>);

/// A refreshed view of a repository.
#[derive(Debug)]
pub struct Client {
    store: Store,
    /// `None`: nothing is fetched.
    metadata: Option<Source>,
    now: Now,
    root: Signed<Root>,
    snapshot: Signed<Snapshot>,
    /// By role name; `targets` is always there.
    targets: BTreeMap<String, Signed<Targets>>,
}

impl Client {
    /// Brings the trusted metadata in `store`, which holds a trusted root, up to date.
    pub fn refresh(store: Store, metadata: Source, date: Date) -> Result<Self, TufError> {
        let last_good = store.time()?;
        let now = Now::new(date, last_good);
        let root = refresh_root(&store, &metadata)?;
        root.check_expiry(now.time).map_err(of("root"))?;
        let timestamp = refresh_timestamp(&store, &metadata, &root, now)?;
        let snapshot = refresh_snapshot(&store, &metadata, &root, &timestamp, now)?;
        let metadata = Some(metadata);
        let mut client = Self { store, metadata, now, root, snapshot, targets: BTreeMap::new() };
        let (role, keys) = {
            let root = &client.root.signed;
            (root.roles.targets.clone(), root.keys.clone())
        };
        client.load_targets("targets", &role, &keys)?;
        // All of it was valid at this time, so this time is no later than the truth by much.
        if date.state == ClockState::Synchronized && last_good.is_none_or(|last| last < date.time) {
            client.store.write_time(date.time)?;
        }
        Ok(client)
    }

    /// The repository as it was when it was last refreshed; `None` if it never was. Nothing is fetched, and it may
    /// have expired.
    pub fn last_seen(store: Store) -> Result<Option<Self>, TufError> {
        let root = kept_root(&store)?;
        let Some(bytes) = store.read("snapshot")? else { return Ok(None) };
        let snapshot = Signed::<Snapshot>::parse(bytes).map_err(of("snapshot"))?;
        let (role, keys) = (root.signed.roles.targets.clone(), root.signed.keys.clone());
        snapshot.check(&root.signed.roles.snapshot, &keys).map_err(of("snapshot"))?;
        let now = Now::at(Timestamp::MIN);
        let mut client =
            Self { store, metadata: None, now, root, snapshot, targets: BTreeMap::new() };
        client.load_targets("targets", &role, &keys)?;
        Ok(Some(client))
    }

    /// The time that all was judged by.
    pub fn now(&self) -> Now {
        self.now
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The bundles that the repository lists, each as the role that may speak for it describes it.
    pub fn releases(&mut self) -> Result<Vec<Release>, TufError> {
        let mut paths = BTreeSet::new();
        let (mut visited, mut waiting) = (BTreeSet::new(), vec!["targets".to_owned()]);
        while let Some(name) = waiting.pop() {
            if visited.len() > DELEGATIONS || !visited.insert(name.clone()) {
                continue;
            }
            let Some(targets) = self.targets.get(&name) else { continue };
            paths.extend(targets.signed.targets.keys().cloned());
            let Some(delegations) = targets.signed.delegations.clone() else { continue };
            for delegation in delegations.roles {
                // A role that does not hold lists nothing, and is no reason to miss what others list.
                match self.load_targets(&delegation.name, &delegation.keys, &delegations.keys) {
                    Ok(()) => waiting.push(delegation.name),
                    Err(error) => log::warn!("the repository's {}: {error}", delegation.name),
                }
            }
        }
        let mut releases = Vec::new();
        for path in paths {
            match self.target(&path) {
                Ok(target) => releases.extend(Release::of(&path, &target)),
                // Listed by a role that may not speak for it, or under one that does not hold.
                Err(error) => log::debug!("{path:?} is passed over: {error}"),
            }
        }
        Ok(releases)
    }

    /// What the repository says of a target: asks the roles that may speak for it in their order, depth first.
    pub fn target(&mut self, path: &str) -> Result<TargetFile, TufError> {
        let mut visited = BTreeSet::new();
        let mut waiting: Vec<(String, Option<Delegator>)> = vec![("targets".to_owned(), None)];
        while let Some((name, keys)) = waiting.pop() {
            if visited.len() > DELEGATIONS || !visited.insert(name.clone()) {
                continue;
            }
            if let Some((role, keys)) = keys {
                self.load_targets(&name, &role, &keys)?;
            }
            let Some(targets) = self.targets.get(&name) else { continue };
            if let Some(file) = targets.signed.targets.get(path) {
                return Ok(file.clone());
            }
            let Some(delegations) = &targets.signed.delegations else { continue };
            let mut children = Vec::new();
            for delegation in delegations.roles.iter().filter(|role| role.covers(path)) {
                let keys = (delegation.keys.clone(), delegations.keys.clone());
                children.push((delegation.name.clone(), Some(keys)));
                if delegation.terminating {
                    // Nobody after it is asked, here or above.
                    waiting.clear();
                    break;
                }
            }
            waiting.extend(children.into_iter().rev());
        }
        Err(TufError::NoTarget(path.to_owned()))
    }

    /// Where a target lies below the repository's `targets/`, by one of its digests where the root says so.
    pub fn location(&self, path: &str, file: &TargetFile) -> String {
        let mut parts: Vec<String> = path.split('/').map(quote).collect();
        let known = ["sha256", "sha512"].into_iter().find_map(|name| file.hashes.get(name));
        if self.root.signed.consistent_snapshot
            && let (Some(last), Some(hash)) = (parts.last_mut(), known)
        {
            *last = format!("{}.{last}", quote(hash));
        }
        parts.join("/")
    }

    /// Loads a targets role under the keys of whoever speaks for it.
    fn load_targets(
        &mut self,
        name: &str,
        role: &RoleKeys,
        keys: &BTreeMap<String, Key>,
    ) -> Result<(), TufError> {
        if let Some(loaded) = self.targets.get(name) {
            // Each who delegates to a role does so to keys of its own choice.
            return loaded.check(role, keys).map_err(of(name));
        }
        let wanted = self.snapshot.signed.role(name).map_err(of("snapshot"))?.clone();
        let check = |bytes: Vec<u8>| {
            let targets = parse_meant::<Targets>(bytes, &wanted)?;
            targets.check(role, keys)?;
            targets.check_version(wanted.version)?;
            targets.check_expiry(self.now.time)?;
            Ok::<_, MetadataError>(targets)
        };
        let kept = self.store.read(name)?.and_then(|bytes| check(bytes).ok());
        let targets = if let Some(kept) = kept {
            kept
        } else {
            let file = self.file(name, wanted.version);
            let Some(metadata) = &self.metadata else {
                return Err(of(name)(MetadataError::Unnamed("itself in what was kept".to_owned())));
            };
            let bytes = metadata.read(&file, wanted.length.unwrap_or(TARGETS_LIMIT))?;
            let targets = check(bytes).map_err(of(name))?;
            self.store.write(name, &targets.bytes)?;
            targets
        };
        self.targets.insert(name.to_owned(), targets);
        Ok(())
    }

    fn file(&self, name: &str, version: u64) -> String {
        versioned(&self.root, name, version)
    }
}

fn versioned(root: &Signed<Root>, name: &str, version: u64) -> String {
    let name = quote(name);
    if root.signed.consistent_snapshot {
        format!("{version}.{name}.json")
    } else {
        format!("{name}.json")
    }
}

fn of(role: &str) -> impl Fn(MetadataError) -> TufError {
    move |source| TufError::Metadata { role: role.to_owned(), source }
}

/// 5.3: from root to root, each signed by the one before and by itself.
fn refresh_root(store: &Store, metadata: &Source) -> Result<Signed<Root>, TufError> {
    let mut root = kept_root(store)?;
    for _ in 0..ROOTS {
        let wanted = root.version() + 1;
        let bytes = match metadata.read(&format!("{wanted}.root.json"), ROOT_LIMIT) {
            Err(FetchError::Missing { .. }) => break,
            bytes => bytes?,
        };
        let check = |bytes| {
            let next = Signed::<Root>::parse(bytes)?;
            next.check(&root.signed.roles.root, &root.signed.keys)?;
            check_self(&next)?;
            next.check_version(wanted)?;
            Ok(next)
        };
        let next = check(bytes).map_err(of("root"))?;
        store.write("root", &next.bytes)?;
        root = next;
    }
    Ok(root)
}

fn kept_root(store: &Store) -> Result<Signed<Root>, TufError> {
    let root = store.read("root")?;
    let bytes = root.ok_or_else(|| TufError::NoRoot(store.path().display().to_string()))?;
    let root = Signed::<Root>::parse(bytes).map_err(of("trusted root"))?;
    check_self(&root).map_err(of("trusted root"))?;
    Ok(root)
}

fn check_self(root: &Signed<Root>) -> Result<(), MetadataError> {
    root.check(&root.signed.roles.root, &root.signed.keys)
}

/// 5.4
fn refresh_timestamp(
    store: &Store,
    metadata: &Source,
    root: &Signed<Root>,
    now: Now,
) -> Result<Signed<TimestampRole>, TufError> {
    let (role, keys) = (&root.signed.roles.timestamp, &root.signed.keys);
    let parse = |bytes| {
        let timestamp = Signed::<TimestampRole>::parse(bytes)?;
        timestamp.check(role, keys)?;
        timestamp.signed.snapshot()?;
        Ok::<_, MetadataError>(timestamp)
    };
    let kept = store.read("timestamp")?.and_then(|bytes| parse(bytes).ok());
    let bytes = metadata.read("timestamp.json", TIMESTAMP_LIMIT)?;
    let judge = || {
        let new = parse(bytes)?;
        let Some(kept) = kept else {
            return new.check_expiry(now.time).map(|()| (new, true));
        };
        let (found, trusted) = (new.version(), kept.version());
        if found < trusted {
            return Err(MetadataError::Rollback { found, trusted });
        }
        if found == trusted {
            // The same version is the same file, whatever else is in what came.
            return kept.check_expiry(now.time).map(|()| (kept, false));
        }
        if new.signed.snapshot()?.version < kept.signed.snapshot()?.version {
            return Err(MetadataError::RoleRollback { role: "snapshot".to_owned() });
        }
        new.check_expiry(now.time).map(|()| (new, true))
    };
    let (timestamp, is_new) = judge().map_err(of("timestamp"))?;
    if is_new {
        store.write("timestamp", &timestamp.bytes)?;
    }
    Ok(timestamp)
}

/// 5.5
fn refresh_snapshot(
    store: &Store,
    metadata: &Source,
    root: &Signed<Root>,
    timestamp: &Signed<TimestampRole>,
    now: Now,
) -> Result<Signed<Snapshot>, TufError> {
    let wanted = timestamp.signed.snapshot().map_err(of("timestamp"))?;
    let (role, keys) = (&root.signed.roles.snapshot, &root.signed.keys);
    // Valid once, whatever has come since: what it listed binds the next.
    let kept = store.read("snapshot")?.and_then(|bytes| {
        let kept = Signed::<Snapshot>::parse(bytes).ok()?;
        kept.check(role, keys).ok().map(|()| kept)
    });
    if let Some(kept) = &kept
        && wanted.check(&kept.bytes).is_ok()
        && kept.check_version(wanted.version).is_ok()
        && kept.check_expiry(now.time).is_ok()
    {
        return Ok(kept.clone());
    }
    let file = versioned(root, "snapshot", wanted.version);
    let bytes = metadata.read(&file, wanted.length.unwrap_or(SNAPSHOT_LIMIT))?;
    let judge = || {
        let new = parse_meant::<Snapshot>(bytes, wanted)?;
        new.check(role, keys)?;
        new.check_version(wanted.version)?;
        for (role, before) in kept.iter().flat_map(|kept| &kept.signed.meta) {
            if new.signed.meta.get(role).is_none_or(|now| now.version < before.version) {
                return Err(MetadataError::RoleRollback { role: role.clone() });
            }
        }
        new.check_expiry(now.time)?;
        Ok(new)
    };
    let new = judge().map_err(of("snapshot"))?;
    store.write("snapshot", &new.bytes)?;
    Ok(new)
}

/// Digest and length first: then only what was meant is parsed.
fn parse_meant<T: Role>(bytes: Vec<u8>, meant: &MetaFile) -> Result<Signed<T>, MetadataError> {
    meant.check(&bytes)?;
    Signed::parse(bytes)
}
