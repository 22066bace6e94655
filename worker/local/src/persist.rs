//! What survives a restart: the world, the secrets and DynamoDB's tables, each in a file of the data
//! directory (DynamoDB's items lie in its own database there).
//!
//! A file is written beside its place, flushed to the disk and moved over the old one, so a crash leaves
//! the old or the new and never half of either. A file that cannot be understood is refused, never
//! replaced by an empty world.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use awsim_core::ServiceHandler;
use awsim_dynamodb::DynamoDbService;
use lamplighter_cloud::World;
use serde::{Deserialize, Serialize};

use crate::options::LocalError;
use crate::shared::Shared;

/// Rises when an older reader could not read what is written.
const VERSION: u32 = 1;
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

#[derive(Deserialize)]
struct Stored {
    version: u32,
    world: World,
}

#[derive(Serialize)]
struct Storing<'a> {
    version: u32,
    world: &'a World,
}

/// The data directory and who has something in it.
pub(crate) struct Store {
    dir: PathBuf,
    /// File name and service, for those that snapshot themselves.
    pub(crate) services: Vec<(&'static str, Arc<dyn ServiceHandler>)>,
}

impl Store {
    /// Makes the directory where it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, LocalError> {
        std::fs::create_dir_all(dir).map_err(|source| failed("create", dir, source))?;
        Ok(Self { dir: dir.to_owned(), services: Vec::new() })
    }

    /// DynamoDB with its database in this directory.
    pub(crate) fn dynamodb(&self) -> Result<DynamoDbService, LocalError> {
        let path = self.dir.join("dynamodb.db");
        match File::open(&path) {
            Ok(mut file) => {
                let mut head = Vec::new();
                std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, 16), &mut head)
                    .map_err(|source| failed("read", &path, source))?;
                if !head.is_empty() && head != SQLITE_MAGIC {
                    return Err(damaged(&path, "not a SQLite database"));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(failed("read", &path, source)),
        }
        // The crate panics where its database cannot be opened; a damaged file is no bug of ours.
        let dir = self.dir.clone();
        std::panic::catch_unwind(move || DynamoDbService::with_data_dir(&dir))
            .map_err(|_| damaged(&path, "its database cannot be opened"))
    }

    /// The stored world, if there is one.
    pub(crate) fn world(&self, account: &str, region: &str) -> Result<Option<World>, LocalError> {
        let path = self.dir.join("world.json");
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&path, &error.to_string()))?;
        if stored.version != VERSION {
            let reason = format!("version {}, expected {VERSION}", stored.version);
            return Err(damaged(&path, &reason));
        }
        if stored.world.account != account || stored.world.region != region {
            return Err(LocalError::Foreign {
                path,
                stored: format!("{} in {}", stored.world.account, stored.world.region),
                wanted: format!("{account} in {region}"),
            });
        }
        Ok(Some(stored.world))
    }

    /// Gives each service its snapshot back, where there is one.
    pub(crate) fn restore_services(&self) -> Result<(), LocalError> {
        for (name, service) in &self.services {
            let path = self.dir.join(name);
            if let Some(bytes) = read(&path)? {
                service.restore(&bytes).map_err(|reason| damaged(&path, &reason))?;
            }
        }
        Ok(())
    }

    /// Writes everything. Blocking; the world's lock is held only while it is turned into bytes.
    pub(crate) fn save(&self, shared: &Shared) -> Result<(), LocalError> {
        let path = self.dir.join("world.json");
        let bytes = shared
            .read(|world, _| serde_json::to_vec(&Storing { version: VERSION, world }))
            .map_err(|error| failed("write", &path, error.into()))?;
        replace(&path, &bytes)?;
        for (name, service) in &self.services {
            if let Some(bytes) = service.snapshot() {
                replace(&self.dir.join(name), &bytes)?;
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, LocalError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), LocalError> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| failed("write", path, source))
}

fn failed(verb: &'static str, path: &Path, source: std::io::Error) -> LocalError {
    LocalError::File { verb, path: path.to_owned(), source }
}

fn damaged(path: &Path, reason: &str) -> LocalError {
    LocalError::Damaged { path: path.to_owned(), reason: reason.to_owned() }
}
