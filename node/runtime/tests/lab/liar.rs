//! A registry that answers what a test wants it to, true or not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::image::{Image, digest};
use crate::registry::MANIFEST;

/// To a GET of a path.
#[derive(Clone)]
pub struct Answer {
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

#[derive(Clone)]
pub enum Body {
    Whole(Vec<u8>),
    /// These over and over, for as long as somebody reads.
    Endless(Vec<u8>),
    /// Announced whole, and never sent to the end.
    Stuck(Vec<u8>),
    /// Announced whole, and broken off after so many bytes; the rest is for who asks for it. Without
    /// ranges every answer begins at the beginning, and is as much longer than the one before.
    Torn {
        bytes: Vec<u8>,
        after: usize,
        ranges: bool,
    },
}

pub fn ok(body: Body) -> Answer {
    Answer {
        status: "200 OK",
        headers: Vec::new(),
        body,
    }
}

pub struct Liar {
    /// `127.0.0.1:port`
    pub address: String,
    /// The paths that were asked for, with their queries.
    pub asked: Arc<Mutex<Vec<String>>>,
    /// Whom clients said they were, in small letters.
    pub shown: Arc<Mutex<Vec<String>>>,
    done: Arc<AtomicBool>,
}

impl Liar {
    /// Paths are without `/v2/it/`; of others it says that there is nothing.
    pub fn start(answers: BTreeMap<String, Answer>) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let done = Arc::new(AtomicBool::new(false));
        let (answers, ended) = (Arc::new(answers), done.clone());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::new(Mutex::new(Vec::new()));
        let heard = (asked.clone(), shown.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (answers, (asked, shown)) = (answers.clone(), heard.clone());
                // A client that has heard enough goes away in the middle.
                std::thread::spawn(move || serve(stream.unwrap(), &answers, &asked, &shown).ok());
            }
        });
        Liar {
            address,
            asked,
            shown,
            done,
        }
    }

    pub fn name(&self, tag: &str) -> String {
        format!("{}/it:{tag}", self.address)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &BTreeMap<String, Answer>,
    asked: &Mutex<Vec<String>>,
    shown: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut from = None;
    for line in lines.by_ref() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse::<usize>().ok();
        }
        if let Some(who) = line.strip_prefix("authorization: ") {
            shown.lock().unwrap().push(who.to_owned());
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let times = {
        let mut asked = asked.lock().unwrap();
        asked.push(path.to_owned());
        asked.iter().filter(|asked| *asked == path).count()
    };
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/v2/it/").unwrap_or(path);
    let nothing = Answer {
        status: "404 Not Found",
        headers: Vec::new(),
        body: Body::Whole(Vec::new()),
    };
    let answer = answers.get(path).unwrap_or(&nothing);
    let from = from.filter(|_| matches!(answer.body, Body::Torn { ranges: true, .. }));
    let status = if from.is_some() {
        "206 Partial Content"
    } else {
        answer.status
    };
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    match &answer.body {
        Body::Whole(bytes) => {
            write!(stream, "Content-Length: {}\r\n\r\n", bytes.len())?;
            stream.write_all(bytes)
        }
        Body::Endless(bytes) => {
            stream.write_all(b"\r\n")?;
            loop {
                stream.write_all(bytes)?;
            }
        }
        Body::Torn {
            bytes,
            after,
            ranges,
        } => {
            let rest = &bytes[from.unwrap_or(0)..];
            let after = if *ranges { *after } else { after * times };
            write!(stream, "Content-Length: {}\r\n\r\n", rest.len())?;
            stream.write_all(&rest[..rest.len().min(after)])
        }
        Body::Stuck(bytes) => {
            write!(stream, "Content-Length: {}\r\n\r\n", bytes.len() + 1)?;
            stream.write_all(bytes)?;
            // Until the client goes.
            stream.read(&mut [0]).map(drop)
        }
    }
}

/// What an honest registry would answer of an image with one layer, as `it:1`.
pub struct Honest {
    pub manifest: serde_json::Value,
    pub answers: BTreeMap<String, Answer>,
    pub layer: String,
    pub config: String,
}

pub fn honest(image: &Image, layer: Vec<u8>) -> Honest {
    let (config_name, layer_name) = (digest(&image.config), digest(&layer));
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"digest": config_name, "size": image.config.len()},
        "layers": [{"digest": layer_name, "size": layer.len()}],
    });
    let mut it = Honest {
        answers: BTreeMap::new(),
        layer: format!("blobs/{layer_name}"),
        config: format!("blobs/{config_name}"),
        manifest: manifest.clone(),
    };
    it.put("manifests/1", Body::Whole(manifest.to_string().into()));
    it.put(&it.config.clone(), Body::Whole(image.config.clone()));
    it.put(&it.layer.clone(), Body::Whole(layer));
    it
}

impl Honest {
    pub fn put(&mut self, path: &str, body: Body) {
        self.answers.insert(path.to_owned(), ok(body));
    }

    /// Another manifest than its own.
    pub fn describe(&mut self, manifest: &serde_json::Value) {
        self.put("manifests/1", Body::Whole(manifest.to_string().into()));
    }
}
