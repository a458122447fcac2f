//! What a run leaves: report.html, report.json, and its verdicts on the terminal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use vetch_bench_record::Report;

/// JSON words: what people typed, where another program ran this one.
const COMMAND: &str = "VETCH_BENCH_COMMAND";
/// What it was built of, as git describes it.
const COMMIT: &str = "VETCH_BENCH_COMMIT";

/// Both files, each whole or as it was. Returns the page's path.
pub fn write(dir: &Path, report: &Report) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let data = serde_json::to_string_pretty(report)? + "\n";
    let page = dir.join("report.html");
    for (path, text) in [
        (dir.join("report.json"), data),
        (page.clone(), vetch_bench_report::page(report)),
    ] {
        replace(&path, &text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(page)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("tmp");
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

/// The sentences of the page, and where the rest is.
pub fn summary(report: &Report, page: &Path) {
    println!();
    for verdict in vetch_bench_report::verdicts(report) {
        println!("{}", verdict.sentence);
    }
    for skipped in &report.skipped {
        println!("not measured: {}: {}", skipped.what, skipped.why);
    }
    println!("\n{}", page.display());
}

pub fn tool() -> String {
    let version = concat!("vetch-bench ", env!("CARGO_PKG_VERSION"));
    match std::env::var(COMMIT) {
        Ok(commit) if !commit.is_empty() => format!("{version} ({commit})"),
        _ => version.to_owned(),
    }
}

pub fn command() -> Vec<String> {
    std::env::var(COMMAND)
        .ok()
        .and_then(|words| serde_json::from_str(&words).ok())
        .unwrap_or_else(|| {
            std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        for text in ["one", "another one"] {
            replace(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
