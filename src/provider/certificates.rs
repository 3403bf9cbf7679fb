//! The CA certificates that connections trust: where they are looked for, and whether that can be read.
//!
//! The library that reads them would wait for a pipe, and read a device for ever.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::regular_file;

/// Those of a whole system take some 300 kB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The variables that say where they are.
const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// Whether what the variables name can be read in bounded time and memory. What is missing is found out by the library.
///
/// # Errors
/// Says which cannot.
pub(crate) fn check(variable: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
    let found = |name: &str, path: &Path| match bounded(path) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::FileTooLarge) => {
            let path = path.to_string_lossy();
            Err(format!("the CA certificates of ${name} ({}): {error}", path.escape_debug()))
        }
        _ => Ok(()),
    };
    if let Some(file) = variable(FILE) {
        found(FILE, Path::new(&file))?;
    }
    for directory in variable(DIRECTORIES).iter().flat_map(std::env::split_paths) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        // Others than regular files are passed over by the library, too.
        for file in entries.map(|entry| entry.path()).filter(|path| path.is_file()) {
            found(DIRECTORIES, &file)?;
        }
    }
    Ok(())
}

fn bounded(path: &Path) -> io::Result<()> {
    match regular_file::open(path)?.metadata()?.len() {
        ..=MAX_FILE_BYTES => Ok(()),
        _ => {
            let reason = format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20);
            Err(io::Error::new(ErrorKind::FileTooLarge, reason))
        }
    }
}

/// What is missing, and where it was looked for.
pub(crate) fn none_found(variable: impl Fn(&str) -> Option<OsString>) -> String {
    let named: Vec<String> = [FILE, DIRECTORIES]
        .into_iter()
        .filter_map(|name| Some((name, variable(name)?)))
        .map(|(name, value)| format!("${name} ({})", value.to_string_lossy().escape_debug()))
        .collect();
    let (places, advice) = if named.is_empty() {
        let places = "/etc/ssl/certs, /etc/pki and the other usual places".to_owned();
        (places, "install the package ca-certificates, or set SSL_CERT_FILE")
    } else {
        (named.join(" and "), "correct or unset what is named")
    };
    format!(
        "there are no CA certificates, without which no TLS connection can be trusted; looked in {places}: {advice}"
    )
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_would_never_end_is_refused_and_what_is_missing_is_left_to_the_library() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let of = |name: &'static str, path: &Path| {
            let path = path.to_owned();
            check(move |variable| (variable == name).then(|| path.clone().into())).err()
        };
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        std::fs::write(path("good.pem"), "x").unwrap();
        for good in ["good.pem", "none"] {
            assert_eq!(of(FILE, &path(good)), None);
        }
        assert_eq!(of(DIRECTORIES, directory.path()), None, "the library passes the pipe over");
        let pipe = of(FILE, &path("pipe")).unwrap();
        assert!(pipe.starts_with("the CA certificates of $SSL_CERT_FILE ("), "{pipe}");
        assert!(pipe.ends_with("it is a pipe, not a regular file"), "{pipe}");
        assert!(of(FILE, Path::new("/dev/zero")).unwrap().contains("a device"));
        std::fs::File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        for (name, at) in [(FILE, path("sparse")), (DIRECTORIES, path(""))] {
            let large = of(name, &at).unwrap();
            assert!(large.ends_with("it is larger than 16 MiB"), "{large}");
        }
    }
}
