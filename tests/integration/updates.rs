//! Updates out of a repository that python-tuf made (`tools/repository.py`), and attacks on them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::slots::{Site, said};
use crate::support::bundle::{Curve, TestKey};
use crate::support::files::{Fault, FileServer};
use crate::support::judge;
use crate::support::mosquitto::{Mosquitto, Subscriber, wait};

/// A device and its publisher.
pub struct Fleet {
    pub site: Site,
    test: &'static str,
    pub factory: String,
}

impl Fleet {
    pub fn new(test: &'static str) -> Option<Self> {
        Self::of(test, Site::new())
    }

    pub fn of(test: &'static str, site: Site) -> Option<Self> {
        judge::python(test)?;
        site.home.enroll("Ada", "P001");
        let fleet = Self { factory: site.boots().0, site, test };
        fleet.tool(&["create"]);
        std::fs::copy(fleet.path("metadata/1.root.json"), fleet.site.home.path("root.json"))
            .unwrap();
        fleet.take_from(fleet.path("").to_str().unwrap(), "");
        Some(fleet)
    }

    pub fn take_from(&self, repository: &str, more: &str) {
        self.site.configure(&format!("[update]\nrepository = {repository:?}\n{more}"));
    }

    /// In the repository.
    pub fn path(&self, name: &str) -> PathBuf {
        self.site.home.path("repository").join(name)
    }

    pub fn tool(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/repository.py");
        let mut python = judge::python(self.test).unwrap();
        python.arg("-B").arg(script).arg(self.path("")).arg(self.site.home.path("keys"));
        let output = python.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }

