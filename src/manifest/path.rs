// SPDX-License-Identifier: Apache-2.0
//! What may stand as a path in a manifest.

/// Longest path in bytes. A tree that nests 255-byte names 10,000 deep fits; the limit bounds what a hostile
/// manifest can make us hold.
pub const PATH_MAX: usize = 4 << 20;

/// Most components of a path.
pub const DEPTH_MAX: usize = 1 << 16;

/// The root of the tree, recorded only on request.
pub const ROOT: &[u8] = b"/";

/// Says what is wrong with a path: it must begin with `/` and hold only named components.
pub fn flaw(path: &[u8]) -> Option<&'static str> {
    if path.len() > PATH_MAX {
        return Some("is longer than 4 MiB");
    }
    let Some(rest) = path.strip_prefix(b"/") else {
        return Some("does not begin with \"/\"");
    };
    if rest.is_empty() {
        return None;
    }
    let mut depth = 0;
    for component in rest.split(|&b| b == b'/') {
        depth += 1;
        match component {
            b"" => return Some("has an empty component"),
            b"." | b".." => return Some("has a component \".\" or \"..\""),
            name if name.contains(&0) => return Some("holds a NUL byte"),
            _ if depth > DEPTH_MAX => return Some("has more than 65,536 components"),
            _ => {}
        }
    }
    None
}

/// Whether a path may stand in a manifest.
pub fn is_clean(path: &[u8]) -> bool {
    flaw(path).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_absolute_paths_pass() {
        for good in ["/", "/a", "/a/b", "/...", "/a b", "/\u{1}", "/-"] {
            assert_eq!(flaw(good.as_bytes()), None, "{good}");
        }
        for bad in ["", "a", "a/b", "//", "/a/", "/a//b", "/.", "/..", "/a/../b", "/a/./b", "/a\0b"] {
            assert!(flaw(bad.as_bytes()).is_some(), "{bad:?}");
        }
        assert!(flaw(&b"/a".repeat(1_000_000)).is_some());
        assert!(flaw(&[&b"/"[..], &vec![b'n'; PATH_MAX]].concat()).is_some());
        assert!(is_clean(&[&b"/"[..], &vec![b'n'; 255]].concat().repeat(10_000)));
    }
}
