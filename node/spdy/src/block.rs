//! Names and values, as they stand in a block before it is compressed (2.6.10).

/// In the order they came in; names are lower case, not empty, and each is there once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

/// More are refused: each is compared with those before it.
const MOST: u32 = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("it has {0} headers, {MOST} are taken")]
    Many(u32),
    #[error("it ends within a header")]
    Short,
    #[error("it has {0} bytes behind its headers")]
    Long(usize),
    #[error("it has a name that is empty, not lower case, or there twice")]
    Name,
    #[error("it has a name or value that is not UTF-8")]
    Text,
}

impl Headers {
    pub fn new<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Headers {
        let pairs = pairs.into_iter();
        Headers(pairs.map(|(n, v)| (n.into(), v.into())).collect())
    }

    /// The first of a header's values, which a NUL divides. `name` in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        value.split('\0').next()
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut block = Vec::new();
        put_length(&mut block, self.0.len());
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            put_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
        block
    }

    pub(crate) fn read(mut block: &[u8]) -> Result<Headers, BlockError> {
        let block = &mut block;
        let mut headers = Headers::default();
        let count = take_length(block)?;
        if count > MOST {
            return Err(BlockError::Many(count));
        }
        for _ in 0..count {
            let (name, value) = (take_text(block)?, take_text(block)?);
            let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
            if name.is_empty() || !lower || headers.get(&name).is_some() {
                return Err(BlockError::Name);
            }
            headers.0.push((name, value));
        }
        match block.len() {
            0 => Ok(headers),
            more => Err(BlockError::Long(more)),
        }
    }
}

fn put_length(block: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    block.extend_from_slice(&length.to_be_bytes());
}

fn take_length(block: &mut &[u8]) -> Result<u32, BlockError> {
    let (length, rest) = block.split_first_chunk().ok_or(BlockError::Short)?;
    *block = rest;
    Ok(u32::from_be_bytes(*length))
}

fn take_text(block: &mut &[u8]) -> Result<String, BlockError> {
    let length = take_length(block)?;
    let length = usize::try_from(length).map_err(|_| BlockError::Short)?;
    let (text, rest) = block.split_at_checked(length).ok_or(BlockError::Short)?;
    *block = rest;
    let text = str::from_utf8(text).map_err(|_| BlockError::Text)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
