//! What holds for any bytes: run by `node/fuzz`, and by a short random test in the suite.

use crate::protocol::Request;
use crate::wire::{MAX_FRAME, decode, encode};

/// What comes on the supervisor's socket is taken frame by frame or refused, however it is cut, and
/// a request that was understood is the same after a journey of its own.
pub fn fuzz_wire(data: &[u8]) {
    let whole = requests(&[data]);
    let middle = data.len() / 2;
    assert_eq!(whole, requests(&[&data[..middle], &data[middle..]]));
    for text in &whole {
        // A frame that came, and one that says the same.
        let request: Request = serde_json::from_str(text).expect("what was encoded");
        let mut frame = encode(&request).expect("no longer than the one that came");
        assert!(frame.len() <= MAX_FRAME + 4);
        let again: Option<Request> = decode(&mut frame).expect("what was encoded");
        assert_eq!(&serde_json::to_string(&again).expect("a request"), text);
        assert!(frame.is_empty());
    }
}

/// Those before the first that is none, as JSON.
fn requests(parts: &[&[u8]]) -> Vec<String> {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            let before = buffer.len();
            match decode::<Request>(&mut buffer) {
                Ok(Some(request)) => {
                    assert!(buffer.len() + 4 <= before, "a frame was taken off");
                    found.push(serde_json::to_string(&request).expect("a request"));
                }
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::Rng as _;

    use super::*;
    use crate::testing::with_seeds;

    #[test]
    fn any_bytes_on_the_socket() {
        let texts = [
            r#""State""#,
            r#"{"Start":{"container":"a"}}"#,
            r#"{"Kill":{"container":"a","signal":9,"all":true}}"#,
            r#"{"Exec":{"container":"a","args":["b"],"env":[["c","d"]],"tty":false}}"#,
            "null",
            "[]",
        ];
        let frame = |text: &str| {
            let length = u32::try_from(text.len()).unwrap().to_le_bytes();
            [&length[..], text.as_bytes()].concat()
        };
        for text in &texts[..4] {
            assert_eq!(requests(&[&frame(text)]), [*text]);
        }
        with_seeds(Duration::from_millis(500), |random| {
            let mut data = Vec::new();
            for _ in 0..random.random_range(0..4) {
                data.extend(frame(texts[random.random_range(0..texts.len())]));
            }
            for _ in 0..random.random_range(0..4) {
                if !data.is_empty() {
                    let at = random.random_range(0..data.len());
                    data[at] = random.random();
                }
            }
            fuzz_wire(&data);
        });
    }
}
