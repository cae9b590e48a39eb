//! Certificates as people make them, before a real Mosquitto and a real web server: what holds is taken; of what
//! does not, cause and mend are said in a user's words.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use familiar::model::update::fetch::{Limits, Source};
use familiar::mqtt::{Broker, BrokerError, ClientError, Connection, Session};
use familiar::system::tls::{self, Files};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;

use super::support::authority::{Authority, EARLY, EXPIRED, VALID};
use super::support::device::Device;
use super::support::mosquitto::{Mosquitto, free_port, wait};

const P256: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";
const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";

fn connect(port: u16, settings: &str) -> Result<(), String> {
    let device = Device::new();
    let mqtt = toml::from_str(&format!("url = \"mqtts://127.0.0.1:{port}\"\n{settings}")).unwrap();
    let broker = Broker::new(&mqtt, &device.state).map_err(|error| error.to_string())?;
    let session = Session { client_id: "x".to_owned(), will: None, expiry: 0, clean: true };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async {
            let mut connection = Connection::open(&broker, &session).await?;
            // With TLS 1.3 a broker that minds the client's certificate says so only now.
            connection.subscribe("x")?;
            connection.next().await?;
            connection.close().await
        })
        .map_err(|error: ClientError| error.to_string())
}

/// Every word is said, and nothing of a library's or the system's making.
fn says(said: &Result<(), String>, words: &[&str], case: &str) {
    let said = said.as_ref().expect_err(case);
    for word in words {
        assert!(said.contains(word), "{case}: {word:?} is not in: {said}");
    }
    let foreign =
        ["os error", "BadEncoding", "Error", "UnixTime", "Context", "Other(", "webpki", "{"];
    for word in foreign {
        assert!(!said.contains(word), "{case}: {said}");
    }
    // Dates are dates: no seconds since 1970.
    let digits = said.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
    assert!(digits < 9, "{case}: {said}");
}

fn self_signed(authority: &Authority, name: &str, key: &str, more: &str) {
    authority.openssl(&format!(
        "req -x509 {key} -nodes -keyout {name}.key -out {name}.crt -subj /CN={name} {more}"
    ));
}

/// Holds MQT-04.
#[test]
fn very_certificate_given_as_ca_is_taken_whatever_it_lacks() {
    let test = "very_certificate_given_as_ca_is_taken_whatever_it_lacks";
    let authority = Authority::new();
    // As `openssl req -x509` makes it: an authority, and without a name that counts.
    self_signed(&authority, "plain", P256, "-days 30");
    self_signed(&authority, "rsa", "-newkey rsa:2048", "-days 30");
    self_signed(&authority, "edwards", "-newkey ed25519", "-days 30");
    authority.self_signed_version_1("old", P256);
    for (name, versions) in [
        ("plain", ("TLSv1.3", "TLSv1.3")),
        ("plain", ("TLSv1.2", "TLSv1.2")),
        ("rsa", ("TLSv1.2", "TLSv1.3")),
        ("edwards", ("TLSv1.3", "TLSv1.3")),
        ("old", ("TLSv1.3", "TLSv1.3")),
        ("old", ("TLSv1.2", "TLSv1.2")),
    ] {
        let Some(broker) = authority.broker_of_version(test, name, "", Some(versions)) else {
            return;
        };
        let case = format!("{name} {versions:?}");
        connect(broker.port, &authority.ca(&format!("{name}.crt"))).expect(&case);
        // Another of the same kind is not that very one.
        let said = connect(broker.port, &authority.ca("ca.crt"));
        let why = if name == "old" { "version 1" } else { "signed by itself" };
        says(&said, &[why, "`ca`"], &case);
    }
}

/// A server's own certificate, given as `ca`, vouches for itself and for no other.
#[test]
fn servers_certificate_given_as_ca_is_no_authority() {
    let test = "servers_certificate_given_as_ca_is_no_authority";
    let authority = Authority::new();
    let extensions = format!("{NAMES}basicConstraints=CA:FALSE\n");
    authority.sign_with("leaf", P256, &extensions, "ca", VALID);
    authority.sign_with("forged", P256, &extensions, "leaf", VALID);
    for (name, taken) in [("leaf", true), ("forged", false)] {
        let Some(broker) = authority.broker(test, name, "") else { return };
        let said = connect(broker.port, &authority.ca("leaf.crt"));
        assert_eq!(said.is_ok(), taken, "{name}: {said:?}");
    }
}

