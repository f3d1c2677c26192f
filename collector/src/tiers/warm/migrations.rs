//! The files of `migrations/`, in the program. By hand instead of by sqlx's macro: that one wants a second build of sqlx and
//! of SQLite, for the machine that compiles.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType};

/// The files of a folder below `migrations`, by name without `.sql`.
macro_rules! files {
    ($folder:literal: $($name:literal)+) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $folder, "/", $name, ".sql")))),+]
    };
}
pub(super) use files;

/// A file's name, as `0001_warm`, and what it says.
pub(super) type File = (&'static str, &'static str);

/// As sqlx reads them.
pub(super) fn migrations(files: &[File]) -> impl Iterator<Item = Migration> {
    files.iter().filter_map(|(name, sql)| {
        let (version, what) = name.split_once('_')?;
        let (version, what) = (version.parse().ok()?, what.replace('_', " "));
        Some(Migration::new(version, what.into(), MigrationType::Simple, sql.into_sql_str(), false))
    })
}

/// Whether the files are all that a folder below `migrations` has.
#[cfg(test)]
pub(super) fn are_all_of(folder: &str, files: &[File]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut there: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".sql")?.to_owned())).collect();
    there.sort_unstable();
    assert_eq!(files.iter().map(|(name, _)| *name).collect::<Vec<_>>(), there);
    assert_eq!(migrations(files).count(), files.len(), "each has a number");
}
