use std::path::Path;
use std::time::{Duration, Instant};

use super::super::testing::{claiming, is_near, jpeg, shade, without_huffman_tables};
use super::super::{CameraError, Counters, Feed, Frame, Next};
use super::capture::{self, Settings};
use super::fake::{Plug, Socket, Step, mjpg};
use super::retry::Backoff;
use super::{Given, Wish};

const LONG: Duration = Duration::from_mins(1);

/// No waiting, and no frame is a surplus one.
fn settings() -> Settings {
    let wish = Wish { width: 64, height: 48, fps: 1e9 };
    Settings {
        wish,
        first_frame: LONG,
        stalled: LONG,
        slice: Duration::from_millis(1),
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(4)),
    }
}

fn open(socket: &Socket) -> Feed {
    try_open(socket, settings()).unwrap()
}

fn try_open(socket: &Socket, settings: Settings) -> Result<Feed, CameraError> {
    capture::open(Path::new("/dev/fake"), socket.opener(), settings)
}

fn frame(feed: &Feed) -> Frame {
    match feed.next(LONG) {
        Next::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

/// Waits until the counters are as wished; that they become so is what is tested, not when.
fn wait(feed: &Feed, reached: impl Fn(Counters) -> bool) {
    let start = Instant::now();
    while !reached(feed.counters()) {
        assert!(start.elapsed() < LONG, "{:?}", feed.counters());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Holds SPD-07.
#[test]
fn slow_consumer_sees_the_newest_frame() {
    let frames = (0..25).map(|n| Step::Frame(jpeg(n * 10))).collect();
    let feed = open(&Socket::new([Plug::Gives(frames)]));
    wait(&feed, |counters| counters.dropped_stale == 24);
    let newest = frame(&feed);
    assert_eq!(newest.number, 24);
    assert!(is_near(shade(&newest.image), 240));
    assert!(matches!(feed.next(Duration::from_millis(5)), Next::Nothing), "there is no queue");
    assert_eq!(feed.counters().frames, 1);
}

#[test]
fn stale_frame_costs_no_decoding() {
    // Frames that could not be decoded are not even looked at when a newer one is there.
    let steps = vec![Step::Frame(b"junk".to_vec()), Step::Frame(jpeg(50))];
    let feed = open(&Socket::new([Plug::Gives(steps)]));
    wait(&feed, |counters| counters.dropped_stale == 1);
    assert!(is_near(shade(&frame(&feed).image), 50));
    assert_eq!(feed.counters().skipped_broken, 0);
}

#[test]
fn bad_frames_are_skipped_one_by_one() {
    let whole = jpeg(70);
    let bad = [
        Step::Frame(whole[..whole.len() / 2].to_vec()),
        Step::Frame(claiming(&whole, 65535, 65535)),
        Step::Frame(b"no picture".to_vec()),
        Step::Frame(Vec::new()),
        Step::Buffer(whole.clone(), whole.len() + 1, false),
    ];
    for bad in bad {
        let plug = Plug::Gives(vec![bad]);
        let feed = open(&Socket::new([plug]));
        assert!(matches!(feed.next(Duration::from_millis(20)), Next::Nothing | Next::Frame(_)));
        // `next` may have ended before the frame came; it must not be taken for one later either.
        while feed.counters().skipped_broken + feed.counters().skipped_too_large == 0 {
            assert!(!matches!(feed.next(Duration::from_millis(1)), Next::Frame(_)));
        }
        assert_eq!(feed.counters().frames, 0);
    }
}

#[test]
fn good_frame_follows_a_bad_one() {
    let whole = jpeg(70);
    let socket = Socket::new([Plug::Gives(vec![
        Step::Buffer(whole.clone(), whole.len(), true),
        Step::Buffer(whole.clone(), 0, false),
        Step::Frame(without_huffman_tables(&whole)),
    ])]);
    let feed = open(&socket);
    let frame = frame(&feed);
    assert!(is_near(shade(&frame.image), 70));
    assert_eq!(frame.number, 2, "skipped frames are counted");
    assert_eq!(socket.log(), ["opened"], "and are no reason to open the camera again");
}

#[test]
fn buffer_error_flag() {
    let good = jpeg(200);
    let steps = vec![
        Step::Buffer(good.clone(), good.len(), true),
        Step::Buffer(good.clone(), good.len(), true),
    ];
    let feed = open(&Socket::new([Plug::Gives(steps)]));
    wait(&feed, |counters| counters.skipped_broken == 2);
    assert!(matches!(feed.next(Duration::ZERO), Next::Nothing));
}

#[test]
fn stale_bytes_beyond_bytesused() {
    // A short frame in a buffer that still holds the rest of a longer one.
    let short = jpeg(30);
    let cut = short.len() / 2;
    let steps = vec![Step::Buffer(short.clone(), cut, false)];
    let feed = open(&Socket::new([Plug::Gives(steps)]));
    while feed.counters().skipped_broken == 0 {
        assert!(!matches!(feed.next(Duration::from_millis(1)), Next::Frame(_)));
    }
    // The same of uncompressed pixels: half a frame is no frame.
    let grey = Given { fourcc: *b"GREY", stride: 64, ..mjpg(64, 48) };
    let buffer = vec![9; 64 * 48];
    let steps = vec![Step::Buffer(buffer.clone(), 64 * 48 - 1, false)];
    let feed = open(&Socket::new([Plug::Gives(steps)]).giving(grey));
    while feed.counters().skipped_broken == 0 {
        assert!(!matches!(feed.next(Duration::from_millis(1)), Next::Frame(_)));
    }
    let feed = open(&Socket::new([Plug::Gives(vec![Step::Frame(buffer)])]).giving(grey));
    assert!(frame(&feed).image.pixels().all(|pixel| pixel.0 == [9; 3]));
}

/// Holds CAM-18.
#[test]
fn unplugged_and_replugged() {
    let socket = Socket::new([
        Plug::Gives(vec![Step::Fails(libc::ENODEV)]),
        Plug::Missing,
        Plug::Missing,
        Plug::Dead,
        Plug::Missing,
        Plug::Gives(vec![Step::Frame(jpeg(111))]),
    ]);
    let feed = open(&socket);
    let Next::Lost(reason) = feed.next(LONG) else { panic!() };
    assert!(reason.contains("/dev/fake") && reason.contains("No such device"), "{reason}");
    assert!(is_near(shade(&frame(&feed).image), 111), "one outage is told once");
    assert_eq!(feed.counters().reopened, 1);
    let log = ["opened", "closed", "missing", "missing", "dead", "closed", "missing", "opened"];
    assert_eq!(socket.log(), log);
}

#[test]
fn second_outage_is_told_again() {
    let socket = Socket::new([
        Plug::Gives(vec![Step::Fails(libc::ENODEV)]),
        Plug::Missing,
        Plug::Gives(vec![Step::Frame(jpeg(10)), Step::Fails(libc::EIO)]),
        Plug::Missing,
        Plug::Gives(vec![Step::Frame(jpeg(20))]),
    ]);
    let feed = open(&socket);
    let mut lost = 0;
    loop {
        match feed.next(LONG) {
            Next::Lost(_) => lost += 1,
            Next::Frame(frame) if is_near(shade(&frame.image), 20) => break,
            // The frame between the outages may be gone: it was stale when the second one came.
            Next::Frame(_) => {}
            other => panic!("{other:?}"),
        }
    }
    // Both, unless the second came before the first was asked for.
    assert!((1..=2).contains(&lost));
    assert_eq!(feed.counters().reopened, 2);
}

#[test]
fn stalled_camera_is_opened_again_without_an_outage() {
    let socket =
        Socket::new([Plug::Gives(vec![Step::Silence]), Plug::Gives(vec![Step::Endless(jpeg(99))])]);
    let feed = try_open(&socket, Settings { stalled: Duration::ZERO, ..settings() }).unwrap();
    assert!(is_near(shade(&frame(&feed).image), 99));
    let counters = feed.counters();
    assert_eq!((counters.timeouts, counters.reopened), (1, 1));
    assert_eq!(socket.log(), ["opened", "closed", "opened"], "closed before opened again");
}

/// Holds CAM-18.
#[test]
fn camera_that_stays_silent_is_lost() {
    let socket = Socket::new([Plug::Gives(vec![Step::Silence]), Plug::Dead, Plug::Dead]);
    let feed = try_open(&socket, Settings { stalled: Duration::ZERO, ..settings() }).unwrap();
    let Next::Lost(reason) = feed.next(LONG) else { panic!() };
    assert!(reason.contains("no frame"), "{reason}");
    assert!(matches!(feed.next(Duration::from_millis(20)), Next::Nothing), "told once");
}

#[test]
fn panic_of_the_driver_crate_is_an_outage() {
    let socket = Socket::new([
        Plug::Gives(vec![Step::Panics]),
        Plug::Missing,
        Plug::Gives(vec![Step::Frame(jpeg(44))]),
    ]);
    let feed = open(&socket);
    let Next::Lost(reason) = feed.next(LONG) else { panic!() };
    assert!(reason.contains("Invalid colorspace"), "{reason}");
    assert!(is_near(shade(&frame(&feed).image), 44));
}

#[test]
fn missing_camera_is_an_error_at_the_start() {
    assert!(matches!(try_open(&Socket::new([]), settings()), Err(CameraError::Open { .. })));
    assert!(matches!(
        try_open(&Socket::new([Plug::Dead]), settings()),
        Err(CameraError::Device { .. })
    ));
    let bayer = Given { fourcc: *b"pBAA", ..mjpg(64, 48) };
    assert!(matches!(
        try_open(&Socket::new([Plug::Gives(Vec::new())]).giving(bayer), settings()),
        Err(CameraError::NotACamera { reason, .. }) if reason == "it insists on the format pBAA"
    ));
    let wall = mjpg(16384, 16384);
    assert!(matches!(
        try_open(&Socket::new([Plug::Gives(Vec::new())]).giving(wall), settings()),
        Err(CameraError::NotACamera { .. })
    ));
}

#[test]
fn format_says_what_was_wished_and_what_is_given() {
    let feed = open(&Socket::new([Plug::Gives(Vec::new())]));
    assert_eq!(
        feed.format(),
        "Fake (script): MJPG 64x48 at 30 frames a second (wished for 64x48 at 1000000000; it offers MJPG)"
    );
}

#[test]
fn surplus_frames_are_dropped() {
    let frames = (0..50).map(|_| Step::Frame(jpeg(1))).collect();
    // One frame a minute is wished for.
    let wish = Wish { fps: 1.0 / 60.0, ..settings().wish };
    let socket = Socket::new([Plug::Gives(frames)]);
    let feed = try_open(&socket, Settings { wish, ..settings() }).unwrap();
    wait(&feed, |counters| counters.dropped_surplus == 49);
    assert_eq!(frame(&feed).number, 0);
}

#[test]
fn dropped_feed_closes_the_camera() {
    let there = Socket::new([Plug::Gives(Vec::new())]);
    drop(open(&there));
    assert_eq!(there.log(), ["opened", "closed"]);
    // Even while it is away and the next attempt is an hour off.
    let away = Socket::new([Plug::Gives(vec![Step::Fails(libc::ENODEV)])]);
    let hour = Duration::from_hours(1);
    let slow = Settings { backoff: Backoff::new(hour, hour), ..settings() };
    let feed = try_open(&away, slow).unwrap();
    assert!(matches!(feed.next(LONG), Next::Lost(_)));
    drop(feed); // joins the thread
    assert_eq!(away.log(), ["opened", "closed", "missing"]);
}