/// Whoever shows the certificate must have its key: a copy of it is no proof.
/// Holds MQT-05.
#[test]
fn given_certificate_without_its_key_is_not_taken() {
    let authority = Authority::new();
    authority.self_signed_version_1("old", P256);
    authority.self_signed_version_1("thief", P256);
    // rustls' own server, for OpenSSL does not start with two that do not belong together.
    let chain = vec![rustls_pem("old", &authority)];
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(authority_key(&authority, "thief")).unwrap();
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12][..]] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let signer = provider.key_provider.load_private_key(key.clone_key()).unwrap();
        let shown = rustls::sign::CertifiedKey::new(chain.clone(), signer);
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            while session.is_handshaking() && session.complete_io(&mut stream).is_ok() {}
        });
        says(&connect(port, &authority.ca("old.crt")), &["does not hold"], "thief");
    }
}

fn rustls_pem(name: &str, authority: &Authority) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(&authority.read(&format!("{name}.crt")))
        .unwrap()
}

fn authority_key(authority: &Authority, name: &str) -> Vec<u8> {
    authority
        .openssl(&format!("pkcs8 -topk8 -nocrypt -in {name}.key -outform DER -out {name}.der"));
    authority.read(&format!("{name}.der"))
}

/// Holds MQT-07.
#[test]
fn cause_and_mend_are_said_of_a_servers_certificate() {
    let test = "cause_and_mend_are_said_of_a_servers_certificate";
    let authority = Authority::new();
    let server = |name: &str, key: &str, extensions: &str, options: &str| {
        authority.sign_with(name, key, extensions, "ca", options);
    };
    server("version1", P256, "", VALID);
    server("elsewhere", P256, "subjectAltName=DNS:broker.example,IP:192.0.2.7\n", VALID);
    server("nameless", P256, "basicConstraints=CA:FALSE\n", VALID);
    server("expired", P256, NAMES, EXPIRED);
    server("client", P256, &format!("{NAMES}extendedKeyUsage=clientAuth\n"), VALID);
    server("p521", "-newkey ec -pkeyopt ec_paramgen_curve:P-521", NAMES, VALID);
    server("rsa1024", "-newkey rsa:1024", NAMES, VALID);
    server("sha1", P256, NAMES, "-days 30 -sha1");
    server("early", P256, NAMES, EARLY);
    // An intermediate authority that the server does not send along.
    server("middle", P256, "basicConstraints=critical,CA:TRUE\n", VALID);
    authority.sign_with("short", P256, NAMES, "middle", VALID);
    authority.sign_with("whole", P256, NAMES, "middle", VALID);
    authority
        .write("whole.crt", [authority.read("whole.crt"), authority.read("middle.crt")].concat());
    // The authority was made anew under the same name.
    authority.openssl(&format!(
        "req -x509 {P256} -nodes -keyout new.key -out new.crt -days 30 -subj /CN=TestCA"
    ));
    authority.sign_with("renewed", P256, NAMES, "new", VALID);
    // The authority's own certificate, and another's.
    self_signed(&authority, "other", P256, "-days 30");

    for (name, words) in [
        (
            "version1",
            &["X.509 version 1", "subjectAltName", "give that very certificate as `ca`"][..],
        ),
        ("elsewhere", &["is for broker.example, 192.0.2.7, and not for 127.0.0.1"]),
        ("nameless", &["names no host", "common name does not count"]),
        ("expired", &["expired on 20", "UTC", "this device's clock", "renew it"]),
        ("early", &["valid from 2090-01-01 00:00 UTC on", "clock"]),
        ("client", &["not for a server", "serverAuth"]),
        ("p521", &["P-521", "not supported", "P-256"]),
        ("rsa1024", &["RSA key of 1024 bits", "2048"]),
        ("sha1", &["SHA-1", "TestCA"]),
        ("short", &["issued by \"middle\"", "`ca` holds \"TestCA\"", "certfile"]),
        ("renewed", &["another CA of the same name \"TestCA\"", "copy its certificate again"]),
        ("other", &["signed by itself", "`ca`"]),
    ] {
        let Some(broker) = authority.broker(test, name, "") else { return };
        says(&connect(broker.port, &authority.ca("ca.crt")), words, name);
    }
    let Some(broker) = authority.broker(test, "whole", "") else { return };
    connect(broker.port, &authority.ca("ca.crt")).unwrap();
    // The same file is taken for what it is where TLS is not spoken at all.
    let Some(plain) = Mosquitto::start(test, "") else { return };
    says(&connect(plain.port, &authority.ca("ca.crt")), &["does not speak TLS", "8883"], "plain");
}