    /// Does something with `repo`, the tool's view of the repository.
    fn python(&self, program: &str) {
        let head = "import sys; from pathlib import Path\n\
            sys.path.insert(0, sys.argv[1]); import repository as tool\n\
            repo = tool.Repository(Path(sys.argv[2]), tool.Keys(Path(sys.argv[3])))\n";
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
        let mut python = judge::python(self.test).unwrap();
        python.args(["-B", "-c", &format!("{head}{program}")]).arg(tools);
        let output = python.arg(self.path("")).arg(self.site.home.path("keys")).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Publishes the factory's bundle as another version.
    pub fn add(&self, version: &str, more: &[&str]) {
        let folder = self.site.publish(version, "format = 1", "format = 1");
        self.tool(&[&["add", folder.to_str().unwrap()], more].concat());
    }

    fn update(&self) -> Output {
        // A test machine's clock may be synchronised or not.
        self.site.familiar(&["model", "update", "--json", "--unsynchronized"])
    }

    fn updates_to(&self, version: &str) {
        let output = self.update();
        assert!(output.status.success(), "{}", said(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["installed"], true, "{report}");
        assert_eq!(self.site.run().0, version);
        assert_eq!(self.site.boots(), (version.to_owned(), "confirmed".to_owned()));
    }

    fn finds_nothing(&self) {
        let output = self.update();
        assert!(output.status.success(), "{}", said(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["installed"], false, "{report}");
    }

    /// Refused with that exit code, for that reason, and what boots is what booted.
    fn refuses(&self, code: i32, why: &str) {
        let before = self.site.boots();
        let output = self.update();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(said(&output).contains(why), "{}", said(&output));
        assert_eq!(self.site.boots(), before);
    }

    fn metadata(&self) -> PathBuf {
        self.path("metadata")
    }

    /// The file in the repository whose name ends so.
    fn file(&self, folder: &str, end: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.to_str().unwrap().ends_with(end));
        assert_eq!(paths.len(), 1, "{end}");
        paths.remove(0)
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

pub fn press(port: u16) {
    let port = port.to_string();
    let topic = "familiar/porch/set/update";
    let status = std::process::Command::new("mosquitto_pub")
        .args(["-p", &port, "-q", "1", "-t", topic, "-m", "PRESS"])
        .status();
    assert!(status.unwrap().success());
}

fn copy_all(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    crate::support::home::copy(from, to);
}

#[test]
fn update_from_a_folder_is_installed_run_and_confirmed() {
    let Some(fleet) = Fleet::new("update_from_a_folder_is_installed_run_and_confirmed") else {
        return;
    };
    fleet.finds_nothing();
    fleet.add("7.1.0", &[]);
    fleet.updates_to("7.1.0");
    fleet.finds_nothing();
    for role in ["timestamp", "snapshot", "targets", "root"] {
        fleet.tool(&["rotate", role]);
        fleet.finds_nothing();
    }
    fleet.add("7.2.0", &[]);
    fleet.updates_to("7.2.0");
    // What was downloaded is not kept beside what was installed.
    let left = std::fs::read_dir(fleet.site.home.path("state/update")).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_str().unwrap().contains(".tar")), "{names:?}");
}

/// Holds UPD-22, UPD-36.
#[test]
fn halted_wave_and_rollback_to_what_is_withdrawn() {
    let Some(fleet) = Fleet::new("halted_wave_and_rollback_to_what_is_withdrawn") else { return };
    fleet.add("7.1.0", &["--percent", "0"]);
    fleet.finds_nothing();
    fleet.tool(&["rollout", "small-7.1.0.tar", "--percent", "100"]);
    fleet.updates_to("7.1.0");
    fleet.add("7.2.0", &[]);
    fleet.updates_to("7.2.0");

    fleet.tool(&["withdraw", "small-7.1.0.tar"]);
    fleet.finds_nothing();
    let back = fleet.site.familiar(&["model", "rollback"]);
    assert_eq!(back.status.code(), Some(3), "{back:?}");
    assert!(said(&back).contains("does not list"), "{}", said(&back));
    assert_eq!(fleet.site.boots().0, "7.2.0");
    let folder = fleet.site.home.path("7.1.0");
    fleet.tool(&["add", folder.to_str().unwrap()]);
    fleet.finds_nothing();
    assert!(fleet.site.familiar(&["model", "rollback"]).status.success());
    assert_eq!(fleet.site.boots().0, "7.1.0");
    // And is not updated back to what an operator left.
    fleet.refuses(3, "an operator went back from it");
}

/// Holds UPD-38.
#[test]
fn wave_for_one_group() {
    let Some(fleet) = Fleet::new("wave_for_one_group") else { return };
    let repository = fleet.path("");
    let join = |groups: &str| fleet.take_from(repository.to_str().unwrap(), groups);
    fleet.add("7.1.0", &["--group", "east", "--group", "pilot"]);
    fleet.finds_nothing();
    join("groups = [\"west\"]\n");
    fleet.finds_nothing();
    join("groups = [\"west\", \"pilot\"]\n");
    fleet.updates_to("7.1.0");
    // The wave is moved to another group, then widened to all.
    fleet.add("7.2.0", &["--group", "east"]);
    fleet.finds_nothing();
    fleet.tool(&["rollout", "small-7.2.0.tar", "--group", "north"]);
    fleet.finds_nothing();
    fleet.tool(&["rollout", "small-7.2.0.tar", "--all-groups"]);
    fleet.updates_to("7.2.0");
    // A condition that this version does not know is one that it cannot keep.
    fleet.add("7.3.0", &[]);
    fleet.python(
        "targets = repo.newest('targets')\n\
         custom = targets.signed.targets['small-7.3.0.tar'].unrecognized_fields['custom']\n\
         custom['familiar']['rollout'] = {'regions': ['west']}\n\
         repo.publish_targets(targets)\n",
    );
    fleet.finds_nothing();
}

/// Holds UPD-30.
#[test]
fn repository_that_was_turned_back() {
    let Some(fleet) = Fleet::new("repository_that_was_turned_back") else { return };
    fleet.add("7.1.0", &[]);
    let old = fleet.site.home.path("old");
    copy_all(&fleet.metadata(), &old);
    fleet.add("7.2.0", &[]);
    fleet.updates_to("7.2.0");
    copy_all(&old, &fleet.metadata());
    fleet.refuses(3, "was trusted before");
}

/// Holds UPD-30.
#[test]
fn mixed_and_matched_metadata() {
    let Some(fleet) = Fleet::new("mixed_and_matched_metadata") else { return };
    fleet.add("7.1.0", &[]);
    let old = std::fs::read(fleet.metadata().join("2.snapshot.json")).unwrap();
    fleet.add("7.2.0", &[]);
    std::fs::write(fleet.metadata().join("3.snapshot.json"), old).unwrap();
    fleet.refuses(3, "snapshot: it is version 2, not 3");
}

/// Holds UPD-30.
#[test]
fn expired_repository() {
    let Some(fleet) = Fleet::new("expired_repository") else { return };
    fleet.add("7.1.0", &["--days", "-1"]);
    // An unsynchronised clock of the test machine is right all the same.
    fleet.refuses(3, "expired");
    fleet.tool(&["renew"]);
    fleet.updates_to("7.1.0");
}

/// Holds UPD-30.
#[test]
fn clock_set_back_does_not_bring_expired_metadata_to_life() {
    use familiar::model::update::client::{Client, TufError};
    use familiar::model::update::fetch::Source;
    use familiar::model::update::store::Store;
    use familiar::system::clock::{ClockState, Date};
    let test = "clock_set_back_does_not_bring_expired_metadata_to_life";
    let Some(fleet) = Fleet::new(test) else { return };
    let folder = fleet.site.home.path("trusted");
    let refresh = |time: jiff::Timestamp, state: ClockState| {
        let source = Source::new(fleet.metadata().to_str().unwrap()).unwrap();
        Client::refresh(Store::open(&folder).unwrap(), source, Date { time, state })
    };
    let store = Store::open(&folder).unwrap();
    store.write("root", &std::fs::read(fleet.metadata().join("1.root.json")).unwrap()).unwrap();
    let now = jiff::Timestamp::now();
    let days = |count: i64| jiff::SignedDuration::from_hours(24 * count);
    let synchronized = ClockState::Synchronized;

    // A device of 1970 is not locked out, but knows that it cannot know.
    let of_1970 = refresh(jiff::Timestamp::UNIX_EPOCH, ClockState::Unsynchronized).unwrap();
    assert!(!of_1970.now().is_certain());
    assert_eq!(store.time().unwrap(), None, "a time that nobody vouches for is not kept");
    // The true time, six days on: the timestamp of seven days still holds, and this is remembered.
    fleet.tool(&["renew", "--days", "9"]);
    assert!(refresh(now + days(8), synchronized).unwrap().now().is_certain());
    // Now the repository is frozen at a state that ends before, and the clock is set back to hide that.
    fleet.tool(&["renew", "--days", "5"]);
    for (back, state) in
        [(now, synchronized), (jiff::Timestamp::UNIX_EPOCH, ClockState::Unsynchronized)]
    {
        let frozen = refresh(back, state);
        assert!(matches!(frozen, Err(TufError::Metadata { .. })), "{frozen:?}");
    }
    // A clock that once was far ahead, and could refresh nothing, has locked nobody out.
    assert!(refresh(now + days(400), synchronized).is_err());
    fleet.tool(&["renew", "--days", "20"]);
    assert!(refresh(now + days(8), synchronized).is_ok());
}

/// Holds UPD-30.
#[test]
fn tampered_archive() {
    let Some(fleet) = Fleet::new("tampered_archive") else { return };
    fleet.add("7.1.0", &[]);
    let archive = fleet.file("targets", "7.1.0.tar");
    flip(&archive);
    fleet.refuses(3, "digest");
    flip(&archive);
    let sound = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &sound[..sound.len() - 512]).unwrap();
    fleet.refuses(3, "length");
    std::fs::write(&archive, [sound.as_slice(), &[0; 512]].concat()).unwrap();
    fleet.refuses(5, "larger than");
    std::fs::write(&archive, &sound).unwrap();
    fleet.updates_to("7.1.0");
}

/// Holds UPD-30.
#[test]
fn metadata_under_a_strangers_keys() {
    let Some(fleet) = Fleet::new("metadata_under_a_strangers_keys") else { return };
    let Some(stranger) = Fleet::new("metadata_under_a_strangers_keys") else { return };
    stranger.add("7.1.0", &[]);
    fleet.take_from(stranger.path("").to_str().unwrap(), "");
    fleet.refuses(3, "of the 1 signatures that are needed hold");
    // Nor a root that the trusted one did not sign.
    stranger.tool(&["rotate", "root"]);
    fleet.refuses(3, "root: 0 of the 1");
}

/// The second, independent signature: who has the repository has not the models.
/// Holds UPD-30.
#[test]
fn bundle_of_a_stranger_in_a_sound_repository() {
    let Some(fleet) = Fleet::new("bundle_of_a_stranger_in_a_sound_repository") else { return };
    let key = TestKey::new(Curve::P256);
    let folder = fleet.site.publish("7.1.0", "format = 1", "format = 1");
    let pem = fleet.site.home.path("stranger.pem");
    key.write(&pem);
    let sign = ["model", "sign", folder.to_str().unwrap(), "--key", pem.to_str().unwrap()];
    assert!(fleet.site.familiar(&sign).status.success());
    fleet.tool(&["add", folder.to_str().unwrap()]);
    fleet.refuses(3, "model.sig");
}

/// A role may speak for the paths that were given to it, and for no others.
/// Holds UPD-30.
#[test]
fn delegated_role_beyond_its_paths() {
    let Some(fleet) = Fleet::new("delegated_role_beyond_its_paths") else { return };
    // Both bundles go from the top role to one that may list those of 7.1 alone.
    fleet.add("7.1.0", &[]);
    fleet.add("7.2.0", &[]);
    fleet.python(
        "from tuf.api.metadata import *\n\
         targets = repo.newest('targets')\n\
         signer, temporary, path = repo.keys.make('release')\n\
         release = Metadata(Targets(expires=repo.expires('targets')))\n\
         release.signed.targets = dict(targets.signed.targets)\n\
         targets.signed.targets.clear()\n\
         role = DelegatedRole('release', [], 1, True, paths=['small-7.1.*'])\n\
         targets.signed.delegations = Delegations({}, {'release': role})\n\
         targets.signed.add_key(signer.public_key, 'release')\n\
         repo.write('release', release, [signer])\n\
         snapshot = repo.newest('snapshot')\n\
         snapshot.signed.meta['release.json'] = MetaFile(1)\n\
         repo.write('snapshot', snapshot, [repo.keys.signer('snapshot')])\n\
         repo.publish_targets(targets)\n",
    );
    fleet.updates_to("7.1.0");
    fleet.finds_nothing();
    // What the device goes back to by is what it last saw, delegated roles as well.
    fleet.python(
        "targets = repo.newest('targets')\n\
         targets.signed.delegations.roles['release'].paths = ['small-7.?.?.tar']\n\
         repo.publish_targets(targets)\n",
    );
    fleet.updates_to("7.2.0");
    assert!(fleet.site.familiar(&["model", "rollback"]).status.success());
    assert_eq!(fleet.site.boots().0, "7.1.0");
}

/// Holds UPD-30.
#[test]
fn another_bundle_than_the_one_listed() {
    let Some(fleet) = Fleet::new("another_bundle_than_the_one_listed") else { return };
    fleet.add("7.1.0", &[]);
    // Listed as 7.2.0, with the archive of 7.1.0 in it.
    fleet.python(
        "targets = repo.newest('targets')\n\
         for target in targets.signed.targets.values():\n\
         \x20   target.unrecognized_fields['custom']['familiar']['version'] = '7.2.0'\n\
         repo.publish_targets(targets)\n",
    );
    fleet.refuses(3, "not what the repository says");
}

/// Holds UPD-32.
#[test]
fn model_that_fails_its_self_test_is_not_fetched_twice() {
    let test = "model_that_fails_its_self_test_is_not_fetched_twice";
    let Some(fleet) = Fleet::new(test) else { return };
    let server = FileServer::start(&fleet.path(""));
    fleet.take_from(&server.address(), "");
    let mean = "mean = [127.5, 127.5, 127.5]";
    let folder = fleet.site.publish("7.1.0", mean, "mean = [90.0, 127.5, 127.5]");
    fleet.tool(&["add", folder.to_str().unwrap()]);
    fleet.refuses(3, "self-test");
    assert_eq!(server.sent(".tar").len(), 1);
    fleet.refuses(3, "refused on this device before");
    assert_eq!(server.sent(".tar").len(), 1);
    fleet.add("7.1.1", &[]);
    fleet.updates_to("7.1.1");
}

/// Holds UPD-35.
#[test]
fn interrupted_download_is_gone_on_from() {
    let Some(fleet) = Fleet::new("interrupted_download_is_gone_on_from") else { return };
    let server = FileServer::start(&fleet.path(""));
    fleet.take_from(&server.address(), "");
    fleet.add("7.1.0", &[]);
    let length = std::fs::metadata(fleet.file("targets", ".tar")).unwrap().len() as usize;
    let part = length / 3;
    server.misbehave(".tar", Fault::CutAfter(part));
    fleet.refuses(5, "small-7.1.0.tar");
    fleet.refuses(5, "small-7.1.0.tar");
    server.behave();
    fleet.updates_to("7.1.0");
    let sent = server.sent(".tar");
    assert_eq!(sent, [(0, part), (part, part), (2 * part, length - 2 * part)]);
    // From a server that cannot resume it comes whole.
    fleet.add("7.2.0", &[]);
    server.misbehave(".tar", Fault::CutAfter(part));
    fleet.refuses(5, "small-7.2.0.tar");
    server.misbehave(".tar", Fault::NoRanges);
    fleet.updates_to("7.2.0");
}

/// Holds UPD-31.
#[test]
fn endless_data() {
    let Some(fleet) = Fleet::new("endless_data") else { return };
    let server = FileServer::start(&fleet.path(""));
    fleet.take_from(&server.address(), "");
    fleet.add("7.1.0", &[]);
    for file in ["timestamp.json", "2.root.json", "2.snapshot.json", "2.targets.json", ".tar"] {
        if file == "2.root.json" {
            std::fs::write(fleet.metadata().join(file), "{").unwrap();
        }
        server.misbehave(file, Fault::Endless);
        fleet.refuses(5, "larger than");
        server.behave();
        if file == "2.root.json" {
            std::fs::remove_file(fleet.metadata().join(file)).unwrap();
        }
        let sent: usize = server.sent(file).iter().map(|(_, sent)| *sent).max().unwrap();
        assert!(sent < 64 << 20, "{file}: {sent}");
    }
    fleet.updates_to("7.1.0");
}

/// Gives a byte now and then, or nothing at all.
fn trickling(every: Option<Duration>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
            let Some(every) = every else {
                std::thread::sleep(Duration::from_mins(1));
                continue;
            };
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(every);
            }
        }
    });
    address
}

