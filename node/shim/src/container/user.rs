//! Who a process runs as, by the container's own /etc/passwd and /etc/group.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use vetch_shim::protocol::{Identity, User};

use crate::failure::Failure;

#[derive(Debug, PartialEq)]
pub struct Account {
    /// With sorted groups.
    pub ids: Identity,
    pub home: String,
}

/// To be called in the container's root.
pub fn resolve(user: &User) -> Result<Account, Failure> {
    decide(user, &read("/etc/passwd"), &read("/etc/group"))
}

/// Missing files are as good as empty ones; only plain files are read.
fn read(path: &str) -> String {
    let mut text = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::open(Path::new(path), flags, Mode::empty()) {
        let file = File::from(fd);
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let _ = file.take(4 << 20).read_to_end(&mut text);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(Entry {
            name,
            uid,
            gid,
            home,
        })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or("");
        Some(Group { name, gid, members })
    })
}

fn decide(user: &User, passwd: &str, group: &str) -> Result<Account, Failure> {
    let (image_user, image_group) = match user.image.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user.image.as_str(), None),
    };
    let account = match user.uid {
        Some(uid) => accounts(passwd).find(|account| account.uid == uid),
        None if image_user.is_empty() => accounts(passwd).find(|account| account.uid == 0),
        None => accounts(passwd)
            .find(|account| account.name == image_user)
            .or_else(|| {
                let uid = image_user.parse::<u32>().ok()?;
                accounts(passwd).find(|account| account.uid == uid)
            }),
    };
    let uid = match (user.uid, &account) {
        (Some(uid), _) => uid,
        (None, Some(account)) => account.uid,
        (None, None) if image_user.is_empty() => 0,
        (None, None) => image_user.parse().map_err(|_| {
            Failure(format!(
                "unable to find user {image_user}: no matching entries in passwd file"
            ))
        })?,
    };
    // The image's group belongs to the image's user.
    let image_group = image_group.filter(|group| user.uid.is_none() && !group.is_empty());
    let gid = match (user.gid, image_group) {
        (Some(gid), _) => gid,
        (None, Some(name)) => groups(group)
            .find(|group| group.name == name)
            .map(|group| group.gid)
            .or_else(|| name.parse().ok())
            .ok_or_else(|| {
                Failure(format!(
                    "unable to find group {name}: no matching entries in group file"
                ))
            })?,
        (None, None) => account.as_ref().map_or(0, |account| account.gid),
    };
    // Without the first one among them, whoever gives that one up gains what its group is refused
    // (CVE-2022-36109).
    let mut all: Vec<u32> = [gid]
        .into_iter()
        .chain(user.groups.iter().copied())
        .collect();
    if let Some(account) = account.as_ref().filter(|_| !user.only_given_groups) {
        all.extend(
            groups(group)
                .filter(|group| group.members.split(',').any(|name| name == account.name))
                .map(|group| group.gid),
        );
    }
    all.sort_unstable();
    all.dedup();
    let home = account
        .map(|account| account.home)
        .filter(|home| !home.is_empty())
        .unwrap_or("/");
    Ok(Account {
        ids: Identity {
            uid,
            gid,
            groups: all,
        },
        home: home.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\nbad line\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:root,web\nextra:x:41:web\n";

    fn user(image: &str, uid: Option<u32>, gid: Option<u32>, groups: &[u32]) -> User {
        User {
            image: image.into(),
            uid,
            gid,
            groups: groups.into(),
            only_given_groups: false,
        }
    }

    #[test]
    fn strict_groups_are_the_given_ones() {
        let strict = User {
            only_given_groups: true,
            ..user("web", None, None, &[7])
        };
        let identity = decide(&strict, PASSWD, GROUP).unwrap();
        assert_eq!((identity.ids.gid, identity.ids.groups), (34, vec![7, 34]));
    }

    #[test]
    fn who_runs() {
        let table = [
            (user("", None, None, &[]), Ok((0, 0, vec![0, 40], "/root"))),
            (
                user("web", None, None, &[7]),
                Ok((33, 34, vec![7, 34, 40, 41], "/srv")),
            ),
            (
                user("33", None, None, &[]),
                Ok((33, 34, vec![34, 40, 41], "/srv")),
            ),
            (
                user("web:logs", None, None, &[]),
                Ok((33, 40, vec![40, 41], "/srv")),
            ),
            (user("1000", None, None, &[]), Ok((1000, 0, vec![0], "/"))),
            (
                user("1000:1001", None, None, &[]),
                Ok((1000, 1001, vec![1001], "/")),
            ),
            (
                user("web:logs", Some(1000), None, &[]),
                Ok((1000, 0, vec![0], "/")),
            ),
            (
                user("web", None, Some(9), &[]),
                Ok((33, 9, vec![9, 40, 41], "/srv")),
            ),
            (
                user("ghost", None, None, &[]),
                Err("unable to find user ghost"),
            ),
            (
                user("web:ghosts", None, None, &[]),
                Err("unable to find group ghosts"),
            ),
        ];
        for (user, want) in table {
            let got = decide(&user, PASSWD, GROUP);
            match want {
                Ok((uid, gid, groups, home)) => assert_eq!(
                    got.expect("an identity"),
                    Account {
                        ids: Identity { uid, gid, groups },
                        home: home.into()
                    },
                    "{user:?}"
                ),
                Err(words) => {
                    let failure = got.expect_err("no identity").0;
                    assert!(failure.starts_with(words), "{failure}");
                }
            }
        }
        assert_eq!(
            decide(&user("", None, None, &[]), "", "").unwrap().home,
            "/"
        );
    }
}
