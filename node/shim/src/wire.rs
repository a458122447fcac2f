//! Frames on the supervisor's socket: a little-endian u32 length, then JSON.
//!
//! Descriptors travel as SCM_RIGHTS with the first byte of the frame that
//! needs them.

use serde::{Serialize, de::DeserializeOwned};

/// Requests are small: what is large (a container's bundle) is a file.
pub const MAX_FRAME: usize = 4 << 20;

#[derive(Debug)]
pub enum WireError {
    TooLong(usize),
    Json(serde_json::Error),
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::TooLong(length) => write!(f, "frame of {length} bytes is over {MAX_FRAME}"),
            WireError::Json(error) => write!(f, "frame is not what was expected: {error}"),
        }
    }
}

impl std::error::Error for WireError {}

pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let mut out = vec![0; 4];
    serde_json::to_writer(&mut out, message).map_err(WireError::Json)?;
    let length = out.len() - 4;
    if length > MAX_FRAME {
        return Err(WireError::TooLong(length));
    }
    let prefix = u32::try_from(length).map_err(|_| WireError::TooLong(length))?;
    out[..4].copy_from_slice(&prefix.to_le_bytes());
    Ok(out)
}

/// Takes the first whole frame off `buffer`; `None` when more bytes are needed.
pub fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, WireError> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > MAX_FRAME {
        return Err(WireError::TooLong(length));
    }
    let Some(body) = buffer.get(4..4 + length) else {
        return Ok(None);
    };
    let message = serde_json::from_slice(body).map_err(WireError::Json)?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_however_they_are_cut() {
        let mut wire = encode(&"one").unwrap();
        wire.extend(encode(&"two").unwrap());
        for cut in 0..wire.len() {
            let mut buffer = wire[..cut].to_vec();
            let mut seen = Vec::new();
            while let Some(word) = decode::<String>(&mut buffer).unwrap() {
                seen.push(word);
            }
            buffer.extend_from_slice(&wire[cut..]);
            while let Some(word) = decode::<String>(&mut buffer).unwrap() {
                seen.push(word);
            }
            assert_eq!(seen, ["one", "two"], "cut at {cut}");
        }
    }

    #[test]
    fn an_absurd_length_is_refused_before_it_is_read() {
        let mut buffer = u32::MAX.to_le_bytes().to_vec();
        assert!(matches!(
            decode::<String>(&mut buffer),
            Err(WireError::TooLong(_))
        ));
    }
}
