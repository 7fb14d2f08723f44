// SPDX-License-Identifier: Apache-2.0
//! Trees, one over the other, as overlayfs shows them.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use super::Found;
use super::tree::{Inode, Name, ROOT, Tree};
use crate::error::{Error, ErrorKind, Result};
use crate::inode::FileType;
use crate::manifest::Writer;

/// The directories that make up one, topmost first: which tree, which inode.
pub type Stack = Vec<(usize, u32)>;

/// Takes a path, and which inode of which tree it shows.
type Visit<'a> = dyn FnMut(&[u8], usize, u32) -> Result<()> + 'a;

/// What a name shows: the name itself, and what is merged if it is a directory.
#[derive(Clone)]
pub struct Shown {
    pub tree: usize,
    pub name: Name,
    pub stack: Stack,
}

/// See the [module](self).
pub struct Merged<'a> {
    /// From the bottom.
    trees: &'a [Tree],
}

impl<'a> Merged<'a> {
    pub fn new(trees: &'a [Tree]) -> Self {
        Self { trees }
    }

    fn inode(&self, tree: usize, inode: u32) -> &'a Inode {
        self.trees[tree].inode(inode)
    }

    /// One tree is a directory; only several are an overlay.
    fn is_overlay(&self) -> bool {
        self.trees.len() > 1
    }

    /// The roots: a mark that a root is opaque means nothing to overlayfs.
    pub fn root(&self) -> Stack {
        (0..self.trees.len()).rev().map(|tree| (tree, ROOT)).collect()
    }

    /// What a name in a directory shows.
    pub fn look_up(&self, directory: &[(usize, u32)], name: &[u8]) -> Option<Shown> {
        let mut shown: Option<Shown> = None;
        for &(tree, above) in directory {
            let Some(found) = self.trees[tree].look_up(above, name) else { continue };
            let inode = self.inode(tree, found.inode);
            let is_directory = inode.file_type() == FileType::Directory;
            match &mut shown {
                None if self.is_overlay() && inode.is_whiteout() => return None,
                None if is_directory => {
                    shown = Some(Shown { tree, name: found, stack: vec![(tree, found.inode)] });
                }
                None => return Some(Shown { tree, name: found, stack: Vec::new() }),
                Some(shown) if is_directory => shown.stack.push((tree, found.inode)),
                Some(_) => break,
            }
            if inode.is_opaque() {
                break;
            }
        }
        shown
    }

    /// Everything that a directory shows, by name.
    pub fn list(&self, directory: &[(usize, u32)]) -> BTreeMap<&'a [u8], Shown> {
        let mut listed = BTreeMap::new();
        for &(tree, above) in directory {
            for (name, _) in self.trees[tree].names(above) {
                if !listed.contains_key(name) {
                    listed.insert(name, self.look_up(directory, name));
                }
            }
        }
        listed.into_iter().filter_map(|(name, shown)| Some((name, shown?))).collect()
    }

    /// What a path leads to: the name itself, and what is merged if it is a directory.
    fn resolve(&self, path: &[u8]) -> Option<Shown> {
        let mut stack = self.root();
        let mut found = None;
        for component in path.strip_prefix(b"/")?.split(|&byte| byte == b'/') {
            let mut shown = self.look_up(&stack, component)?;
            stack = std::mem::take(&mut shown.stack);
            found = Some(shown);
        }
        found.map(|found| Shown { stack, ..found })
    }

    /// The name at a path.
    pub fn find_name(&self, path: &[u8]) -> Option<Name> {
        self.resolve(path).map(|shown| shown.name)
    }

    /// Whether paths lead to one inode.
    pub fn are_one(&self, paths: &[Vec<u8>]) -> bool {
        let inode = |path: &Vec<u8>| self.resolve(path).map(|shown| (shown.tree, shown.name.inode));
        let mut inodes = paths.iter().map(inode);
        let first = inodes.next().flatten();
        first.is_some() && inodes.all(|inode| inode == first)
    }

    /// All paths that lead where one of them does.
    pub fn paths_of(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let Some(shown) = self.resolve(path) else { return Vec::new() };
        let (tree, inode) = (shown.tree, shown.name.inode);
        if !self.has_links(tree, inode) {
            return vec![path.to_vec()];
        }
        let mut paths = Vec::new();
        let walked = self.walk(&mut |path, other, number| {
            if (other, number) == (tree, inode) {
                paths.push(path.to_vec());
            }
            Ok(())
        });
        debug_assert!(walked.is_ok(), "nothing fails");
        paths
    }

    /// The names in a directory, the root by no name at all; none of anything else.
    pub fn names(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let stack = match directory {
            b"" => self.root(),
            path => self.resolve(path).map(|shown| shown.stack).unwrap_or_default(),
        };
        self.list(&stack).into_keys().map(<[u8]>::to_vec).collect()
    }

    /// What lies at a path.
    pub fn find(&self, path: &[u8]) -> Option<Found> {
        let Shown { tree, name, .. } = self.resolve(path)?;
        let inode = self.inode(tree, name.inode);
        Some(Found {
            resource: inode.resource(vec![path.to_vec()], self.is_overlay()),
            layer: inode.layer.max(name.layer) as usize,
        })
    }

    /// Writes the manifest; returns the number of paths.
    pub fn write(&self, out: impl Write) -> Result<u64> {
        let failed = |error| Error::new(ErrorKind::Io, "writing the manifest").with_source(error);
        let mut links: HashMap<(usize, u32), Vec<Vec<u8>>> = HashMap::new();
        self.walk(&mut |path, tree, number| {
            if self.has_links(tree, number) {
                links.entry((tree, number)).or_default().push(path.to_vec());
            }
            Ok(())
        })?;
        let mut writer = Writer::new(out);
        let mut entries = 0;
        self.walk(&mut |path, tree, number| {
            entries += 1;
            let paths = match self.has_links(tree, number) {
                // The first path stands for all of them.
                true => match links.remove(&(tree, number)) {
                    Some(paths) => paths,
                    None => return Ok(()),
                },
                false => vec![path.to_vec()],
            };
            writer.write(&self.inode(tree, number).resource(paths, self.is_overlay())).map(drop).map_err(failed)
        })?;
        Ok(entries)
    }

    /// Whether a manifest groups the paths that lead to it.
    fn has_links(&self, tree: usize, number: u32) -> bool {
        let inode = self.inode(tree, number);
        inode.links > 1 && !matches!(inode.file_type(), FileType::Directory | FileType::Symlink)
    }

    /// Visits every path in path order: within a directory, `name` stands for the entry, `name/` for what lies in it.
    fn walk(&self, visit: &mut Visit<'_>) -> Result<()> {
        let mut path = Vec::new();
        let mut frames = vec![Frame::new(self.list(&self.root()), 0)];
        while let Some(frame) = frames.last_mut() {
            path.truncate(frame.path);
            match frame.steps.pop() {
                None => drop(frames.pop()),
                Some((name, Step::Entry(tree, inode))) => {
                    path.push(b'/');
                    path.extend_from_slice(&name);
                    visit(&path, tree, inode)?;
                }
                Some((mut name, Step::Directory(stack))) => {
                    name.pop();
                    path.push(b'/');
                    path.extend_from_slice(&name);
                    frames.push(Frame::new(self.list(&stack), path.len()));
                }
            }
        }
        Ok(())
    }
}

enum Step {
    Entry(usize, u32),
    Directory(Stack),
}

/// A directory that is walked: its steps, last first, and the length of its path.
struct Frame {
    steps: Vec<(Vec<u8>, Step)>,
    path: usize,
}

impl Frame {
    fn new(listed: BTreeMap<&[u8], Shown>, path: usize) -> Self {
        let mut steps = Vec::with_capacity(listed.len());
        for (name, Shown { tree, name: shown, stack }) in listed {
            if !stack.is_empty() {
                steps.push(([name, b"/"].concat(), Step::Directory(stack)));
            }
            steps.push((name.to_vec(), Step::Entry(tree, shown.inode)));
        }
        steps.sort_by(|a, b| b.0.cmp(&a.0));
        Self { steps, path }
    }
}
