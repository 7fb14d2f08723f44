// SPDX-License-Identifier: Apache-2.0
//! What a container's OCI runtime specification has its runtime make before the container starts.

use super::json::{self, List, Text, document};

document!(Spec { "mounts" => mounts: List<SpecMount>, "process" => process: Process });
document!(SpecMount { "destination" => destination: Text });
document!(Process { "cwd" => cwd: Text });

/// The part of a runtime specification that leaves traces in the root filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeSpec {
    /// Where something is mounted, and the working directory: made if the image lacks them. As they are written.
    pub places: Vec<String>,
}

impl RuntimeSpec {
    /// Empty for what is not such a specification.
    pub(super) fn of(json: &[u8]) -> Self {
        let spec: Spec = json::parse(json).unwrap_or_default();
        let mounts = json::elements(spec.mounts).filter_map(|mount| mount.destination);
        let cwd = spec.process.and_then(|process| process.cwd);
        Self { places: mounts.chain(cwd).map(|Text(place)| place).filter(|place| !place.is_empty()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_and_the_working_directory_are_places() {
        let spec = br#"{"ociVersion":"1.0.2","process":{"cwd":"/work","args":["sh"]},"mounts":[
            {"destination":"/proc","type":"proc","source":"proc"},{"destination":"/etc/resolv.conf","type":"bind"},{}]}"#;
        assert_eq!(RuntimeSpec::of(spec).places, ["/proc", "/etc/resolv.conf", "/work"]);
        for other in [&b""[..], b"{}", b"null", b"\x08\x01", br#"{"mounts":7}"#] {
            assert_eq!(RuntimeSpec::of(other), RuntimeSpec::default());
        }
    }
}
