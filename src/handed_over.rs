//! Files that only root can read, and their copies for a service with a user of its own.
//!
//! The unit has root copy what is in /etc/snapring, at each start and each reload, and names the copies'
//! directory in `$SNAPRING_HANDED_OVER`. systemd's own credentials stand in for files too, by their names.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::paths::CONFIGURATION_DIRECTORY;
use crate::regular_file;

/// Opens a file, or the copy of it if this user may not read it. A file that is missing, or is something
/// else, has no copy: then what names it is wrong.
///
/// # Errors
/// When neither can be opened; of the file itself.
pub(crate) fn open(
    path: &Path,
    variable: impl Fn(&str) -> Option<OsString>,
) -> io::Result<(File, Origin)> {
    let error = match regular_file::open(path) {
        Ok(file) => return Ok((file, Origin::Itself)),
        Err(error) => error,
    };
    let copies = match error.kind() {
        ErrorKind::PermissionDenied => copies(path, variable),
        _ => Vec::new(),
    };
    let copy = copies.iter().find_map(|copy| regular_file::open(copy).ok());
    copy.map(|file| (file, Origin::Copy)).ok_or(error)
}

/// The names in a directory, or those in the copy of it if this user may not read it.
///
/// # Errors
/// When neither can be read; of the directory itself.
pub(crate) fn names_in(
    directory: &Path,
    variable: impl Fn(&str) -> Option<OsString>,
) -> io::Result<Vec<OsString>> {
    let names = |path: &Path| -> io::Result<Vec<OsString>> {
        // The empty path is the working directory, as it is for files.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    names(directory).or_else(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            let copies = copies(directory, variable);
            copies.iter().find_map(|copy| names(copy).ok()).ok_or(error)
        }
        _ => Err(error),
    })
}

/// What was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file that was named.
    Itself,
    /// A copy that was handed over.
    Copy,
}

/// Where there may be copies of a file.
fn copies(path: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let directory = |name| variable(name).map(PathBuf::from).filter(|it| it.is_absolute());
    let inside = path.strip_prefix(CONFIGURATION_DIRECTORY).ok();
    let by_root = directory("SNAPRING_HANDED_OVER").map(|it| it.join("files")).zip(inside);
    let by_systemd = directory("CREDENTIALS_DIRECTORY").zip(path.file_name().map(Path::new));
    [by_root, by_systemd].into_iter().flatten().map(|(from, name)| from.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::as_nobody;

    #[test]
    fn copies_are_looked_for_by_place_and_by_name() {
        let variable = |name: &str| match name {
            "SNAPRING_HANDED_OVER" => Some("/run/copies".into()),
            "CREDENTIALS_DIRECTORY" => Some("/run/credentials/x".into()),
            _ => None,
        };
        let of = |path: &str| -> Vec<String> {
            let copies = copies(Path::new(path), variable);
            copies.iter().map(|it| it.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            of("/etc/snapring/conf.d/hook.url"),
            ["/run/copies/files/conf.d/hook.url", "/run/credentials/x/hook.url"]
        );
        assert_eq!(of("/srv/hook.url"), ["/run/credentials/x/hook.url"]);
        assert!(copies(Path::new("/etc/snapring/x"), |_| Some("relative".into())).is_empty());
    }

    #[test]
    fn a_copy_stands_in_for_what_this_user_may_not_read_and_for_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        mode(directory.path(), 0o755);
        let credentials = directory.path().join("credentials");
        std::fs::create_dir(&credentials).unwrap();
        mode(&credentials, 0o755);
        let file = directory.path().join("hook.url");
        std::fs::write(&file, "itself").unwrap();
        std::fs::write(credentials.join("hook.url"), "copy").unwrap();
        mode(&credentials.join("hook.url"), 0o644);
        let variable = |name: &str| {
            (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone().into_os_string())
        };
        let said = |path: &Path, variable: &dyn Fn(&str) -> Option<OsString>| {
            let (mut opened, origin) = open(path, variable).map_err(|it| it.kind())?;
            let mut text = String::new();
            opened.read_to_string(&mut text).unwrap();
            Ok::<_, ErrorKind>((text, origin))
        };
        mode(&file, 0o644);
        as_nobody(|| {
            let found = said(&file, &variable);
            assert_eq!(found, Ok(("itself".to_owned(), Origin::Itself)));
        });
        mode(&file, 0o600);
        as_nobody(|| {
            let found = said(&file, &variable);
            assert_eq!(found, Ok(("copy".to_owned(), Origin::Copy)));
            assert_eq!(said(&file, &|_| None), Err(ErrorKind::PermissionDenied));
        });
        let included = directory.path().join("conf.d");
        std::fs::create_dir(&included).unwrap();
        std::fs::create_dir(credentials.join("conf.d")).unwrap();
        std::fs::write(included.join("itself.toml"), "").unwrap();
        std::fs::write(credentials.join("conf.d/copy.toml"), "").unwrap();
        mode(&credentials.join("conf.d"), 0o755);
        for (of_the_directory, names) in [(0o755, ["itself.toml"]), (0o700, ["copy.toml"])] {
            mode(&included, of_the_directory);
            as_nobody(|| assert_eq!(names_in(&included, variable).unwrap(), names));
        }
        std::fs::remove_file(&file).unwrap();
        as_nobody(|| assert_eq!(said(&file, &variable), Err(ErrorKind::NotFound)));
    }
}
