//! Certificates as people make them, by OpenSSL, in a folder of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::mosquitto::Mosquitto;

pub struct Authority(tempfile::TempDir);

/// For `x509 -req`: thirty days from now.
pub const VALID: &str = "-days 30";
/// A past and a coming year: `openssl ca` takes such dates in every version, `x509 -req` refuses them from 3.4 on.
pub const EXPIRED: &str = "-startdate 20250101000000Z -enddate 20250201000000Z";
pub const EARLY: &str = "-startdate 20900101000000Z -enddate 20910101000000Z";

impl Authority {
    /// A CA on P-256: `ca.crt`, `ca.key`.
    pub fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 \
             -subj /CN=TestCA -addext basicConstraints=critical,CA:TRUE",
        );
        authority
    }

    /// A server's or client's certificate by `ca`: `NAME.crt`, `NAME.key`.
    pub fn sign(&self, name: &str, alternative: &str, usage: &str, dates: &str) {
        self.sign_with(
            name,
            "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
            &format!("subjectAltName={alternative}\nextendedKeyUsage={usage}\n"),
            "ca",
            dates,
        );
    }

    /// The same with a key of another kind, other extensions (none: version 1), another CA's name.
    pub fn sign_with(&self, name: &str, key: &str, extensions: &str, ca: &str, options: &str) {
        let signer = format!("-CA {ca}.crt -CAkey {ca}.key");
        if extensions.is_empty() {
            return self.version_1(name, key, &signer);
        }
        self.openssl(&format!(
            "req {key} -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        self.write("ext", extensions);
        if !options.contains("-enddate") {
            return self.openssl(&format!(
                "x509 -req -in {name}.csr {signer} -CAcreateserial -out {name}.crt -extfile ext {options}"
            ));
        }
        self.write("index.txt", "");
        self.write(
            "ca.cnf",
            "[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nrand_serial=yes\n\
             [p]\ncommonName=supplied\n",
        );
        self.openssl(&format!(
            "ca -batch -config ca.cnf -cert {ca}.crt -keyfile {ca}.key -in {name}.csr -out {name}.crt -extfile ext {options} -notext"
        ));
    }

    /// A certificate that signs itself, with version 1, which has no extensions.
    pub fn self_signed_version_1(&self, name: &str, key: &str) {
        self.version_1(name, key, "");
    }

    fn version_1(&self, name: &str, key: &str, signer: &str) {
        let help = Command::new("openssl").args(["req", "-help"]).output().unwrap();
        if String::from_utf8_lossy(&help.stderr).contains("x509v1") {
            // From OpenSSL 3.4 on, which gives everything else extensions of its own accord, as does its own configuration.
            self.write("none.cnf", "[req]\ndistinguished_name=none\n[none]\n");
            return self.openssl(&format!(
                "req -x509v1 -config none.cnf {key} -nodes -keyout {name}.key -out {name}.crt -subj /CN={name} {VALID} {signer}"
            ));
        }
        self.openssl(&format!(
            "req {key} -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        let signer = match signer {
            "" => format!("-signkey {name}.key"),
            signer => format!("{signer} -CAcreateserial"),
        };
        self.openssl(&format!("x509 -req -in {name}.csr {signer} -out {name}.crt {VALID}"));
    }

    pub fn openssl(&self, arguments: &str) {
        let out = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&self.0)
            .output()
            .unwrap();
        assert!(out.status.success(), "{arguments}: {}", String::from_utf8_lossy(&out.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// `ca = "…"`
    pub fn ca(&self, name: &str) -> String {
        format!("ca = {:?}\n", self.path(name).to_str().unwrap())
    }

    pub fn broker(&self, test: &str, server: &str, more: &str) -> Option<Mosquitto> {
        self.broker_of_version(test, server, more, None)
    }

    /// With no other version of TLS than those between, by OpenSSL's names.
    pub fn broker_of_version(
        &self,
        test: &str,
        server: &str,
        more: &str,
        versions: Option<(&str, &str)>,
    ) -> Option<Mosquitto> {
        let (least, most) = versions.unwrap_or(("TLSv1.2", "TLSv1.3"));
        // Weak certificates are the tests' business, and no reason for OpenSSL not to start.
        let text = format!(
            "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n\
             MinProtocol = {least}\nMaxProtocol = {most}\nCipherString = DEFAULT@SECLEVEL=0\n"
        );
        self.write("openssl.cnf", text);
        let environment = ("OPENSSL_CONF", self.path("openssl.cnf"));
        let path = |name: &str| self.path(name).display().to_string();
        let options = format!(
            "cafile {}\ncertfile {}\nkeyfile {}\n{more}",
            path("ca.crt"),
            path(&format!("{server}.crt")),
            path(&format!("{server}.key"))
        );
        Mosquitto::start_with(test, &options, vec![environment])
    }

    /// Whether OpenSSL's own client comes to an agreement with these options.
    pub fn agrees(&self, port: u16, options: &[&str]) -> bool {
        Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-CAfile"])
            .arg(self.path("ca.crt"))
            .args(options)
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|out| {
                let said = String::from_utf8_lossy(&out.stdout);
                out.status.success() && !said.contains("Cipher is (NONE)")
            })
    }
}