/// A Pi without a battery for its clock begins in 1970, and must say that, not that the certificate is bad.
/// Holds MQT-07.
#[test]
fn clock_of_1970_is_named_as_the_cause() {
    #[derive(Debug)]
    struct Epoch;
    impl TimeProvider for Epoch {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(200)))
        }
    }
    let test = "clock_of_1970_is_named_as_the_cause";
    let authority = Authority::new();
    authority.sign("server", "IP:127.0.0.1", "serverAuth", VALID);
    self_signed(&authority, "itself", P256, "-days 30");
    for (name, ca) in [("server", "ca.crt"), ("itself", "itself.crt")] {
        let Some(broker) = authority.broker(test, name, "") else { return };
        let path = authority.path(ca);
        let config =
            tls::client(Files { ca: Some(&path), ..Files::default() }, tls::BROKER).unwrap();
        let mut config = (*config).clone();
        config.time_provider = Arc::new(Epoch);
        let server = ServerName::try_from("127.0.0.1").unwrap();
        let mut session = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", broker.port)).unwrap();
        let error = session.complete_io(&mut stream).unwrap_err();
        let said = tls::explain_io(&error, tls::BROKER).unwrap();
        says(&Err(said), &["1970-01-01 00:03 UTC", "was not set since", "NTP"], name);
    }
}

