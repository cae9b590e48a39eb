//! Certificates as people make them, by OpenSSL, in a folder of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::mosquitto::Mosquitto;

pub struct Authority(tempfile::TempDir);

/// For `x509 -req`: thirty days from now.
pub const VALID: &str = "-days 30";

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
        self.openssl(&format!(
            "req {key} -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        let extended = if extensions.is_empty() {
            String::new()
        } else {
            std::fs::write(self.path("ext"), extensions).unwrap();
            "-extfile ext".to_owned()
        };
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial -out {name}.crt {extended} {options}"
        ));
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
