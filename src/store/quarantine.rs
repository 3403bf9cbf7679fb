//! A damaged file is put aside, so that history goes on in a new one. It is never deleted: a person
//! may still get something out of it. One that never was a database is not snapring's, and stays.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::regular_file;

/// Whether a file that is no database now was one: it begins as they do, or as a file of which a
/// power cut took the beginning. One that cannot be read, or begins with anything else, is not said
/// to have been.
pub(super) fn was_a_database(file: &Path) -> bool {
    const BEGINNING: &[u8; 16] = b"SQLite format 3\0";
    let mut found = [0; BEGINNING.len()];
    let read = regular_file::open(file).and_then(|mut file| file.read_exact(&mut found));
    read.is_ok() && (&found == BEGINNING || found == [0; BEGINNING.len()])
}

/// Renames the file, and what SQLite keeps beside it; gives its new name.
///
/// # Errors
/// When it cannot be renamed; then it is where it was.
pub(super) fn put_aside(file: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let suffix = format!(".damaged-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let with = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = with(file, &suffix);
    if aside.symlink_metadata().is_ok() {
        // Another one in the same second: nothing is written over.
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // First what belongs to it: SQLite would take the log for that of the new file.
    for end in ["-wal", "-shm"] {
        match std::fs::rename(with(file, end), with(&aside, end)) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
            _ => {}
        }
    }
    std::fs::rename(file, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_as_a_database_or_with_nothing_was_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        assert!(!was_a_database(&path));
        for (bytes, was) in [
            (&b"SQLite format 3\0 and more"[..], true),
            (&[0; 4096][..], true),
            (b"[[server]]\nid = 101\nkeep = 3\n", false),
            (b"short", false),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(was_a_database(&path), was, "{bytes:?}");
        }
    }

    #[test]
    fn what_belongs_to_a_file_goes_with_it_and_nothing_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let write = |text: &str| {
            std::fs::write(path("a.db"), text).unwrap();
            std::fs::write(path("a.db-wal"), format!("log of {text}")).unwrap();
        };
        write("first");
        let aside = put_aside(&path("a.db"), now).unwrap();
        assert_eq!(aside, path("a.db.damaged-20261125T120000Z"));
        assert!(!path("a.db").exists() && !path("a.db-wal").exists());
        write("second");
        assert!(put_aside(&path("a.db"), now).is_err());
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!(read("a.db.damaged-20261125T120000Z-wal"), "log of first");
        assert_eq!((read("a.db"), read("a.db-wal")), ("second".into(), "log of second".into()));
    }
}
