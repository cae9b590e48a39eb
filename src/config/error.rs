use std::io::ErrorKind;
use std::path::PathBuf;

/// What is wrong with the configuration; each ends the program with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("no configuration found; looked at {}; name one with --config", .looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    Missing { looked: Vec<PathBuf> },
    #[error("configuration {}: {}", .path.display(), unreadable(.source))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: line {line}: {message}", .path.display())]
    Invalid { path: PathBuf, line: usize, message: String },
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file; --config FILE names another".to_owned(),
        ErrorKind::PermissionDenied => {
            "this user may not read it; `sudo -u familiar familiar …` runs as the daemon does"
                .to_owned()
        }
        ErrorKind::InvalidData => format!("{error}; it is a small TOML file in UTF-8"),
        _ => error.to_string(),
    }
}
