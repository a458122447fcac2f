//! Chromium by its DevTools protocol, over the pipe it offers: JSON with a zero after each.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

pub struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    stderr: ChildStderr,
    next: u64,
    session: Option<String>,
    events: VecDeque<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// With one blank page.
    pub fn start() -> Result<Browser> {
        let profile = tempfile::tempdir()?;
        // Chromium reads commands from descriptor 3 and answers on 4; the shell puts our pipes there.
        let script = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
        let mut child = Command::new("sh")
            .args([
                "-c",
                script,
                "sh",
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
            ])
            // It has nothing to ask anybody.
            .args([
                "--disable-background-networking",
                "--host-resolver-rules=MAP * ~NOTFOUND",
            ])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(commands), Some(answers), Some(stderr)) = taken else {
            bail!("the child has no pipes");
        };
        let mut browser = Browser {
            child,
            commands,
            answers: BufReader::new(answers),
            stderr,
            next: 0,
            session: None,
            events: VecDeque::new(),
            _profile: profile,
        };
        browser.attach()?;
        Ok(browser)
    }

    fn attach(&mut self) -> Result<()> {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let answer = self.call("Target.attachToTarget", attach)?;
        self.session = answer["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(())
    }

    pub fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut text = message.to_string().into_bytes();
        text.push(0);
        self.commands
            .write_all(&text)
            .context("write to chromium")?;
        loop {
            let answer = self.read()?;
            if answer["id"] != id {
                self.events.push_back(answer);
            } else if answer["error"].is_object() {
                bail!("chromium refused {method}: {}", answer["error"]);
            } else {
                return Ok(answer["result"].clone());
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut text = Vec::new();
        self.answers.read_until(0, &mut text)?;
        if text.pop() != Some(0) {
            let mut why = String::new();
            self.stderr.read_to_string(&mut why)?;
            bail!("chromium ended: {why}");
        }
        Ok(serde_json::from_slice(&text)?)
    }

    /// Of the page, as one value.
    pub fn evaluate(&mut self, script: &str) -> Result<Value> {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params)?;
        if answer["exceptionDetails"].is_object() {
            bail!("the script failed: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Opens a file and waits until it is drawn.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.events.clear();
        let answer = self.call("Page.navigate", json!({"url": url}))?;
        if let Some(error) = answer["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            let event = self.read()?;
            self.events.push_back(event);
        }
        Ok(())
    }

    /// A screen of this width, light or dark.
    pub fn emulate(&mut self, width: u32, scheme: &str) -> Result<()> {
        let metrics =
            json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}))?;
        Ok(())
    }

    /// PNGs of the page in base64, one a `height` of it.
    pub fn pictures(&mut self, width: u32, height: u32) -> Result<Vec<String>> {
        let whole = self.evaluate("document.documentElement.scrollHeight")?;
        let whole = whole.as_u64().unwrap_or_default();
        let mut pictures = Vec::new();
        for top in (0..whole).step_by(height as usize) {
            let clip = json!({"x": 0, "y": top, "width": width, "height": height, "scale": 1});
            let params = json!({"captureBeyondViewport": true, "format": "png", "clip": clip});
            let answer = self.call("Page.captureScreenshot", params)?;
            pictures.push(answer["data"].as_str().unwrap_or_default().to_owned());
        }
        Ok(pictures)
    }

    /// What the page complained of since it was opened, and what it asked the network for.
    pub fn complaints(&self) -> Vec<&Value> {
        let is_one = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded") => true,
            Some("Network.requestWillBeSent") => {
                let url = event["params"]["request"]["url"]
                    .as_str()
                    .unwrap_or_default();
                !url.starts_with("file:") && !url.starts_with("data:")
            }
            _ => false,
        };
        self.events.iter().filter(is_one).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        // It ends its own children; a kill would leave them.
        if self.call("Browser.close", json!({})).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
