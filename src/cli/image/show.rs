// SPDX-License-Identifier: Apache-2.0
//! What verifying an image tells, on standard output.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::verify::{Format, json_of};
use crate::containerd::Platform;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::image::{ImageEvent, ImageFinding, LayerRef, SharedLayer};
use crate::inode::FileType;
use crate::manifest::Resource;
use crate::manifest::text::lossy;
use crate::ops::VerifyReport;

/// Shows events as they come: each finding, then the verdict on the image in that snapshotter.
pub struct Events {
    format: Format,
    image: String,
    snapshotter: String,
    platform: Option<Platform>,
}

impl Events {
    /// Nothing shown yet.
    pub fn new(format: Format) -> Self {
        Self { format, image: String::new(), snapshotter: String::new(), platform: None }
    }

    /// Shows one.
    ///
    /// # Errors
    /// Standard output can't be written to.
    pub fn show(&mut self, event: ImageEvent) -> Result<()> {
        match event {
            ImageEvent::Begin { image, snapshotter, platform } => {
                (self.image, self.snapshotter, self.platform) = (image, snapshotter, platform);
                Ok(())
            }
            ImageEvent::Finding(finding) => self.finding(&finding),
            ImageEvent::End { report, shared } => self.end(&report, &shared),
            ImageEvent::Unchecked(error) => match self.format {
                Format::Text => line(format_args!("{}: could not be checked: {error}", self.subject())),
                Format::Json => {
                    let mut object = self.object();
                    object["verdict"] = "unchecked".into();
                    object["error"] = error.to_string().into();
                    line(object)
                }
            },
        }
    }

    fn finding(&self, found: &ImageFinding) -> Result<()> {
        match (self.format, &found.layer) {
            (Format::Text, Some(layer)) => line(format_args!("{} ({layer})", found.finding)),
            (Format::Text, None) => line(&found.finding),
            (Format::Json, layer) => {
                let mut object = json_of(&found.finding);
                object["layer"] = layer.as_ref().map(layer_json).into();
                object["image"] = self.image.as_str().into();
                object["snapshotter"] = self.snapshotter.as_str().into();
                object["platform"] = self.platform.as_ref().map(Platform::to_string).into();
                line(object)
            }
        }
    }

    fn end(&self, report: &VerifyReport, shared: &[SharedLayer]) -> Result<()> {
        let VerifyReport { entries, bytes, findings } = *report;
        let verdict = if findings == 0 { "intact" } else { "damaged" };
        if self.format == Format::Json {
            let mut object = self.object();
            object["verdict"] = verdict.into();
            object["entries"] = entries.into();
            object["bytes"] = bytes.into();
            object["findings"] = findings.into();
            let shared = shared.iter().map(|one| json!({ "layer": layer_json(&one.layer), "images": one.images }));
            object["shared"] = shared.collect::<Vec<_>>().into();
            return line(object);
        }
        for SharedLayer { layer, images } in shared {
            let images: Vec<_> = images.iter().map(|image| Escaped(image.as_bytes()).to_string()).collect();
            line(format_args!("layer {} {} is also in {}", layer.number, layer.digest, images.join(", ")))?;
        }
        line(format_args!("{}: {verdict}, {entries} entries, {findings} findings", self.subject()))
    }

    fn subject(&self) -> String {
        subject(&self.image, &self.snapshotter, self.platform.as_ref())
    }

    fn object(&self) -> Value {
        let platform = self.platform.as_ref().map(Platform::to_string);
        json!({ "image": self.image, "snapshotter": self.snapshotter, "platform": platform })
    }
}

/// Image and snapshotter, for a person; the platform, if it is not this machine's.
pub fn subject(image: &str, snapshotter: &str, platform: Option<&Platform>) -> String {
    let mut text = Escaped(image.as_bytes()).to_string();
    if !snapshotter.is_empty() {
        text = format!("{text} in {}", Escaped(snapshotter.as_bytes()));
    }
    match platform.filter(|platform| **platform != Platform::host()) {
        Some(platform) => format!("{text} ({})", Escaped(platform.to_string().as_bytes())),
        None => text,
    }
}

/// A layer as a JSON object.
pub fn layer_json(layer: &LayerRef) -> Value {
    json!({ "number": layer.number, "digest": layer.digest.to_string(), "created_by": layer.created_by })
}

/// What lies at a path, in a line: mode, owner, and what its type has besides.
pub fn resource_text(resource: &Resource) -> String {
    let Resource { mode, uid, gid, size, target, device, .. } = resource;
    let more = match (mode.file_type(), &resource.digest) {
        (FileType::Regular, Some(digest)) => format!(" {size} bytes {digest}"),
        (FileType::Regular, None) => format!(" {size} bytes"),
        (FileType::Symlink, _) => format!(" -> {}", Escaped(target)),
        (FileType::CharDevice | FileType::BlockDevice, _) => format!(" {}, {}", device.0, device.1),
        _ => String::new(),
    };
    format!("{} {mode} {uid}:{gid}{more}", mode.file_type().name())
}

/// The same as a JSON object.
pub fn resource_json(resource: &Resource) -> Value {
    let mut object = json!({
        "type": resource.mode.file_type().name(),
        "mode": resource.mode.to_string(),
        "uid": resource.uid,
        "gid": resource.gid,
    });
    match resource.mode.file_type() {
        FileType::Regular => {
            object["size"] = resource.size.into();
            object["digest"] = resource.digest.map(|digest| digest.to_string()).into();
        }
        FileType::Symlink => object["target"] = lossy(&resource.target).into(),
        FileType::CharDevice | FileType::BlockDevice => {
            object["device"] = json!([resource.device.0, resource.device.1]);
        }
        _ => {}
    }
    object
}

/// Writes a line to standard output.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    writeln!(io::stdout().lock(), "{text}")
        .map_err(|error| Error::new(ErrorKind::Io, "write to standard output").with_source(error))
}
