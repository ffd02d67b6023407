//! Every Rust file of the workspace, read and parsed once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::paths;

/// The workspace's crates and their files.
pub struct Sources {
    /// In the order of the workspace's manifest.
    pub crates: Vec<Crate>,
}

/// A member of the workspace.
pub struct Crate {
    /// The package's name.
    pub name: String,
    /// Its manifest.
    pub manifest: toml::Table,
    /// Its Rust files.
    pub files: Vec<Source>,
}

/// A Rust file.
pub struct Source {
    /// From the workspace's root, with `/`.
    pub path: String,
    pub text: String,
    pub syntax: syn::File,
}

impl Sources {
    /// Reads them all.
    pub fn read() -> Result<Self> {
        #[derive(Deserialize)]
        struct Manifest {
            workspace: Workspace,
        }
        #[derive(Deserialize)]
        struct Workspace {
            members: Vec<String>,
        }
        let root = paths::workspace();
        let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
        let members = toml::from_str::<Manifest>(&manifest)?.workspace.members;
        let crates = members.iter().map(|dir| Crate::read(&root.join(dir)));
        Ok(Self {
            crates: crates.collect::<Result<_>>()?,
        })
    }

    /// Every file of every crate.
    pub fn files(&self) -> impl Iterator<Item = &Source> {
        self.crates.iter().flat_map(|one| &one.files)
    }
}

impl Crate {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let manifest: toml::Table = toml::from_str(&text)?;
        let name = manifest.get("package").and_then(|p| p.get("name"));
        let name = name.and_then(toml::Value::as_str);
        let mut files = Vec::new();
        for path in rust_files(dir)? {
            files.push(Source::read(&path)?);
        }
        Ok(Self {
            name: name.context("a package without a name")?.to_owned(),
            manifest,
            files,
        })
    }
}

impl Source {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let syntax = syn::parse_file(&text).with_context(|| paths::shown(path))?;
        Ok(Self {
            path: paths::shown(path),
            text,
            syntax,
        })
    }
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