/// What a file is called, what is in it, and what is said of it; empty: it is taken.
/// Holds MQT-06.
#[test]
fn files_read_as_editors_save_them() {
    let test = "files_read_as_editors_save_them";
    let authority = Authority::new();
    authority.sign("server", "IP:127.0.0.1", "serverAuth", VALID);
    let Some(broker) = authority.broker(test, "server", "") else { return };
    let pem = String::from_utf8(authority.read("ca.crt")).unwrap();
    authority.openssl("x509 -in ca.crt -outform DER -out ca.der");
    authority.openssl("x509 -in ca.crt -trustout -out trusted.pem");
    authority.openssl("crl2pkcs7 -nocrl -certfile ca.crt -out bundle.p7b");
    authority.openssl("crl2pkcs7 -nocrl -certfile ca.crt -outform DER -out bundle.der");
    authority
        .openssl("pkcs12 -export -in server.crt -inkey server.key -passout pass:x -out both.p12");
    authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-521 -nodes -keyout p.key -out p521.pem -subj /CN=P -days 9");
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(pem.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    for (name, bytes) in [
        ("bom", [b"\xef\xbb\xbf", pem.as_bytes()].concat()),
        ("crlf", pem.replace('\n', "\r\n").into_bytes()),
        ("utf16", utf16),
        (
            "indented",
            pem.lines()
                .map(|line| format!("    {line}  \n"))
                .collect::<Vec<_>>()
                .concat()
                .into_bytes(),
        ),
        ("comment", [b"caf\xe9\n", pem.as_bytes()].concat()),
        ("twice", [authority.read("server.crt"), pem.clone().into_bytes()].concat()),
        ("empty", Vec::new()),
        ("blank", b" \n\n".to_vec()),
        ("cut", pem.as_bytes()[..pem.len() / 2].to_vec()),
        ("noise", pem.replace('M', "!").into_bytes()),
        ("text", b"here be dragons\n".to_vec()),
        ("web", b"<!DOCTYPE html><html>".to_vec()),
        ("zeros", vec![0; 300]),
        ("cutder", authority.read("ca.der")[..80].to_vec()),
        ("large", vec![b'x'; 2 << 20]),
    ] {
        authority.write(name, bytes);
    }
    std::fs::create_dir(authority.path("folder")).unwrap();
    for (file, words) in [
        ("ca.crt", &[][..]),
        ("ca.der", &[]),
        ("bom", &[]),
        ("crlf", &[]),
        ("utf16", &[]),
        ("indented", &[]),
        ("comment", &[]),
        ("twice", &[]),
        ("empty", &["is empty"]),
        ("blank", &["is empty"]),
        ("cut", &["is cut off", "END"]),
        ("noise", &["is damaged"]),
        ("text", &["no PEM file"]),
        ("web", &["a web page"]),
        ("zeros", &["neither PEM nor DER"]),
        ("cutder", &["neither PEM nor DER"]),
        ("large", &["is larger than 1048576 bytes"]),
        ("folder", &["is not a regular file"]),
        ("missing", &["is not there"]),
        ("ca.key", &["private key", "swapped"]),
        ("server.csr", &["request", "signed by a CA"]),
        ("trusted.pem", &["OpenSSL's own format", "openssl x509"]),
        ("bundle.p7b", &["PKCS#7", "openssl pkcs7"]),
        ("bundle.der", &["PKCS#7", "openssl pkcs7"]),
        ("both.p12", &["PKCS#12", "openssl pkcs12"]),
        ("p521.pem", &["P-521", "not supported"]),
    ] {
        let said = connect(broker.port, &authority.ca(file));
        if words.is_empty() {
            said.unwrap_or_else(|error| panic!("{file}: {error}"));
        } else {
            says(&said, words, file);
            assert!(said.unwrap_err().contains(file), "{file} is not named");
        }
    }
}

/// Holds MQT-08.
#[test]
fn clients_certificate_and_key_are_taken_or_explained() {
    let test = "clients_certificate_and_key_are_taken_or_explained";
    let authority = Authority::new();
    authority.sign("server", "IP:127.0.0.1", "serverAuth", VALID);
    authority.sign("porch", "DNS:porch", "clientAuth", VALID);
    authority.sign("garden", "DNS:garden", "clientAuth", VALID);
    authority.sign("expired", "DNS:porch", "clientAuth", EXPIRED);
    authority.sign_with("old", P256, "", "ca", VALID);
    self_signed(&authority, "stranger", P256, "-days 30");
    let demanded = "require_certificate true\nuse_identity_as_username true";
    let Some(broker) = authority.broker(test, "server", demanded) else { return };
    authority.openssl("pkcs8 -topk8 -in porch.key -passout pass:x -out locked.key");
    authority.openssl("ec -in porch.key -aes256 -passout pass:x -out locked-old.key");
    authority.openssl("pkcs8 -topk8 -nocrypt -in porch.key -outform DER -out porch.key.der");
    authority.openssl("ec -in porch.key -out sec1.key");
    authority.openssl("x509 -in porch.crt -outform DER -out porch.crt.der");
    authority.openssl("ecparam -name prime256v1 -out parameters.key");
    authority.openssl("genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-521 -out p521.key");
    authority.openssl("pkey -in porch.key -pubout -out public.key");
    authority
        .write("backwards.crt", [authority.read("ca.crt"), authority.read("porch.crt")].concat());
    authority.write("empty.key", "");
    for name in ["empty", "public", "parameters", "p521", "locked", "locked-old", "sec1"] {
        only_ours(&authority, &format!("{name}.key"));
    }
    only_ours(&authority, "porch.key.der");
    only_ours(&authority, "porch.crt");
    only_ours(&authority, "porch.csr");
    for (cert, key, words) in [
        ("porch.crt", "porch.key", &[][..]),
        ("porch.crt.der", "porch.key.der", &[]),
        ("porch.crt", "sec1.key", &[]),
        // Good enough for OpenSSL, and so for Mosquitto.
        ("old.crt", "old.key", &[]),
        ("porch.crt", "garden.key", &["does not go with `key`", "two pairs"]),
        ("backwards.crt", "porch.key", &["must come first"]),
        ("porch.key", "porch.crt", &["private key", "swapped"]),
        ("porch.crt", "porch.crt", &["certificate where a private key belongs", "swapped"]),
        ("porch.crt", "locked.key", &["passphrase", "openssl pkey"]),
        ("porch.crt", "locked-old.key", &["passphrase", "openssl pkey"]),
        ("porch.crt", "empty.key", &["is empty"]),
        ("porch.crt", "missing.key", &["is not there"]),
        ("porch.crt", "public.key", &["public key alone"]),
        ("porch.crt", "parameters.key", &["name of a curve and no key"]),
        ("porch.crt", "p521.key", &["not supported", "P-256"]),
        ("porch.crt", "porch.csr", &["request for a certificate"]),
        ("expired.crt", "expired.key", &["`cert` has expired"]),
        ("stranger.crt", "stranger.key", &["CA that signed `cert`"]),
    ] {
        let case = format!("{cert} {key}");
        let settings = format!(
            "{}cert = {:?}\nkey = {:?}\n",
            authority.ca("ca.crt"),
            authority.path(cert),
            authority.path(key)
        );
        let said = connect(broker.port, &settings);
        if words.is_empty() {
            said.unwrap_or_else(|error| panic!("{case}: {error}"));
        } else {
            says(&said, words, &case);
        }
    }
    says(
        &connect(broker.port, &authority.ca("ca.crt")),
        &["wants a certificate", "`cert` and `key`"],
        "none",
    );
}

fn only_ours(authority: &Authority, name: &str) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(authority.path(name), mode).unwrap();
}

