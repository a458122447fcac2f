//! Container logs: the lines are the library's, the file is the supervisor's.

mod file;

pub use file::LogFile;
