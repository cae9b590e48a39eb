use std::path::PathBuf;

/// What is wrong with the configuration; each ends the program with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("no configuration found; looked at {}; name one with --config", .looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    Missing { looked: Vec<PathBuf> },
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: line {line}: unknown key `{key}`{}", .path.display(), .nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey { path: PathBuf, line: usize, key: String, nearest: Option<String> },
    #[error("{}: line {line}: {message}", .path.display())]
    Invalid { path: PathBuf, line: usize, message: String },
}
