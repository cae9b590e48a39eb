//! What a running daemon has open towards the network: one connection to its broker, and nothing that
//! listens.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::home::Home;
use super::support::mosquitto::{Mosquitto, Subscriber, wait};
use super::support::program;

/// State of a TCP socket in /proc/net/tcp.
const ESTABLISHED: &str = "01";

#[derive(Debug, PartialEq, Eq)]
struct Socket {
    protocol: &'static str,
    /// Port of the other end.
    remote: u16,
    state: String,
}

/// The internet sockets of a process: those of the system's tables that one of its files is.
fn sockets(pid: u32) -> Vec<Socket> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let owned: Vec<String> = files
        .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    let mut sockets = Vec::new();
    for protocol in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"] {
        let table =
            std::fs::read_to_string(format!("/proc/{pid}/net/{protocol}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let inode = if protocol == "packet" { fields[8] } else { fields[9] };
            if owned.contains(&format!("socket:[{inode}]")) {
                let remote = fields[2].rsplit(':').next().unwrap();
                let remote = u16::from_str_radix(remote, 16).unwrap_or(0);
                sockets.push(Socket { protocol, remote, state: fields[3].to_owned() });
            }
        }
    }
    sockets
}

/// The daemon's files are shown to root alone.
#[test]
#[ignore = "only root sees what a daemon has open: make test, as root"]
fn nothing_listens_and_only_the_broker_is_spoken_to() {
    let test = "nothing_listens_and_only_the_broker_is_spoken_to";
    let Some(broker) = Mosquitto::start(test, "") else { return };
    let home = Home::small();
    let path = |name: &str| home.path(name);
    std::fs::create_dir(path("frames")).unwrap();
    for number in 0..4u8 {
        let picture = image::RgbImage::from_pixel(320, 240, image::Rgb([number * 60, 90, 200]));
        picture.save(path("frames").join(format!("{number}.jpg"))).unwrap();
    }
    let config = format!(
        "device = \"porch\"\n[camera]\nsource = \"replay:{}\"\nfps = 5\nloop = true\n\
         [models]\nbundle = {:?}\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n",
        path("frames").display(),
        home.bundle,
        broker.port
    );
    std::fs::write(path("familiar.toml"), config).unwrap();
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    let mut daemon = Command::new(program::familiar())
        .args(["run", "--config"])
        .arg(path("familiar.toml"))
        .env("STATE_DIRECTORY", path("state"))
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // From the very start, and for a while after it is at work.
    let expected = Socket { protocol: "tcp", remote: broker.port, state: ESTABLISHED.to_owned() };
    let look = || {
        for socket in sockets(daemon.id()) {
            // On its way to the broker, or there.
            assert_eq!((socket.protocol, socket.remote), ("tcp", broker.port), "{socket:?}");
        }
    };
    wait("it is online", || {
        look();
        subscriber.on("/availability").last().is_some_and(|word| word == "online")
    });
    for _ in 0..30 {
        look();
        std::thread::sleep(Duration::from_millis(100));
    }
    let open = sockets(daemon.id());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(open, [expected]);
}
