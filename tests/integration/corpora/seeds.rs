//! The seeds of the corpora: small, sound inputs, and some that just are not. Drawn and written here; no picture is anybody's.

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, Luma, Rgb, RgbImage};
use serde_json::json;

use super::corpora;
use crate::support::bundle::{Curve, hex, statement};
use crate::support::bundle::{MANIFEST, TestBundle, TestKey, envelope};

/// RFC 8037 appendix A.2.
const JWK: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// `cargo test --release --test integration -- --ignored seeds_are_written` makes those anew that have no random part.
#[test]
#[ignore = "writes fuzz/corpus"]
fn seeds_are_written() {
    pictures();
    texts();
    messages();
    updates();
}

fn seed(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let folder = corpora().join(target);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn picture() -> RgbImage {
    RgbImage::from_fn(24, 16, |x, y| Rgb([(x * 9) as u8, (y * 13) as u8, ((x * y) % 251) as u8]))
}

fn coded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The segments of a JPEG that are to stay, by their marker.
fn without(jpeg: &[u8], marker: u8) -> Vec<u8> {
    let (mut out, mut at) = (jpeg[..2].to_vec(), 2);
    while jpeg[at + 1] != 0xda {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]])) + 2;
        if jpeg[at + 1] != marker {
            out.extend_from_slice(&jpeg[at..at + length]);
        }
        at += length;
    }
    out.extend_from_slice(&jpeg[at..]);
    out
}

fn pictures() {
    let mut colour = Vec::new();
    JpegEncoder::new_with_quality(&mut colour, 60).encode_image(&picture()).unwrap();
    let mut grey = Vec::new();
    let levels = image::GrayImage::from_fn(16, 16, |x, y| Luma([(x * y) as u8]));
    JpegEncoder::new_with_quality(&mut grey, 60).encode_image(&levels).unwrap();
    let bare = without(&colour, 0xc4);
    let mut progressive = colour.clone();
    let frame = progressive.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    progressive[frame + 1] = 0xc2;
    let mut exif =
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    exif.splice(0..0, [0xff, 0xe1, length[0], length[1]]);
    let turned = [&colour[..2], &exif, &colour[2..]].concat();
    for (name, jpeg) in [
        ("colour", &colour),
        ("grey", &grey),
        ("bare", &bare),
        ("says-progressive", &progressive),
        ("exif", &turned),
    ] {
        seed("frame", name, jpeg);
        seed("photo", &format!("{name}-jpeg"), jpeg);
    }
    let header = |jpeg: &[u8]| jpeg.windows(2).position(|pair| pair == [0xff, 0xdb]).unwrap();
    let (before, after) = colour.split_at(header(&colour));
    let whole = colour.len() - 2;
    for (name, jpeg) in [
        ("two-starts", [&[0xff, 0xd8], &colour[..]].concat()),
        ("strays", [before, &[0, 0xff, 0, 9, 0xff, 0xff], after].concat()),
        ("no-end", colour[..whole].to_vec()),
        ("no-last-row", colour[..whole - 30].to_vec()),
        ("cut-then-whole", [&colour[..whole / 2], &grey].concat()),
    ] {
        seed("frame", name, &jpeg);
        seed("recording", name, [&jpeg[..], &grey].concat());
    }
    seed("photo", "png", coded(ImageFormat::Png));
    seed("photo", "webp", coded(ImageFormat::WebP));
    let cut = &colour[..colour.len() / 2];
    seed("recording", "two", [&grey[..], &colour].concat());
    seed("recording", "boundary", [&grey[..], b"\r\n--frame\r\n\r\n", &bare].concat());
    seed("recording", "cut", [cut, &grey].concat());
    seed("recording", "noise", [b"\xff\xd8\xff\xff\xd8".as_slice(), &grey].concat());
    for (name, format, buffer) in [
        ("yuyv", 0, 8 * 4),
        ("nv12", 1, 8 * 6),
        ("rgb", 2, 24 * 4),
        ("grey", 3, 8 * 4),
        ("uyvy", 4, 8 * 4),
        ("nv21", 5, 8 * 6),
        ("yu12", 6, 8 * 6),
        ("yv12", 7, 8 * 6),
        ("bgr", 8, 24 * 4),
    ] {
        let stride = if [2, 8].contains(&format) { 24 } else { 8 };
        let width = if [0, 4].contains(&format) { 4 } else { 8 };
        let header = [format, 3, width, 0, 4, 0, stride, 0];
        let pixels: Vec<u8> = (0..buffer).map(|n| n as u8).collect();
        seed("raw", name, [&header[..], &pixels].concat());
    }
    seed("raw", "no-memory-holds-it", [0x80, 0, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4]);
}

