//! Compressed payloads, known by their magic bytes.

use std::io::Read;

use bytes::Bytes;
use loushan_schemas::limits::PAYLOAD_BYTES;
use loushan_schemas::reject::RejectReason;

const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// The window a zstd frame may ask for, as a power of two: 8 MiB, which RFC 8878 (section 3.1.1.1.2)
/// recommends that decoders support. Without it a frame of a few bytes could ask for 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// What a compressed payload holds; `None` when it is not compressed. What comes out is never
/// decompressed a second time.
///
/// # Errors
/// Broken compression, or more than [`PAYLOAD_BYTES`] inside. At most one byte more than that is
/// ever decompressed, however much a bomb promises.
pub(super) fn inflate(payload: &Bytes) -> Result<Option<Bytes>, RejectReason> {
    if payload.starts_with(ZSTD_MAGIC) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(payload.as_ref())
            .map_err(|_| RejectReason::BadCompression)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| RejectReason::BadCompression)?;
        read_capped(decoder).map(Some)
    } else if payload.starts_with(GZIP_MAGIC) {
        // The multi-member decoder, as the plain one silently leaves what follows the first member.
        read_capped(flate2::bufread::MultiGzDecoder::new(payload.as_ref())).map(Some)
    } else {
        Ok(None)
    }
}

fn read_capped(decoder: impl Read) -> Result<Bytes, RejectReason> {
    let mut out = Vec::new();
    let cap = u64::try_from(PAYLOAD_BYTES + 1).unwrap_or(u64::MAX);
    decoder.take(cap).read_to_end(&mut out).map_err(|_| RejectReason::BadCompression)?;
    if out.len() > PAYLOAD_BYTES {
        return Err(RejectReason::PayloadTooLarge);
    }
    Ok(Bytes::from(out))
}