/// `openssl s_server -WWW`: a web server over a folder.
struct WebServer {
    child: Child,
    port: u16,
}

impl WebServer {
    fn start(authority: &Authority, name: &str) -> Self {
        let port = free_port();
        let child = Command::new("openssl")
            .args(["s_server", "-WWW", "-quiet", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", &format!("{name}.crt"), "-key", &format!("{name}.key")])
            .args(["-cipher", "DEFAULT@SECLEVEL=0"])
            .current_dir(authority.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        wait("the web server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The update repository's `ca` is of the same kind.
/// Holds MQT-09.
#[test]
fn repository_certificate_explained_like_a_brokers() {
    let authority = Authority::new();
    authority.write("file", "content");
    authority.sign("server", "DNS:localhost", "serverAuth", VALID);
    authority.sign("expired", "DNS:localhost", "serverAuth", EXPIRED);
    self_signed(&authority, "itself", P256, "-days 30");
    authority.self_signed_version_1("old", P256);
    authority.openssl("x509 -in ca.crt -outform DER -out ca.der");
    for (server, ca, words) in [
        ("server", "ca.crt", &[][..]),
        ("server", "ca.der", &[]),
        ("itself", "itself.crt", &[]),
        ("old", "old.crt", &[]),
        ("old", "ca.crt", &["version 1", "repository's server"]),
        ("expired", "ca.crt", &["expired on 20", "UTC"]),
        ("itself", "ca.crt", &["signed by itself", "[update]"]),
        ("server", "ca.key", &["private key", "[update] `ca`"]),
        ("server", "missing", &["is not there"]),
    ] {
        let web = WebServer::start(&authority, server);
        let address = format!("https://localhost:{}", web.port);
        let path = authority.path(ca);
        let read = Source::with(&address, Some(&path), Limits::default())
            .and_then(|source| source.read("file", 100));
        let case = format!("{server} {ca}");
        if words.is_empty() {
            assert_eq!(read.expect(&case), b"content");
        } else {
            says(&read.map(|_| ()).map_err(|error| error.to_string()), words, &case);
        }
    }
}

#[test]
fn settings_of_tls_are_configuration_errors() {
    let device = Device::new();
    let mqtt = toml::from_str("url = \"mqtts://localhost\"\ncert = \"x\"").unwrap();
    assert!(matches!(Broker::new(&mqtt, &device.state), Err(BrokerError::Tls(_))));
}
