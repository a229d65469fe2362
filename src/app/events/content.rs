//! Large content beside the log.

use bytes::Bytes;

use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::base::id::SessionId;
use crate::base::{Error, Result};
use crate::domain::content::{CONTENT_CHUNK_BYTES, is_sha256};
use crate::store::Stream;

impl App {
    /// Whether a session refers to content, and its size. NOT_FOUND if it does not.
    pub async fn find_content(&self, caller: &Caller, id: SessionId, sha256: &str) -> Result<u64> {
        if !is_sha256(sha256) {
            return Err(Error::invalid(
                "sha256",
                "must be 64 lower-case hexadecimal digits",
            ));
        }
        self.get_session(caller, id).await?;
        let missing = || Error::not_found("content", sha256);
        let refers = self
            .store()
            .refers(&Stream::session(id), sha256)
            .await
            .map_err(failure::from_store)?;
        if !refers {
            return Err(missing());
        }
        self.store()
            .size(sha256)
            .await
            .map_err(failure::from_store)?
            .ok_or_else(missing)
    }

    /// The next piece of content from `offset`; empty at the end. For whoever was given it by
    /// [`App::find_content`].
    pub async fn read_content(&self, sha256: &str, offset: u64) -> Result<Bytes> {
        self.store()
            .read_content(sha256, offset, CONTENT_CHUNK_BYTES)
            .await
            .map_err(failure::from_store)
    }
}
