use tempfile::TempDir;
use tonic::Code;

use super::*;
use crate::container::tests::plain;

/// Two directories with these files.
struct Files([TempDir; 2]);

impl Files {
    fn new(files: &[(usize, &str, &str)]) -> Files {
        let dirs = [0, 1].map(|_| tempfile::tempdir().unwrap());
        for (dir, name, text) in files {
            fs::write(dirs[*dir].path().join(name), text).unwrap();
        }
        Files(dirs)
    }

    fn add(&self, names: &[&str]) -> Result<ContainerSpec, Status> {
        let mut spec = plain();
        let dirs: Vec<&Path> = self.0.iter().map(TempDir::path).collect();
        add(&mut spec, names, &dirs).map(|()| spec)
    }
}

const YAML: &str = "
cdiVersion: 0.6.0
kind: vendor.example/net
containerEdits:
  env: [COMMON=1]
devices:
  - name: one
    containerEdits:
      env: [DEVICE=one]
      deviceNodes:
        - {path: /dev/own, hostPath: /dev/zero, permissions: r}
        - {path: /dev/null, type: c, major: 1, minor: 3}
      mounts:
        - {hostPath: /usr, containerPath: /opt/driver, options: [ro, rbind]}
      additionalGids: [0, 44]
  - name: two
    containerEdits:
      env: [DEVICE=two]
";

#[test]
fn what_a_device_needs_is_added() {
    let files = Files::new(&[(0, "net.yaml", YAML), (0, "notes.txt", "not one")]);
    let names = ["vendor.example/net=one", "vendor.example/net=two"];
    let spec = files.add(&names).unwrap();
    let env: Vec<String> = spec
        .env
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(env, ["COMMON=1", "DEVICE=one", "DEVICE=two"]);
    let [own, null] = &spec.devices[..] else {
        panic!("{:?}", spec.devices);
    };
    assert_eq!(own.host_path, Path::new("/dev/zero"));
    assert_eq!(own.container_path, Path::new("/dev/own"));
    assert!(own.access.read && !own.access.write && !own.access.make);
    assert_eq!(null.host_path, Path::new("/dev/null"));
    assert!(null.access.read && null.access.write && null.access.make);
    let mount = &spec.mounts[0];
    assert_eq!(mount.host_path(), Some(Path::new("/usr")));
    assert!(mount.readonly);
    assert_eq!(spec.supplemental_groups, [44]);
    // Nobody asks, nothing is read.
    assert_eq!(Files::new(&[]).add(&[]).unwrap(), plain());
}

#[test]
fn the_later_directory_wins() {
    let json = r#"{"cdiVersion": "0.6.0", "kind": "vendor.example/net", "devices": [
        {"name": "one", "containerEdits": {"env": ["DEVICE=other"]}}]}"#;
    let files = Files::new(&[(0, "a.yaml", YAML), (1, "b.json", json)]);
    let spec = files.add(&["vendor.example/net=one"]).unwrap();
    assert_eq!(spec.env, [("DEVICE".to_owned(), "other".to_owned())]);
    let twice = Files::new(&[(1, "a.yaml", YAML), (1, "b.json", json)]);
    let refused = twice.add(&["vendor.example/net=one"]).unwrap_err();
    assert!(refused.message().contains("b.json"), "{refused}");
    // The other one is in one of them alone.
    assert!(twice.add(&["vendor.example/net=two"]).is_ok());
}

#[test]
fn what_is_not_known_or_not_done_is_refused() {
    let one = |edits: &str| {
        let text = format!("kind: v/c\ndevices: [{{name: d, containerEdits: {edits}}}]\n");
        Files::new(&[(0, "v.yaml", &text)]).add(&["v/c=d"])
    };
    assert!(one("{}").is_ok());
    for (edits, words, code) in [
        (
            "{hooks: [{hookName: createContainer, path: /h}]}",
            "with hooks",
            Code::Unimplemented,
        ),
        ("{netDevices: [{}]}", "with netDevices", Code::Unimplemented),
        ("{intelRdt: {}}", "with intelRdt", Code::Unimplemented),
        (
            "{mounts: [{hostPath: /a, containerPath: /b, options: [noexec]}]}",
            "\"noexec\"",
            Code::Unimplemented,
        ),
        (
            "{mounts: [{hostPath: t, containerPath: /b, type: tmpfs}]}",
            "\"tmpfs\"",
            Code::Unimplemented,
        ),
        (
            "{deviceNodes: [{path: /dev/null, minor: 7, major: 1}]}",
            "another number",
            Code::Unimplemented,
        ),
        (
            "{deviceNodes: [{path: /dev/null, type: b}]}",
            "another type",
            Code::Unimplemented,
        ),
        (
            "{deviceNodes: [{path: /dev/null, uid: 77}]}",
            "another owner",
            Code::Unimplemented,
        ),
        (
            "{deviceNodes: [{path: /dev/null, permissions: x}]}",
            "permissions",
            Code::InvalidArgument,
        ),
        ("{env: [NOTHING]}", "has no =", Code::InvalidArgument),
        // A file with what nobody knows is not read.
        ("{magic: 1}", "no file in", Code::InvalidArgument),
    ] {
        let refused = one(edits).unwrap_err();
        assert_eq!(refused.code(), code, "{edits}: {refused}");
        assert!(refused.message().contains(words), "{edits}: {refused}");
    }
    let files = Files::new(&[(0, "net.yaml", YAML)]);
    for name in ["vendor.example/net=three", "other/net=one", "net", "v/c="] {
        let refused = files.add(&[name]).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
    }
}
