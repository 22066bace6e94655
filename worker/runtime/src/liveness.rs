//! A sign that a worker's receive loop turns, for whoever restarts one that hangs: a file's modification time.
//!
//! *Theory.* The loop turns at least with each long poll, also while AWS does not answer. It does not turn while no
//! slot becomes free, nor where the process hangs. The sign is a file, since a container without a shell and a host
//! without a port can both be asked for it, and a write to one costs nothing.
//!
//! *Not here.* Who looks, and what is too old (the binary's `health`).

use std::fs::File;
use std::io;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What the receive loop touches with each turn.
#[derive(Debug, Clone, Default)]
pub struct Liveness(Option<Arc<Mutex<File>>>);

impl Liveness {
    /// A sign at this path, which is given at once.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn at(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        touch(&mut file)?;
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }

    /// The loop has turned.
    pub(crate) fn give(&self) {
        let Some(file) = &self.0 else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = touch(&mut file) {
            tracing::warn!(%error, "the liveness file cannot be written");
        }
    }
}

/// The same byte again: the system notes the time, and the file does not grow.
fn touch(file: &mut File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_turn_is_a_newer_time_and_the_file_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alive");
        let liveness = Liveness::at(&path).unwrap();
        let told = || std::fs::metadata(&path).unwrap().modified().unwrap();
        let first = told();
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(20));
            liveness.give();
            if told() > first {
                assert_eq!(std::fs::metadata(&path).unwrap().len(), 1);
                return;
            }
        }
        panic!("the time never changed");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_and_none_is_no_trouble() {
        assert!(Liveness::at(Path::new("/nowhere/at/all")).is_err());
        Liveness::default().give();
    }
}