fn texts() {
    let all = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md"),
    );
    let all = all.unwrap();
    let example = all.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    seed("configuration", "documented", &example.as_bytes()[..example.len().min(2048)]);
    seed("configuration", "least", "device = \"porch\"\n");
    seed(
        "configuration",
        "tables",
        "device = \"a\"\n[camera]\nsource = \"replay:x.mjpeg\"\nfps = 0.5\nspeed = \"max\"\nloop = true\n\
         rotate = 90\nflip = \"vertical\"\nsmallest_face = 48\nmasks = [[[0.0, 0.0], [0.3, 0.0], [0.3, 1.0]]]\n\
         [mqtt]\nurl = \"mqtts://broker.local:8883\"\nprefix = \"a/b\"\n[commands]\nunsigned = [\"pause\"]\n\
         [outbox]\nage = \"30d\"\n[events]\ndeparted_after = \"1h 30m\"\n",
    );
    seed("configuration", "unknown-key", "device = \"porch\"\n[camera]\nwitdh = 640\n");
    seed("manifest", "tiny", MANIFEST);
    seed("manifest", "five-points", MANIFEST.replace(
        "{ kind = \"box\", margin = 0.2 }",
        "{ kind = \"five_point\", template = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]] }",
    ));
    seed(
        "manifest",
        "liveness",
        format!(
            "{MANIFEST}\n[[liveness]]\nfile = \"live.onnx\"\ncrop_scale = 2.7\nlive_class = 1\ninput = {{ width = 8, height = 8, \
         layout = \"nchw\", channels = \"bgr\", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }}\n\
         [liveness_decision]\nthreshold = 0.5\n"
        ),
    );
    for (name, curve) in [("p256", Curve::P256), ("p384", Curve::P384)] {
        let bundle = TestBundle::with_key(TestKey::new(curve));
        seed("model_signature", name, bundle.read("model.sig"));
        seed("model_statement", name, bundle.statement().to_string());
    }
    let empty = envelope(&TestKey::new(Curve::P256), b"{}");
    seed("model_signature", "empty-statement", empty.to_string());
    let digest = hex(&[7; 32]);
    let resource = json!({"name": "a", "algorithm": "sha256", "digest": digest});
    seed("model_statement", "twice", statement(&[resource.clone(), resource]).to_string());
    seed("pairs", "one-fold", "2\nAda 1 2\nBo 1 3\nAda 1 Bo 2\nBo 1 Ada 4\n");
    seed("pairs", "folds", "2\t1\nAda\t1\t2\nAda\t1\tBo\t2\nBo\t1\t3\nBo\t1\tAda\t4\n");
    seed("pairs", "leaves-its-folder", "1\n../Ada 1 2\nAda 1 ../Bo 2\n");
    seed(
        "boxes",
        "two",
        "image,x,y,w,h,easy,medium,hard,invalid\na/b.jpg,1,2,30,40,1,1,1,0\na/b.jpg,-1.5,2e1,3,4,0,0,1,0\n",
    );
    seed("boxes", "header", "image,x,y,w,h,easy,medium,hard,invalid\n");
    seed("boxes", "leaves-its-folder", "h\n../a.jpg,1,2,3,4,1,1,1,0\n");
    seed("key_set", "key", JWK);
    seed("key_set", "set", format!("{{\"keys\":[{JWK}]}}"));
    seed("key_set", "private", JWK.replace('}', ",\"d\":\"AA\"}"));
    seed("pins", "none", "{}");
    seed("pins", "one", format!("{{\"porch\":{JWK}}}"));
    let former = JWK.replace('}', &format!(
        ",\"former\":[{{\"key\":{JWK},\"last\":{{\"seq\":7,\"link\":\"abc\"}}}},{{\"key\":{JWK},\"last\":null}}]}}"
    ));
    seed("pins", "former", format!("{{\"porch\":{former}}}"));
    backups();
}

fn backups() {
    let person = |id: &str, looks: u16| {
        let profile = json!({"state": "enrolled", "id": id, "name": "Ada", "consent": "in writing",
            "enrolled": "2026-11-23T08:00:00Z", "expires": null})
        .to_string();
        let mut bytes = (profile.len() as u32).to_le_bytes().to_vec();
        bytes.extend(profile.as_bytes());
        bytes.extend(looks.to_le_bytes());
        for _ in 0..looks {
            let digest = b"sha256:00";
            let mut look = 1_790_000_000_000_i64.to_le_bytes().to_vec();
            look.extend((digest.len() as u16).to_le_bytes());
            look.extend(digest);
            look.extend([0.6_f32, 0.8].iter().flat_map(|value| value.to_le_bytes()));
            bytes.extend((look.len() as u32).to_le_bytes());
            bytes.extend(look);
        }
        bytes
    };
    let file = |people: &[Vec<u8>]| {
        let mut bytes = 1_790_000_000_000_i64.to_le_bytes().to_vec();
        bytes.extend((people.len() as u32).to_le_bytes());
        bytes.extend(people.concat());
        bytes
    };
    seed("backup", "nobody", file(&[]));
    seed("backup", "two", file(&[person("ada", 2), person("bo", 1)]));
    seed("backup", "twice", file(&[person("ada", 1), person("ada", 1)]));
    seed("backup", "without-looks", file(&[person("ada", 0)]));
}

