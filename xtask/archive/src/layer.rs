//! A tar of files that belong to root and have no time.

use std::io;

pub struct Layer {
    tar: tar::Builder<Vec<u8>>,
}

impl Default for Layer {
    fn default() -> Layer {
        Layer::new()
    }
}

impl Layer {
    pub fn new() -> Layer {
        Layer {
            tar: tar::Builder::new(Vec::new()),
        }
    }

    pub fn directory(&mut self, name: &str, mode: u32) -> io::Result<()> {
        let mut header = header(0, mode);
        header.set_entry_type(tar::EntryType::Directory);
        self.tar
            .append_data(&mut header, format!("{name}/"), io::empty())
    }

    pub fn file(&mut self, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
        self.tar
            .append_data(&mut header(content.len() as u64, mode), name, content)
    }

    pub fn link(&mut self, name: &str, target: &str) -> io::Result<()> {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        self.tar.append_link(&mut header, name, target)
    }

    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.tar.into_inner()
    }
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
