// SPDX-License-Identifier: Apache-2.0
//! Resources as protobuf text and as JSON, and the sizes and columns that people read.

use std::fmt::Write as _;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::resource::Resource;
use crate::inode::Xattr;

/// Writes a resource in protobuf's text format, with the field names of `protos/manifest.proto`.
///
/// # Errors
/// What the underlying writer gives.
pub fn write_text(resource: &Resource, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::from("resource {\n");
    for path in &resource.paths {
        string(&mut text, 1, "path", path);
    }
    number(&mut text, "uid", resource.uid.into());
    number(&mut text, "gid", resource.gid.into());
    some_string(&mut text, "user", &resource.user);
    some_string(&mut text, "group", &resource.group);
    number(&mut text, "mode", resource.mode.bits().into());
    number(&mut text, "size", resource.size);
    if let Some(digest) = &resource.digest {
        string(&mut text, 1, "digest", &digest.text());
    }
    some_string(&mut text, "target", &resource.target);
    number(&mut text, "major", resource.device.0);
    number(&mut text, "minor", resource.device.1);
    for xattr in &resource.xattrs {
        text.push_str("  xattr {\n");
        string(&mut text, 2, "name", &xattr.name);
        if !xattr.value.is_empty() {
            string(&mut text, 2, "data", &xattr.value);
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    out.write_all(text.as_bytes())
}

fn number(text: &mut String, name: &str, value: u64) {
    if value != 0 {
        let _ = writeln!(text, "  {name}: {value}");
    }
}

fn some_string(text: &mut String, name: &str, value: &[u8]) {
    if !value.is_empty() {
        string(text, 1, name, value);
    }
}

/// A quoted string; what is neither printable nor valid UTF-8 becomes an octal escape, which every parser reads.
fn string(text: &mut String, depth: usize, name: &str, value: &[u8]) {
    let _ = write!(text, "{:1$}{name}: \"", "", 2 * depth);
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '"' | '\\' => text.extend(['\\', c]),
                c if c.is_ascii_control() => octal(text, c as u8),
                c if c.is_control() => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| octal(text, byte)),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|&byte| octal(text, byte));
    }
    text.push_str("\"\n");
}

fn octal(text: &mut String, byte: u8) {
    let _ = write!(text, "\\{byte:03o}");
}

/// Writes manifests as one JSON document in protobuf's JSON mapping: `{"resource":[…]}`, a resource a line. Names
/// that are not UTF-8 stand twice: readable, and exactly in a field of the same name with `Bytes` (base64).
pub struct JsonWriter<W> {
    out: W,
    any: bool,
}

impl<W: Write> JsonWriter<W> {
    /// Begins the document.
    ///
    /// # Errors
    /// What the underlying writer gives.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"{\"resource\":[")?;
        Ok(Self { out, any: false })
    }

    /// Writes a resource.
    ///
    /// # Errors
    /// What the underlying writer gives.
    pub fn write(&mut self, resource: &Resource) -> io::Result<()> {
        self.out.write_all(if self.any { b",\n" } else { b"\n" })?;
        self.any = true;
        serde_json::to_writer(&mut self.out, &json_of(resource)).map_err(io::Error::from)
    }

    /// Ends the document.
    ///
    /// # Errors
    /// What the underlying writer gives.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()
    }
}

fn json_of(resource: &Resource) -> Value {
    let mut map = Map::new();
    map.insert("path".into(), resource.paths.iter().map(|path| lossy(path)).collect());
    if resource.paths.iter().any(|path| std::str::from_utf8(path).is_err()) {
        map.insert("pathBytes".into(), resource.paths.iter().map(|path| STANDARD.encode(path)).collect());
    }
    let mut put = |name: &str, value: Value| {
        if value != json!(0) && value != json!("") {
            map.insert(name.into(), value);
        }
    };
    put("uid", resource.uid.into());
    put("gid", resource.gid.into());
    put("user", lossy(&resource.user).into());
    put("group", lossy(&resource.group).into());
    put("mode", resource.mode.bits().into());
    put("size", resource.size.into());
    if let Some(digest) = &resource.digest {
        put("digest", json!([digest.to_string()]));
    }
    put("target", lossy(&resource.target).into());
    if std::str::from_utf8(&resource.target).is_err() {
        put("targetBytes", STANDARD.encode(&resource.target).into());
    }
    put("major", resource.device.0.into());
    put("minor", resource.device.1.into());
    if !resource.xattrs.is_empty() {
        let xattr = |x: &Xattr| match x.value.is_empty() {
            true => json!({"name": lossy(&x.name)}),
            false => json!({"name": lossy(&x.name), "data": STANDARD.encode(&x.value)}),
        };
        put("xattr", resource.xattrs.iter().map(xattr).collect());
    }
    Value::Object(map)
}

/// Bytes as a JSON string, what is not UTF-8 replaced.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A size in SI units as the reference prints it: under 10 bytes `N B`, else the largest unit, one decimal under 10.
pub fn si_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut exponent = 0;
    let mut unit = 1u64;
    while exponent + 1 < UNITS.len() && bytes / 1000 >= unit {
        unit *= 1000;
        exponent += 1;
    }
    let value = (bytes as f64 / unit as f64 * 10.0 + 0.5).floor() / 10.0;
    match value < 10.0 {
        true => format!("{value:.1} {}", UNITS[exponent]),
        false => format!("{value:.0} {}", UNITS[exponent]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_references() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (12_345, "12 kB"),
            (999_999, "1000 kB"),
            (1_048_577, "1.0 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(si_size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn strings_of_the_text_form_stay_on_their_line() {
        let mut text = String::new();
        string(&mut text, 1, "path", b"/a\n\"\\\x01\xff \xc3\xbc");
        assert_eq!(text, "  path: \"/a\\n\\\"\\\\\\001\\377 ü\"\n");
    }
}