fn messages() {
    // CONNACK, SUBACK, PUBLISH (QoS 1), PUBACK, PINGRESP, DISCONNECT of MQTT 5.
    let packets: [(&str, &[u8]); 4] = [
        ("connack", &[0x20, 3, 0, 0, 0]),
        ("publish", b"\x32\x0e\0\x07a/b/c/d\0\x01\x00\x7b\x7d"),
        ("several", b"\xd0\0\x40\x02\0\x01\x90\x04\0\x01\0\0\xe0\0"),
        ("alias", b"\x30\x0a\0\x01a\x03\x23\0\x01\x7b\x7d\x20"),
    ];
    for (name, bytes) in packets {
        seed("packets", name, bytes);
    }
    let header = "eyJhbGciOiJFZERTQSIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il0sImtpZCI6ImEiLCJ0eXAiOiJmYW1pbGlhci1jb21tYW5kK2pzb24ifQ";
    let signature = "A".repeat(86);
    let forged = |payload: &str| {
        json!({"payload": payload, "protected": header, "signature": signature}).to_string()
    };
    let order = |command: &str, args: &str| {
        format!(
            r#"{{"id":"1","device":"porch","issued":"NOW","expires":"LATER","command":"{command}","args":{args}}}"#
        )
    };
    let stale = order("pause", "{}").replace("NOW", "2020-01-01T00:00:00Z");
    for target in ["envelope", "command"] {
        seed(target, "forged", forged(&stale.replace("LATER", "2020-01-01T00:01:00Z")));
        seed(target, "empty", forged(""));
        seed(
            target,
            "repeated",
            forged("{}").replace("\"payload\"", "\"payload\":\"\",\"payload\""),
        );
    }
    seed("command", "unsigned", "pause ");
    seed("command", "unsigned-off", "pause OFF");
    seed("order", "pause", order("pause", "{}"));
    seed("order", "forget", order("forget", r#"{"person":"ada"}"#));
    seed("order", "unknown", order("dance", "{}"));
    seed("order", "ends-of-time", order("health", "{}").replace("LATER", "9999-12-30T22:00:00Z"));
    let event = |seq: u64, prev: &str| {
        format!(
            r#"e{{"v":1,"event_type":"departed","device":"porch","seq":{seq}{prev},"person":{{"id":"a","name":"A"}}}}"#
        )
    };
    let overflow = r#"e{"v":1,"event_type":"overflow","device":"porch","seq":9,"prev":"x","overflow":{"from":2,"to":18446744073709551615}}"#;
    let lines = [event(1, ""), event(2, r#","prev":"x""#), overflow.to_owned()];
    seed("signed_messages", "events", lines.join("\n"));
    let identity = r#"i{"v":1,"device":"porch","keys":["KEY"]}"#;
    seed("signed_messages", "identity", identity);
    let vouched = format!(
        r#"i{{"v":1,"device":"porch","keys":["KEY",{JWK}],"vouches":["{header}.e30.{signature}"]}}"#
    );
    seed("signed_messages", "vouched", vouched);
    let result = r#"r{"v":1,"device":"porch","id":"1","outcome":"refused","reason":"stale","time":"2026-11-23T08:00:00Z"}"#;
    seed("signed_messages", "result", result);
}

fn updates() {
    let tar = |entries: &[(&str, tar::EntryType, &[u8])]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append(&header, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    };
    let file = tar::EntryType::Regular;
    seed("archive", "two", tar(&[("bundle.toml", file, b"a"), ("./model.sig", file, b"bc")]));
    seed("archive", "leaves-its-folder", tar(&[("../a", file, b"a")]));
    seed("archive", "link", tar(&[("a", tar::EntryType::Symlink, b"")]));
    seed("archive", "cut", &tar(&[("a", file, b"abc")])[..514]);
    let key = hex(&[7; 32]);
    let role = json!({"keyids": ["k"], "threshold": 1});
    let head = |kind: &str, more: serde_json::Value| {
        let mut signed = json!({"_type": kind, "spec_version": "1.0.31", "version": 1, "expires": "2030-01-01T00:00:00Z"});
        signed.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"signatures": [{"keyid": "k", "sig": "00"}], "signed": signed}).to_string()
    };
    let keys = json!({"k": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key}}});
    seed(
        "metadata",
        "root",
        head(
            "root",
            json!({"consistent_snapshot": true, "keys": keys,
        "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": role}}),
        ),
    );
    seed(
        "metadata",
        "timestamp",
        head("timestamp", json!({"meta": {"snapshot.json": {"version": 1}}})),
    );
    seed(
        "metadata",
        "snapshot",
        head(
            "snapshot",
            json!({"meta": {"targets.json": {"version": 1, "length": 9,
        "hashes": {"sha256": key}}}}),
        ),
    );
    seed(
        "metadata",
        "targets",
        head(
            "targets",
            json!({
        "targets": {"a/b-1.tar": {"length": 3, "hashes": {"sha256": key}, "custom": {"wave": 10}}},
        "delegations": {"keys": keys, "roles": [{"name": "d", "keyids": ["k"], "threshold": 1,
            "terminating": true, "paths": ["a/*-?.tar", "**"]}]}}),
        ),
    );
}
