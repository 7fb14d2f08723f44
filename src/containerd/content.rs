// SPDX-License-Identifier: Apache-2.0
//! Blobs.

use std::collections::BTreeMap;
use std::io::{self, Read};

use prost::bytes::{Buf, Bytes};
use tonic::Streaming;

use super::client::{Client, MAX_MESSAGE};
use super::proto::services::content::v1::content_client::ContentClient;
use super::proto::services::content::v1::{InfoRequest, ReadContentRequest, ReadContentResponse};
use super::records::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// The bytes of one blob, unchecked.
pub struct ContentReader<'a> {
    client: &'a Client,
    stream: Streaming<ReadContentResponse>,
    /// Received and not yet read.
    rest: Bytes,
    what: String,
}

impl Client {
    /// Labels of a blob; none if it is not there.
    pub fn content_labels(&self, digest: &Digest) -> Result<Option<BTreeMap<String, String>>> {
        let mut client = ContentClient::new(self.channel.clone());
        let request = self.request(InfoRequest { digest: digest.to_string() });
        match self.call(&blob_name(digest), client.info(request)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            info => Ok(Some(info?.info.unwrap_or_default().labels.into_iter().collect())),
        }
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_content(&self, digest: &Digest) -> Result<ContentReader<'_>> {
        let mut client = ContentClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let what = blob_name(digest);
        let request = self.request(ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 });
        let mut stream = self.call(&what, client.read(request))?;
        // A blob that is not there is told with the first message, not with the call.
        let first = self.drive(&what, stream.message())?;
        let rest = first.map(|message| Bytes::from(message.data)).unwrap_or_default();
        Ok(ContentReader { client: self, stream, rest, what })
    }

    /// A small blob, whole, checked against its digest.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` if it is larger than `max` bytes; `Corrupt` if it has another digest.
    pub fn blob(&self, descriptor: &Descriptor, max: u64) -> Result<Vec<u8>> {
        let wrong = |kind, why: String| Error::new(kind, format!("{}: {why}", blob_name(&descriptor.digest)));
        let mut content = Vec::new();
        let reader = self.read_content(&descriptor.digest)?;
        let failed = |error| Error::new(ErrorKind::Io, blob_name(&descriptor.digest)).with_source(error);
        reader.take(max.saturating_add(1)).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > max {
            return Err(wrong(ErrorKind::InvalidInput, format!("more than {max} bytes")));
        }
        match Digest::of(&content) {
            found if found == descriptor.digest => Ok(content),
            found => Err(wrong(ErrorKind::Corrupt, format!("its content is {found}: the content store is damaged"))),
        }
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.client.drive(&self.what, self.stream.message()).map_err(io::Error::other)? {
                Some(message) => self.rest = message.data.into(),
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blob {digest}")
}