/// Holds UPD-40.
#[test]
fn server_that_trickles() {
    use familiar::model::update::fetch::{FetchError, Limits, Source};
    let limits = Limits {
        answer: Duration::from_secs(20),
        grace: Duration::from_millis(300),
        slowest: 1000,
        body: Duration::from_secs(20),
    };
    // At a hundred bytes a second it is patient for as long as it was told to be, and no longer.
    let source = Source::with(&trickling(Some(Duration::from_millis(10))), None, limits).unwrap();
    let slow = source.read("x.tar", 1 << 20);
    assert!(matches!(slow, Err(FetchError::TooSlow { slowest: 1000, .. })), "{slow:?}");
    // One that falls silent after its headers.
    let limits = Limits { body: Duration::from_millis(300), ..limits };
    let silent = Source::with(&trickling(None), None, limits).unwrap().read("x.tar", 1 << 20);
    assert!(
        matches!(silent, Err(FetchError::TooSlow { .. } | FetchError::Failed { .. })),
        "{silent:?}"
    );
}

/// A server that gives a byte now and then holds nobody for long, and what came is kept.
/// Holds UPD-31.
#[test]
fn trickled_metadata_and_archive() {
    use familiar::model::update::client::{Client, TufError};
    use familiar::model::update::download::{DownloadError, download, part_of};
    use familiar::model::update::fetch::{FetchError, Limits, Source};
    use familiar::model::update::store::Store;
    use familiar::system::clock::Date;
    let Some(fleet) = Fleet::new("trickled_metadata_and_archive") else { return };
    fleet.add("7.1.0", &[]);
    let server = FileServer::start(&fleet.path(""));
    let limits =
        Limits { grace: Duration::from_millis(300), slowest: 1 << 20, ..Limits::default() };
    let source = Source::with(&server.address(), None, limits).unwrap();
    let store = || {
        let store = Store::open(&fleet.site.home.path("trusted")).unwrap();
        let root = std::fs::read(fleet.metadata().join("1.root.json")).unwrap();
        store.write("root", &root).unwrap();
        store
    };
    for file in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        server.misbehave(file, Fault::Trickle);
        let slow = Client::refresh(store(), source.below("metadata"), Date::now());
        assert!(matches!(slow, Err(TufError::Fetch(FetchError::TooSlow { .. }))), "{slow:?}");
    }
    server.misbehave(".tar", Fault::Trickle);
    let mut client = Client::refresh(store(), source.below("metadata"), Date::now()).unwrap();
    let release = client.releases().unwrap().remove(0);
    let (path, location) =
        (fleet.site.home.path("archive"), client.location(&release.path, &release.target));
    let fetch = || {
        download(&source.below("targets"), &location, &release.target, 1 << 30, &path, &mut |_| ())
    };
    let slow = fetch();
    assert!(matches!(slow, Err(DownloadError::Fetch(FetchError::TooSlow { .. }))), "{slow:?}");
    let came = std::fs::metadata(part_of(&path)).unwrap().len();
    assert!(came > 0 && !path.exists(), "{came}");
    server.behave();
    fetch().unwrap();
    // The server notes what it sent when the connection has ended.
    wait("a download that went on from there", || {
        server.sent(".tar").iter().any(|(from, _)| *from as u64 == came)
    });
}

