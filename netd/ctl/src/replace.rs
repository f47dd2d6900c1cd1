//! Files that appear whole or not at all, however it ends.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process,
};

/// Writes a file beside where it is to be, and then puts it there: who watches the directory sees
/// one event, the rename, and who executes the old file meanwhile goes on with it.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // No runtime reads a name that ends so.
    let unfinished = path.with_file_name(format!(".{name}.{}.tmp", process::id()));
    let written = write(&unfinished, content, mode).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        fs::remove_file(&unfinished).ok();
        return written;
    }
    // The rename itself is on the disk when its directory is.
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all())
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}