/// A web server with a certificate of its own authority.
struct Https {
    server: std::process::Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Https {
    fn start(test: &str, served: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let mut openssl = std::process::Command::new("openssl");
            let output = openssl.args(arguments.split(' ')).current_dir(folder.path()).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{}", said(&output));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        for ca in ["ca", "other"] {
            openssl(&format!(
                "req -x509 {key} -keyout {ca}.key -out {ca}.pem -days 2 -subj /CN={ca}"
            ));
        }
        openssl(&format!("req {key} -keyout s.key -out s.csr -subj /CN=localhost"));
        openssl(
            "x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem -days 2 -extfile names",
        );
        let program = "import functools, http.server, ssl, sys\n\
            handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])\n\
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n\
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            context.load_cert_chain('s.pem', 's.key')\n\
            server.socket = context.wrap_socket(server.socket, server_side=True)\n\
            print(server.server_address[1], flush=True)\n\
            server.serve_forever()\n";
        let mut server = judge::python(test)?
            .args(["-c", program])
            .arg(served)
            .current_dir(folder.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Some(Self { server, port: line.trim().parse().unwrap(), folder })
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Holds UPD-39.
#[test]
fn update_over_https_from_a_known_authority_alone() {
    let test = "update_over_https_from_a_known_authority_alone";
    let Some(fleet) = Fleet::new(test) else { return };
    let Some(server) = Https::start(test, &fleet.path("")) else { return };
    fleet.add("7.1.0", &[]);
    let address = |name: &str| format!("https://{name}:{}", server.port);
    let by = |ca: &str| format!("ca = {:?}\n", server.folder.path().join(ca));
    // The system's authorities do not know this one.
    fleet.take_from(&address("localhost"), "");
    fleet.refuses(5, "certificate");
    fleet.take_from(&address("localhost"), &by("other.pem"));
    fleet.refuses(5, "certificate");
    // The right authority, and another name.
    fleet.take_from(&address("127.0.0.1"), &by("ca.pem"));
    fleet.refuses(5, "certificate");
    fleet.take_from(&address("localhost"), &by("s.key"));
    fleet.refuses(2, "holds a private key where a certificate belongs");
    fleet.take_from(&address("localhost"), &by("ca.pem"));
    fleet.updates_to("7.1.0");
}

/// Holds UPD-42.
#[test]
fn rollback_command_to_a_running_daemon() {
    use familiar::command::OperatorKey;
    let test = "rollback_command_to_a_running_daemon";
    let Some(fleet) = Fleet::new(test) else { return };
    let Some(broker) = Mosquitto::start(test, "") else { return };
    let key = fleet.site.home.path("operator.pem");
    let operator = OperatorKey::create(&key).unwrap().public().to_jwk();
    let operators = fleet.site.home.path("operators.jwks");
    std::fs::write(operators, format!("{{\"keys\":[{operator}]}}")).unwrap();
    // The repository lists what is gone back to.
    fleet.add("7.1.0", &[]);
    fleet.updates_to("7.1.0");
    fleet.add("7.2.0", &[]);
    fleet.updates_to("7.2.0");
    let more = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", broker.port);
    fleet.take_from(fleet.path("").to_str().unwrap(), &more);
    fleet.site.edit("speed = \"max\"", "speed = \"pace\"\nloop = true");
    let subscriber = Subscriber::start(broker.port, "#", &[]);
    let running = fleet.site.home.start(&[]);
    let model = |messages: Vec<String>| -> Value {
        let Some(last) = messages.last() else { return Value::Null };
        let envelope: Value = serde_json::from_str(last).unwrap();
        let payload: Value = serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap();
        payload["model"]["version"].clone()
    };
    wait("health", || model(subscriber.on("/health")) == "7.2.0");

    let order = ["command", "--json", "--key", key.to_str().unwrap(), "rollback"];
    let output = fleet.site.familiar(&order);
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["data"]["version"], "7.1.0", "{result}");
    wait("health of the model before", || model(subscriber.on("/health")) == "7.1.0");
    // Events name it as well.
    let events = subscriber.on("/event").len();
    wait("an event", || subscriber.on("/event").len() > events);
    assert_eq!(model(subscriber.on("/event")), "7.1.0");
    running.stop();
    assert_eq!(fleet.site.boots().0, "7.1.0");
}

/// Holds UPD-33.
#[test]
fn update_command_switches_a_running_daemon_and_health_tells() {
    let test = "update_command_switches_a_running_daemon_and_health_tells";
    let Some(fleet) = Fleet::new(test) else { return };
    let Some(broker) = Mosquitto::start(test, "") else { return };
    let more = format!(
        "[commands]\nunsigned = [\"update\"]\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n",
        broker.port
    );
    fleet.take_from(fleet.path("").to_str().unwrap(), &more);
    fleet.site.edit("speed = \"max\"", "speed = \"pace\"\nloop = true");
    let subscriber = Subscriber::start(broker.port, "#", &[]);
    let health = || -> Value {
        let messages = subscriber.on("/health");
        let last = messages.last().map_or("{\"payload\":\"{}\"}", String::as_str);
        assert!(last.len() <= 4096);
        let envelope: Value = serde_json::from_str(last).unwrap();
        serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap()
    };
    let running = fleet.site.home.start(&[]);
    wait("the factory's bundle", || health()["model"]["version"] == fleet.factory.as_str());

    // A bad one first: told, and nothing else.
    fleet.add("7.1.0", &[]);
    let archive = fleet.file("targets", "7.1.0.tar");
    flip(&archive);
    press(broker.port);
    wait("the refusal", || health()["update"]["outcome"] == "failed");
    assert!(health()["update"]["reason"].as_str().unwrap().contains("digest"));
    assert_eq!(health()["model"]["version"], fleet.factory.as_str());

    flip(&archive);
    press(broker.port);
    wait("the update", || health()["model"]["version"] == "7.1.0");
    wait("its confirmation", || health()["update"]["outcome"] == "confirmed");
    let told = health();
    assert_eq!(told["update"]["version"], "7.1.0");
    assert_eq!(told["model"]["origin"], "a");
    assert!(told["frames_per_second"].is_null() && told["state"] == "watching", "{told}");
    running.stop();
    assert_eq!(fleet.site.boots(), ("7.1.0".to_owned(), "confirmed".to_owned()));
}
